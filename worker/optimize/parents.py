"""Read a registered version that a method starts from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from app.domain.job_errors import MethodNotApplicableError
from app.domain.models import Link, LinkRole, served_file
from app.domain.network import Network
from app.serving.runtime import load_engine, predict_rows
from worker.assignment import Assignment, ReferenceRole, VersionInput
from worker.ensemble.members import check_fit
from worker.package import Baseline
from worker.rows import Array, Data


@dataclass(frozen=True)
class Parent:
    """Hold a registered network with its weights."""

    version: VersionInput
    network: Network
    weights: dict[str, NDArray[Any]]


def referred(assignment: Assignment, role: ReferenceRole, data: Data) -> VersionInput:
    """Return the version that the spec refers to in this role; raise ShapeMismatchError when it does not fit."""
    version = assignment.references[role][0]
    check_fit(version, data)
    return version


def read_parent(assignment: Assignment, data: Data) -> Parent:
    """Return the parent; raise MethodNotApplicableError when it is fused or quantized: it has no float network then."""
    return with_layers(referred(assignment, "parent", data))


def with_layers(version: VersionInput) -> Parent:
    """Return a version with its network and weights; raise MethodNotApplicableError when it has none."""
    if "network.json" not in version.files and version.manifest.kind == "single":
        raise MethodNotApplicableError(
            f"{version.name}/{version.version} is quantized: it has no float weights left to change.",
            hint="Start from the version that it was made of.",
        )
    if "network.json" not in version.files:
        raise MethodNotApplicableError(
            f"{version.name}/{version.version} is an ensemble, and has no layers of its own to rewrite.",
            hint="Distill it into one network first, or start from one of its members.",
        )
    network = Network.model_validate_json(version.files["network.json"].read_bytes())
    return Parent(version, network, load_file(version.files["weights.safetensors"]))


def label_of(version: VersionInput) -> str:
    """Return a version as a reference; a chain's step, which is never registered, has a name alone."""
    return f"{version.name}/{version.version}" if version.version else version.name


def baseline_of(version: VersionInput, data: Data, *, role: str) -> Baseline:
    """Return a version as what another is compared with."""
    answers = answers_for(version, data.x["report"], data)
    return Baseline(f"its {role} {label_of(version)}", answers, served_path(version))


def served_path(version: VersionInput) -> Path:
    """Return the file of a version that answers."""
    return version.files[served_file(version.files)]


def answers_for(version: VersionInput, rows: Array, data: Data) -> NDArray[np.float32]:
    """Return what a version's graph answers for raw rows, exactly as it would serve them."""
    return predict_rows(load_engine(served_path(version)), rows, data.output)


def link_to(version: VersionInput, role: LinkRole) -> Link:
    """Return the link from a new version to this one."""
    return Link(role=role, version_id=version.version_id)


def size_notes(parent: VersionInput) -> dict[str, Any]:
    """Return the parent's figures, to stand beside the new version's own."""
    return {"model": label_of(parent), "digest": parent.digest, **parent.manifest.metrics.model_dump(mode="json")}
