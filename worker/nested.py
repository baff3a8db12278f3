"""Run a whole method as one stage of a longer job: a repeat with another seed, a step of a chain."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from app.domain.models import VersionManifest
from app.domain.stats import Comparison
from worker.assignment import Assignment, VersionInput
from worker.context import Context, Reporter
from worker.package import Product
from worker.stages import Codec, Stages

Method = Callable[[Assignment, Context], Product]
PRODUCT = "product.json"


def run_nested(stages: Stages, name: str, method: Method, assignment: Assignment, context: Context) -> Product:
    """Run a method as the stage `name`, with directories of its own; its product is kept when the job is interrupted.

    The assignment may have another spec, seed or references than the job's; the product lies below the job's output.
    """
    inner = assignment.model_copy(
        update={"scratch": context.scratch / "nested" / name, "output": context.output / "nested" / name}
    )

    def work(reporter: Reporter, resume: Path | None) -> Product:
        for directory in (inner.scratch, inner.output):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
        return method(inner, Context(reporter, inner.scratch, inner.output, inner.seed, resume))

    return stages.run(name, work, _product_codec(inner.output))


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
    report: dict[str, Any] = orjson.loads((product.directory / "report.json").read_bytes())
    return report


def _product_codec(output: Path) -> Codec[Product]:
    """Keep a product with its files; they come back below `output`, from where products are handed over."""

    def save(product: Product, directory: Path) -> None:
        shutil.copytree(product.directory, directory / "files")
        kept = {
            "name_hint": product.name_hint,
            "kind": product.kind,
            "directory": product.directory.name,
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
