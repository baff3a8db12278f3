"""Run a whole method as one stage of a longer job: a repeat with another seed, a step of a chain."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import orjson

from app.domain.models import VersionManifest
from app.domain.stats import Comparison
from worker.assignment import Assignment, VersionInput
from worker.context import Context, Reporter
from worker.package import REPORT, Product
from worker.stages import Codec, Stages

Method = Callable[[Assignment, Context], Product]
WholeJob = Callable[[Assignment, Context], list[Product]]
Outcome = TypeVar("Outcome")
PRODUCT = "product.json"


def run_nested(stages: Stages, name: str, method: Method, assignment: Assignment, context: Context) -> Product:
    """Run a method as the stage `name`, with directories of its own; its product is kept when the job is interrupted.

    The assignment may have another spec, seed or references than the job's; the product lies below the job's output.
    """
    inner = _inner(name, assignment, context)
    return stages.run(name, _work(method, inner), _product_codec(inner.output))


def run_all_nested(stages: Stages, name: str, job: WholeJob, assignment: Assignment, context: Context) -> list[Product]:
    """Run a whole job with all its products as one stage, as `run_nested` does."""
    inner = _inner(name, assignment, context)
    return stages.run(name, _work(job, inner), _products_codec(inner.output))


def run_for_report(
    stages: Stages, name: str, job: WholeJob, assignment: Assignment, context: Context
) -> dict[str, Any]:
    """Run a whole job as one stage of which nothing is kept but its last product's report."""
    inner = _inner(name, assignment, context)

    def report(own: Assignment, nested: Context) -> dict[str, Any]:
        found = report_of(job(own, nested)[-1])
        for directory in (own.scratch, own.output):
            shutil.rmtree(directory)
        return found

    return stages.run(name, _work(report, inner), _report_codec)


def _inner(name: str, assignment: Assignment, context: Context) -> Assignment:
    """Return the assignment with directories of its own below the job's."""
    return assignment.model_copy(
        update={"scratch": context.scratch / "nested" / name, "output": context.output / "nested" / name}
    )


def _work(
    method: Callable[[Assignment, Context], Outcome], inner: Assignment
) -> Callable[[Reporter, Path | None], Outcome]:
    def work(reporter: Reporter, resume: Path | None) -> Outcome:
        for directory in (inner.scratch, inner.output):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
        return method(inner, Context(reporter, inner.scratch, inner.output, inner.seed, resume))

    return work


def version_of(product: Product, *, recipe: dict[str, Any], name: str) -> VersionInput:
    """Return an unregistered product as a version that the next method may start from."""
    return VersionInput(
        version_id="",
        name=name,
        version=0,
        digest=product.manifest.digest,
        manifest=product.manifest,
        files={file: product.directory / file for file in product.manifest.files},
        training_recipe=recipe,
    )


def report_of(product: Product) -> dict[str, Any]:
    """Return what was measured on a product."""
    return _load_report(product.directory)


def _save_report(report: dict[str, Any], directory: Path) -> None:
    (directory / REPORT).write_bytes(orjson.dumps(report))


def _load_report(directory: Path) -> dict[str, Any]:
    report: dict[str, Any] = orjson.loads((directory / REPORT).read_bytes())
    return report


_report_codec: Codec[dict[str, Any]] = Codec(_save_report, _load_report)


def _products_codec(output: Path) -> Codec[list[Product]]:
    """Keep several products in order."""
    one = _product_codec(output)

    def save(products: list[Product], directory: Path) -> None:
        for place, product in enumerate(products):
            (directory / f"{place:03}").mkdir()
            one.save(product, directory / f"{place:03}")

    def load(directory: Path) -> list[Product]:
        return [one.load(path) for path in sorted(directory.iterdir())]

    return Codec(save, load)


def _product_codec(output: Path) -> Codec[Product]:
    """Keep a product with its files; they come back below `output`, from where products are handed over."""

    def save(product: Product, directory: Path) -> None:
        shutil.copytree(product.directory, directory / "files")
        kept = {
            "name_hint": product.name_hint,
            "kind": product.kind,
            "directory": product.directory.relative_to(output).as_posix(),
            "manifest": product.manifest.model_dump(mode="json"),
            "comparisons": [asdict(comparison) for comparison in product.comparisons],
        }
        (directory / PRODUCT).write_bytes(orjson.dumps(kept))

    def load(directory: Path) -> Product:
        kept = orjson.loads((directory / PRODUCT).read_bytes())
        target = output / kept["directory"]
        if not target.is_dir():
            shutil.copytree(directory / "files", target)
        comparisons = tuple(
            Comparison(**{**comparison, "interval": tuple(comparison["interval"])})
            for comparison in kept["comparisons"]
        )
        manifest = VersionManifest.model_validate(kept["manifest"])
        return Product(kept["name_hint"], kept["kind"], target, manifest, comparisons)

    return Codec(save, load)
