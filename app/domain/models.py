"""What a model version is: files named by digest, the recipe that made it, and what was measured on it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from app.domain.datasets import FileRef, Task, digest_of

VersionKind = Literal["single", "ensemble"]
LinkRole = Literal["parent", "teacher", "member"]


class Stored(BaseModel):
    """Be an immutable value that is read back from JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSignature(Stored):
    """Name the tensor that a version takes: `x`, [batch, *shape]."""

    shape: tuple[int, ...]
    dtype: Literal["float32", "uint8"]


class Metrics(Stored):
    """Hold what was measured on the exported file, on the report rows; absent figures do not apply to the task."""

    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    nll: float | None = None
    rmse: float | None = None
    parameters: int
    macs: int
    onnx_bytes: int
    weights_bytes: int
    latency_ms_batch_1: float
    latency_ms_batch_32: float


class Link(Stored):
    """Point from a version to one that it was made from."""

    role: LinkRole
    version_id: str
    position: int = 0
    weight: float | None = None


class VersionManifest(Stored):
    """Describe a version completely; its digest is the version's identity and ETag."""

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

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the canonical manifest."""
        return digest_of(self.model_dump(mode="json"))


def recipe_digest(spec: dict[str, Any], dataset_digest: str, *, protocol: int) -> str:
    """Return the digest of what decides the weights: spec without names and labels, data, code protocol.

    Two jobs with equal recipes train the same model, so the second may take the first one's result.
    """
    labels = {"name", "alias", "tags", "priority", "reuse", "max_runtime_seconds", "dataset"}
    body = {key: value for key, value in spec.items() if key not in labels}
    return digest_of({"spec": body, "dataset": dataset_digest, "protocol": protocol})
