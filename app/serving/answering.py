"""Which outputs of a graph make an answer, and how they become one: the same for a request and for a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain import fusion
from app.domain.models import VersionManifest

Array = NDArray[Any]
# Outputs that only graphs of some ensembles have; their manifests name them.
PREDICTION_SET, ANSWERED_BY = "prediction_set", "answered_by"


@dataclass(frozen=True)
class Wanted:
    """Say what to answer besides the fused prediction."""

    members: bool = False
    uncertainty: bool = False
    sets: bool = False


@dataclass(frozen=True)
class Answers:
    """Hold what a version answered: `fused` is [rows, classes] or [rows, 1], `members` one such array per member.

    `sets` [rows, classes] is above 0 for the classes of each row's prediction set; `answered_by` [rows] is the place of
    the member of a cascade that answered.
    """

    fused: Array
    members: list[Array]
    uncertainty: dict[str, Array]
    sets: Array | None = None
    answered_by: Array | None = None


def outputs_of(manifest: VersionManifest, wanted: Wanted) -> list[str]:
    """Return the names of the outputs that a graph is asked for; those that it has not are left out."""
    count = _members_asked(manifest, wanted)
    members = [f"member.{index}.{member_output(manifest)}" for index in range(count)]
    return [main_output(manifest), *_extra_outputs(manifest, wanted), *members]


def assemble(manifest: VersionManifest, wanted: Wanted, found: Sequence[Array]) -> Answers:
    """Return the answers that the outputs of `outputs_of` make.

    A single model has no members, so its uncertainty is its entropy alone.
    """
    extra = _extra_outputs(manifest, wanted)
    fused, parts = found[0], list(found[1 + len(extra) :])
    beside = dict(zip(extra, found[1:], strict=False))
    uncertainty = uncertainty_of(manifest, fused, parts) if wanted.uncertainty else {}
    members = parts if wanted.members else []
    return Answers(fused, members, uncertainty, beside.get(PREDICTION_SET), beside.get(ANSWERED_BY))


def _extra_outputs(manifest: VersionManifest, wanted: Wanted) -> list[str]:
    """Return the outputs that only some graphs have, of those that are wanted."""
    return [
        name
        for name, asked in ((PREDICTION_SET, wanted.sets), (ANSWERED_BY, wanted.members))
        if asked and name in manifest.extra_outputs
    ]


def main_output(manifest: VersionManifest) -> str:
    """Return the name of the graph's output that answers the task."""
    return "probabilities" if manifest.task == "classification" else "prediction"


def member_output(manifest: VersionManifest) -> str:
    """Return the name of a member's output, after `member.<place>.`."""
    # Serial members are no classifiers of their own: each adds logits to what the ones before it say.
    return "logits" if manifest.method == "serial" and manifest.task == "classification" else main_output(manifest)


def _members_asked(manifest: VersionManifest, wanted: Wanted) -> int:
    """Count the members whose answers are needed; of a cascade only the first one answers every row."""
    members = sum(link.role == "member" for link in manifest.links)
    if ANSWERED_BY in manifest.extra_outputs:
        return int(wanted.members)
    return members if wanted.members or (wanted.uncertainty and member_output(manifest) != "logits") else 0


def uncertainty_of(manifest: VersionManifest, fused: Array, parts: list[Array]) -> dict[str, Array]:
    """Return how sure an ensemble is, [rows] each, from its answer and those of its members, if they are needed."""
    weights = member_weights(manifest)
    if manifest.task == "regression":
        spread = fusion.spread(np.stack(parts).astype(np.float64), weights) if parts else None
        return {"deviation": spread.deviation, "lowest": spread.lowest, "highest": spread.highest} if spread else {}
    entropy = {"entropy": fusion.uncertainty(fused[np.newaxis].astype(np.float64)).entropy}
    if not parts or member_output(manifest) != "probabilities":
        return entropy
    found: dict[str, Array] = dict(fusion.uncertainty(np.stack(parts).astype(np.float64), weights)._asdict())
    if weights is None:
        # A meta-learner's answer is no mean of its members', so what they share cannot be split off.
        del found["mutual_information"]
        return found | entropy
    return found


def member_weights(manifest: VersionManifest) -> Array | None:
    """Return the weights of a weighted mean's members; None where there are none (a meta-learner, a single model)."""
    links = sorted((link for link in manifest.links if link.role == "member"), key=lambda link: link.position)
    weights = [link.weight for link in links]
    if not weights or any(weight is None for weight in weights):
        return None
    return np.array(weights, dtype=np.float64)
