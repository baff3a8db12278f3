"""What a model version is: files named by digest, the recipe that made it, and what was measured on it."""

from collections.abc import Collection
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.datasets import FileRef, Task, digest_of

VersionKind = Literal["single", "ensemble"]
GRAPH = "model.onnx"
PACKED_GRAPH = "model.packed"
# The train job that would make the same model, where another kind of job made it.
TRAIN_SPEC = "train_spec.json"
LinkRole = Literal["parent", "teacher", "member"]


class Stored(BaseModel):
    """Be an immutable value that is read back from JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSignature(Stored):
    """Name the tensor that a version takes: `x`, [batch, *shape]."""

    shape: tuple[int, ...]
    dtype: Literal["float32", "uint8"]


class Metrics(Stored):
    """Hold what was measured on the served file, on the report rows; absent figures do not apply to the task.

    `served_bytes` is the size of the file that answers (see `served_file`), `weights_bytes` that of the weights at rest
    or 0 without them. Latencies are medians and 95th percentiles on one thread.
    """

    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    nll: float | None = None
    brier: float | None = None
    ece: float | None = None
    rmse: float | None = None
    parameters: int
    macs: int
    served_bytes: int
    gzip_bytes: int | None = None
    weights_bytes: int
    latency_ms_batch_1: float
    latency_ms_batch_1_p95: float | None = None
    latency_ms_batch_32: float
    latency_ms_batch_32_p95: float | None = None
    rows_per_second: float | None = None
    peak_memory_bytes: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_old_name(cls, value: object) -> object:
        if isinstance(value, dict) and "onnx_bytes" in value:
            value = {**value, "served_bytes": value["onnx_bytes"]}
            del value["onnx_bytes"]
        return value


class Link(Stored):
    """Point from a version to one that it was made from."""

    role: LinkRole
    version_id: str
    position: int = 0
    weight: float | None = None


class VersionManifest(Stored):
    """Describe a version completely; its digest is the version's identity and ETag.

    `rejected` says why a version failed its gate: it is registered, but not served under a name without a number.
    """

    kind: VersionKind
    method: str
    task: Task
    classes: tuple[str, ...]
    input: InputSignature
    files: dict[str, FileRef]
    dataset: str
    dataset_digest: str
    recipe_digest: str
    seed: int
    protocol: int
    metrics: Metrics
    links: tuple[Link, ...] = ()
    rejected: str | None = None
    # What its graph answers beside what every such graph does; left out where it is nothing.
    extra_outputs: tuple[str, ...] = Field((), exclude_if=lambda names: not names)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the canonical manifest."""
        return digest_of(self.model_dump(mode="json"))


def served_file(files: Collection[str]) -> str:
    """Return the name of the file that answers: the packed graph where there is one, else the plain ONNX graph."""
    return PACKED_GRAPH if PACKED_GRAPH in files else GRAPH


def recipe_digest(spec: dict[str, Any], dataset_digest: str, *, protocol: int, unlabelled: Collection[str] = ()) -> str:
    """Return the digest of what decides the weights: spec without names and labels, data, code protocol.

    `unlabelled` are the digests of further data sets whose rows are used. Two jobs with equal recipes train the same
    model, so the second may take the first one's result.
    """
    labels = {"name", "alias", "tags", "priority", "reuse", "max_runtime_seconds", "dataset", "members_at_once"}
    body = {key: value for key, value in spec.items() if key not in labels}
    further = {"unlabelled": list(unlabelled)} if unlabelled else {}
    return digest_of({"spec": body, "dataset": dataset_digest, "protocol": protocol, **further})
