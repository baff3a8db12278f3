"""Run jobs on arrays: data sets on disk, assignments, and what a finished job leaves for the next."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from sklearn.datasets import load_digits

from app.domain.datasets import ROW_SETS, DatasetSchema, RowSet, Statistics
from app.domain.specs import job_spec_adapter
from tests.worker.fakes import FakeReporter
from worker.assignment import Assignment, DatasetInput, Limits, VersionInput
from worker.context import Context, StopReason
from worker.methods import run
from worker.package import Product

DIGITS = "digits"


def write_dataset(
    directory: Path,
    schema: dict[str, Any],
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    weights: Mapping[RowSet, np.ndarray] | None = None,
    groups: np.ndarray | None = None,
    order: np.ndarray | None = None,
) -> DatasetInput:
    """Write row sets {name: (x, y)}, and perhaps weights, groups and times, as the data set service does."""
    directory.mkdir(parents=True)
    files = {}
    for name in ROW_SETS:
        x, y = parts[name]
        rows = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in x]
        hashes = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16)
        for kind, array in (("x", x), ("y", y), ("hash", hashes)):
            files[f"{name}_{kind}"] = directory / f"{name}_{kind}.npy"
            np.save(files[f"{name}_{kind}"], array, allow_pickle=False)
        if weights is not None:
            files[f"{name}_weight"] = directory / f"{name}_weight.npy"
            np.save(files[f"{name}_weight"], weights[name].astype(np.float32), allow_pickle=False)
    of_train = {kind: ranks for kind, ranks in (("group", groups), ("order", order)) if ranks is not None}
    for kind, ranks in of_train.items():
        files[f"train_{kind}"] = directory / f"train_{kind}.npy"
        np.save(files[f"train_{kind}"], ranks.astype(np.int64), allow_pickle=False)
    train = parts["train"][0].astype(np.float64)
    axes = tuple(range(train.ndim - 1))
    return DatasetInput(
        name=DIGITS,
        digest="d" * 64,
        dataset_schema=DatasetSchema(
            **schema,
            rows={name: len(parts[name][1]) for name in ROW_SETS},
            row_weights=weights is not None,
            train_groups=len(np.unique(of_train.get("group", ()))),
            train_times=len(np.unique(of_train.get("order", ()))),
        ),
        statistics=Statistics(mean=tuple(train.mean(axis=axes)), deviation=tuple(train.std(axis=axes))),
        files=files,
    )


def digits(directory: Path, *, train: int = 1000, permuted: bool = False) -> DatasetInput:
    """Write scikit-learn's digits: 8x8 grey images, 1797 real handwritten figures, duplicates in one set."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x, y = images[order].astype(np.uint8).reshape(-1, 8, 8, 1), labels[order].astype(np.int64)
    if permuted:
        y = np.random.default_rng(1).permutation(y)
    bounds = {"train": slice(0, train), "selection": slice(1000, 1300), "report": slice(1300, None)}
    schema = {"features": "image", "shape": (8, 8, 1), "dtype": "uint8", "classes": tuple("0123456789")}
    return write_dataset(directory, schema, {name: (x[part], y[part]) for name, part in bounds.items()})


def wave(directory: Path) -> DatasetInput:
    """Write a table whose target is a smooth function of its columns."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (900, 3)).astype(np.float32)
    y = (np.sin(x[:, :1]) * 2 + x[:, 1:2] * x[:, 2:] + rng.normal(size=(900, 1)) * 0.1).astype(np.float32)
    bounds = {"train": slice(0, 500), "selection": slice(500, 650), "report": slice(650, None)}
    schema = {"features": "table", "shape": (3,), "dtype": "float32", "task": "regression"}
    return write_dataset(directory, schema, {name: (x[part], y[part]) for name, part in bounds.items()})


@dataclass
class Workshop:
    """Run jobs on one data set, each in a directory of its own below `root`."""

    root: Path
    dataset: DatasetInput
    count: int = 0
    made: dict[str, VersionInput] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def assignment(
        self, spec: Mapping[str, Any], *, resume: Path | None = None, file: Path | None = None, **references: Any
    ) -> Assignment:
        """Return an assignment whose references are versions by name."""
        self.count += 1
        directory = self.root / f"job-{self.count}"
        for name in ("scratch", "output"):
            (directory / name).mkdir(parents=True)
        body = {"name": f"job-{self.count}", "dataset": DIGITS, **spec}
        return Assignment(
            job_id=f"job-{self.count}",
            token=1,
            spec=job_spec_adapter.validate_python(body),
            recipe_digest=hashlib.sha256(orjson.dumps(body, default=str)).hexdigest(),
            dataset=self.dataset,
            file=file,
            references={role: tuple(found) for role, found in references.items()},
            seed=body.get("seed", 0),
            scratch=directory / "scratch",
            output=directory / "output",
            checkpoint=resume,
            limits=self.limits,
        )

    def run(
        self,
        spec: Mapping[str, Any],
        *,
        resume: Path | None = None,
        file: Path | None = None,
        stop_after: int | None = None,
        reason: StopReason = "drain",
        **references: Any,
    ) -> "Job":
        """Run a job to its end; raise Stopped when it was asked to stop."""
        assignment = self.assignment(spec, resume=resume, file=file, **references)
        reporter = FakeReporter(assignment.scratch.parent / "checkpoints", stop_after=stop_after, reason=reason)
        job = Job(assignment, reporter)
        self.last = job
        context = Context(reporter, assignment.scratch, assignment.output, assignment.seed, resume)
        job.products = run(assignment, context)
        return job


@dataclass
class Job:
    """Hold what a job was given, what it reported and what it made."""

    assignment: Assignment
    reporter: FakeReporter
    products: list[Product] = field(default_factory=list)

    @property
    def product(self) -> Product:
        return self.products[-1]

    @property
    def report(self) -> dict[str, Any]:
        return report_of(self.product)

    @property
    def accuracy(self) -> float:
        return self.product.manifest.metrics.accuracy or 0.0

    def version(self) -> VersionInput:
        """Return the job's version as the next job is given it."""
        product = self.product
        return VersionInput(
            version_id=f"id-of-{product.name_hint}",
            name=product.name_hint,
            version=1,
            digest=product.manifest.digest,
            manifest=product.manifest,
            files={name: product.directory / name for name in product.manifest.files},
            training_recipe=self.assignment.spec.model_dump(mode="json"),
        )


def report_of(product: Product) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((product.directory / "report.json").read_bytes())
    return found
