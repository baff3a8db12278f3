"""Turn what a method made into a product: files, figures measured on them, a report and a manifest."""

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors.numpy import save_file

from app.domain.datasets import FileRef, canonical_json
from app.domain.jobs import PROTOCOL
from app.domain.models import InputSignature, Link, Metrics, VersionKind, VersionManifest, served_file
from app.domain.network import Network, trace
from app.domain.stats import Comparison, compare_accuracy, compare_errors, correct_for_many
from app.serving.packed import read_graph
from worker.assignment import Assignment
from worker.gate import Gate, examine_drop
from worker.graph_cost import graph_cost
from worker.measure import Measured, Request, measure
from worker.rows import Array, Data, hash_report
from worker.timing import SIZES

PARITY_ROWS = 256
REPORT = "report.json"
# Sharing weights, storing them as a codebook or giving them other values leave every multiplication where it was.
_COMPUTES_THE_SAME = frozenset({"share_weights", "cluster", "fine_tune", "soup"})


@dataclass(frozen=True)
class Product:
    """Hand over one new version: its directory holds the files that the manifest names.

    `comparisons` are those of the report, the one that the verdict is about first.
    """

    name_hint: str
    kind: VersionKind
    directory: Path
    manifest: VersionManifest
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """Name what a version is compared with, by its answers for the report rows.

    `graph` is its served file, where it has one: the version's times are taken in turns with its times.
    """

    name: str
    answers: Array
    graph: Path | None = None


@dataclass(frozen=True)
class Draft:
    """Hold what is known of a version before it is measured; its files lie in `directory` already.

    `baselines` go from the one that the verdict is about to the less important ones. With `max_drop` the version is
    rejected unless it is at most so many points of accuracy (percent of RMSE) worse than `baselines[gate]`. `beside`
    are p-values of the same question in other reports: the verdict allows for their number too.
    """

    directory: Path
    kind: VersionKind
    name: str
    method: str
    seed: int
    recipe_digest: str
    parameters: int
    macs: int
    weights_bytes: int
    parity: dict[str, Any]
    baselines: Sequence[Baseline] = ()
    links: tuple[Link, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    max_drop: float | None = None
    gate: int = 0
    beside: Sequence[float] = ()
    extra_outputs: tuple[str, ...] = ()

    @property
    def served(self) -> Path:
        """Return the file that will answer."""
        return served_in(self.directory)


def served_in(directory: Path) -> Path:
    """Return the file of a version's directory that answers."""
    return directory / served_file([path.name for path in directory.iterdir()])


def write_weights(directory: Path, network: Network, weights: Mapping[str, NDArray[Any]]) -> None:
    """Write network.json and weights.safetensors, every shared variable once."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "network.json").write_bytes(canonical_json(network.model_dump(mode="json")))
    arrays = {name: np.ascontiguousarray(weights[name]) for name in sorted(trace(network).variables)}
    save_file(arrays, directory / "weights.safetensors")


def finish(draft: Draft, assignment: Assignment, data: Data) -> Product:
    """Measure the served file on the report rows, compare it with its baselines, judge the gate, write report.json."""
    measured, own = _measure(draft, assignment, data)
    comparisons = correct_for_many(
        [
            compare_answers(own, baseline.answers, data, against=baseline.name, seed=assignment.seed)
            for baseline in draft.baselines
        ],
        beside=draft.beside,
    )
    gate = _examine_gate(draft, own, data)
    metrics = Metrics(
        **measured.figures.model_dump(),
        parameters=draft.parameters,
        macs=draft.macs,
        weights_bytes=draft.weights_bytes,
    )
    report = _report(draft, measured, metrics, comparisons, data) | {"gate": gate.entry() if gate else None}
    (draft.directory / REPORT).write_bytes(canonical_json(report))
    manifest = _manifest(draft, metrics, assignment, data, rejected=gate.reason if gate else None)
    return Product(draft.name, draft.kind, draft.directory, manifest, comparisons)


def amend(product: Product, entries: Mapping[str, Any], *, rejected: str | None = None) -> Product:
    """Add entries to a product's report, and a reason to reject it unless it has one."""
    path = product.directory / REPORT
    path.write_bytes(canonical_json({**orjson.loads(path.read_bytes()), **entries}))
    manifest = product.manifest
    files = {**manifest.files, REPORT: file_ref(path)}
    updated = manifest.model_copy(update={"files": files, "rejected": manifest.rejected or rejected})
    return replace(product, manifest=updated)


def _measure(draft: Draft, assignment: Assignment, data: Data) -> tuple[Measured, Array]:
    """Return the figures of the served file and its answers for the report rows."""
    answers = assignment.scratch / f"{draft.directory.name}.answers.npy"
    request = Request(
        model=draft.served,
        rows=assignment.dataset.files["report_x"],
        targets=assignment.dataset.files["report_y"],
        task=data.dataset_schema.task,
        answers=answers,
        rival=draft.baselines[0].graph if draft.baselines else None,
    )
    return measure(request), np.load(answers, allow_pickle=False)


def _examine_gate(draft: Draft, own: Array, data: Data) -> Gate | None:
    if draft.max_drop is None or not draft.baselines:
        return None
    other = draft.baselines[draft.gate]
    return examine_drop(own, other.answers, data, against=other.name, max_drop=draft.max_drop, seed=draft.seed)


def compare_answers(own: Array, other: Array, data: Data, *, against: str, seed: int) -> Comparison:
    """Compare two models by their answers for the report rows."""
    targets = np.asarray(data.y["report"])
    if data.classification:
        return compare_accuracy(own.argmax(1) == targets, other.argmax(1) == targets, against=against, seed=seed)
    targets = targets.reshape(own.shape)
    squared, others = np.square(own - targets)[:, 0], np.square(other - targets)[:, 0]
    return compare_errors(squared, others, against=against, seed=seed)


def simplest(data: Data) -> Baseline:
    """Return the baseline of a model that has no other: always the most frequent class, or the mean of the targets."""
    rows, train = len(data.y["report"]), np.asarray(data.y["train"])
    if not data.classification:
        return Baseline("the mean of the train rows", answers=np.full((rows, 1), train.mean()))
    classes = len(data.dataset_schema.classes)
    counts = np.bincount(train, minlength=classes)
    return Baseline("always the most frequent class", answers=np.tile(np.eye(classes)[counts.argmax()], (rows, 1)))


def summarize(comparison: Comparison, *, unit: str) -> str:
    """Say a comparison in one sentence."""
    low, high = comparison.interval
    scale = 100 if unit == "points of accuracy" else 1
    figures = f"{comparison.difference * scale:+.2f} {unit}, 95 % interval {low * scale:+.2f} to {high * scale:+.2f}"
    words = {
        "better": f"Better than {comparison.against}",
        "worse": f"Worse than {comparison.against}",
        "no difference shown": f"No difference from {comparison.against} shown",
    }[comparison.verdict]
    p_value = comparison.p_value if comparison.adjusted_p_value is None else comparison.adjusted_p_value
    return f"{words} ({figures}, p = {p_value:.3g})."


def tell_speed(measured: Mapping[str, Any], draft: Draft) -> dict[str, Any]:
    """Say against what the times were taken; what computes the same as before is never called faster."""
    told = {"against": draft.baselines[0].name, **measured}
    if draft.method in _COMPUTES_THE_SAME:
        return {key: "no difference shown" if value == "faster" else value for key, value in told.items()}
    return told


def summarize_speed(speed: Mapping[str, Any]) -> list[str]:
    """Say in a sentence per batch size what the times show."""
    words = {
        "faster": "Faster than {}",
        "slower": "Slower than {}",
        "no difference shown": "No difference in time from {} shown",
    }
    return [
        f"{words[speed[f'verdict_batch_{size}']].format(speed['against'])} at batch {size} "
        f"({speed[f'ratio_batch_{size}']:.2f} times its rows in a second, 95 % interval {low:.2f} to {high:.2f})."
        for size in SIZES
        for low, high in [speed[f"ratio_batch_{size}_interval"]]
    ]


def file_ref(path: Path) -> FileRef:
    """Name a file by its content."""
    with path.open("rb") as file:
        return FileRef(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size_bytes=path.stat().st_size)


def environment() -> dict[str, Any]:
    """Say on what a version was trained and measured."""
    packages = ("keras", "tensorflow", "torch", "jax", "numpy", "onnx", "onnxruntime")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "packages": {name: found for name in packages if (found := _version(name))},
        "latency": "median and 95th percentile of single-threaded runs of the served file in a fresh process",
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _report(
    draft: Draft, measured: Measured, metrics: Metrics, comparisons: Sequence[Comparison], data: Data
) -> dict[str, Any]:
    unit = "points of accuracy" if data.classification else "of squared error"
    speed = measured.speed and tell_speed(measured.speed, draft)
    return {
        "metrics": metrics.model_dump(mode="json"),
        "quality": measured.quality,
        "speed": speed,
        "memory": measured.memory,
        "report_rows": len(data.y["report"]),
        "row_weights": _told_weights(data),
        "row_hashes": hash_report(data),
        "graph": asdict(graph_cost(read_graph(draft.served))),
        "model": {"file": draft.served.name, "sha256": measured.sha256, "size_bytes": metrics.served_bytes},
        "parity": draft.parity,
        "baseline": asdict(comparisons[0]) if comparisons else None,
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "method": {"method": draft.method, **draft.notes},
        "verdict": {
            "verdict": comparisons[0].verdict if comparisons else "no difference shown",
            "summary": [
                *(summarize(comparison, unit=unit) for comparison in comparisons),
                *(summarize_speed(speed) if speed else ()),
            ],
        },
        "environment": environment(),
        "history": [dict(epoch) for epoch in draft.history],
    }


def _told_weights(data: Data) -> dict[str, str] | None:
    if not data.weights:
        return None
    return {
        "weighed": "the losses that are minimised on train rows, or by which a choice is made on selection rows",
        "alike": "every other figure: those of the report rows, accuracy and RMSE of selection rows, statistics",
    }


def _manifest(
    draft: Draft, metrics: Metrics, assignment: Assignment, data: Data, *, rejected: str | None
) -> VersionManifest:
    schema = data.dataset_schema
    files = sorted(path for path in draft.directory.iterdir() if path.is_file())
    return VersionManifest(
        kind=draft.kind,
        method=draft.method,
        task=schema.task,
        classes=schema.classes,
        input=InputSignature(shape=schema.shape, dtype=data.input_dtype),
        files={path.name: file_ref(path) for path in files},
        dataset=assignment.dataset.name,
        dataset_digest=assignment.dataset.digest,
        recipe_digest=draft.recipe_digest,
        seed=draft.seed,
        protocol=PROTOCOL,
        metrics=metrics,
        links=draft.links,
        rejected=rejected,
        extra_outputs=draft.extra_outputs,
    )
