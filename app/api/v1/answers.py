"""Ask a version for predictions, and write the reply."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from fastapi import Response
from numpy.typing import NDArray

from app.api.deps import Services
from app.db.registry import VersionRow
from app.domain import fusion
from app.domain.errors import InvalidRequestError
from app.domain.models import VersionManifest
from app.serving.view import Route

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


async def ask_along(wired: Services, route: Route, rows: Array, wanted: Wanted) -> Answers:
    """Run the version that answers; what runs beside it gets the same rows when that is done."""
    if route.shadow is None:
        return await ask(wired, route.version, rows, wanted)
    started = time.perf_counter()
    answers = await ask(wired, route.version, rows, wanted)
    seconds = time.perf_counter() - started
    wired.shadows.mirror(route, rows, answers.fused, seconds=seconds, output=main_output(route.version.manifest))
    return answers


async def ask(wired: Services, version: VersionRow, rows: Array, wanted: Wanted) -> Answers:
    """Run a version on rows. A single model has no members, so its uncertainty is its entropy alone."""
    manifest = version.manifest
    suffix = member_output(manifest)
    extra = _extra_outputs(version, wanted)
    count = _members_asked(manifest, wanted, suffix)
    names = [main_output(manifest), *extra, *(f"member.{index}.{suffix}" for index in range(count))]
    fused, *found = await wired.predictor.predict(version, rows, names)
    beside, parts = dict(zip(extra, found, strict=False)), found[len(extra) :]
    uncertainty = uncertainty_of(manifest, fused, parts) if wanted.uncertainty else {}
    members = parts if wanted.members else []
    return Answers(fused, members, uncertainty, beside.get(PREDICTION_SET), beside.get(ANSWERED_BY))


def _extra_outputs(version: VersionRow, wanted: Wanted) -> list[str]:
    """Return the outputs that only some graphs have; raise InvalidRequestError for sets that this one has not."""
    there = version.manifest.extra_outputs
    if wanted.sets and PREDICTION_SET not in there:
        raise InvalidRequestError(
            f"{version.name}/{version.version} answers no sets of classes.",
            hint="Leave `sets` out, or fuse with `conformal`.",
        )
    return [
        name
        for name, asked in ((PREDICTION_SET, wanted.sets), (ANSWERED_BY, wanted.members))
        if asked and name in there
    ]


def _members_asked(manifest: VersionManifest, wanted: Wanted, suffix: str) -> int:
    """Count the members whose answers are needed; of a cascade only the first one answers every row."""
    members = sum(link.role == "member" for link in manifest.links)
    if ANSWERED_BY in manifest.extra_outputs:
        return int(wanted.members)
    return members if wanted.members or (wanted.uncertainty and suffix != "logits") else 0


def main_output(manifest: VersionManifest) -> str:
    """Return the name of the graph's output that answers the task."""
    return "probabilities" if manifest.task == "classification" else "prediction"


def member_output(manifest: VersionManifest) -> str:
    """Return what a member answers in the graph of its ensemble: `member.{i}.` and this."""
    # Serial members are no classifiers of their own: each adds logits to what the ones before it say.
    return "logits" if manifest.method == "serial" and manifest.task == "classification" else main_output(manifest)


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


def describe_rows(manifest: VersionManifest, answers: Answers) -> list[dict[str, Any]]:
    """Return one object per row: label and probabilities, or the predicted value; members and uncertainty if asked."""
    described: list[dict[str, Any]] = []
    for index, fused in enumerate(answers.fused):
        row = _prediction(manifest, fused)
        if answers.members:
            row["members"] = [_member(manifest, part[index]) for part in answers.members]
        if answers.uncertainty:
            row["uncertainty"] = {name: float(values[index]) for name, values in answers.uncertainty.items()}
        if answers.sets is not None:
            row["set"] = class_sets(manifest, answers.sets[index : index + 1])[0]
        if answers.answered_by is not None:
            row["answered_by"] = int(answers.answered_by[index])
        described.append(row)
    return described


def class_sets(manifest: VersionManifest, sets: Array) -> list[list[str]]:
    """Return the classes of every row's set by name."""
    return [[name for name, inside in zip(manifest.classes, row, strict=True) if inside > 0] for row in sets]


def _prediction(manifest: VersionManifest, values: Array) -> dict[str, Any]:
    if manifest.task == "regression":
        return {"prediction": float(values[0])}
    return {"label": manifest.classes[int(values.argmax())], "probabilities": values}


def _member(manifest: VersionManifest, values: Array) -> dict[str, Any]:
    if member_output(manifest) == "logits":
        return {"logits": values}
    return _prediction(manifest, values)


def reply(content: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Write JSON with arrays in it."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, headers=headers, media_type="application/json")
