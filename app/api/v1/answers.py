"""Ask a version for predictions, and write the reply."""

import time
from typing import Any

import orjson
from fastapi import Response

from app.api.deps import Services
from app.db.registry import VersionRow
from app.domain.errors import InvalidRequestError
from app.domain.models import VersionManifest
from app.serving.answering import (
    PREDICTION_SET,
    Answers,
    Array,
    Wanted,
    assemble,
    main_output,
    member_output,
    member_weights,
    outputs_of,
)
from app.serving.view import Route

# Routes take what makes an answer from here, together with what asks for it and writes it down.
__all__ = [
    "Answers",
    "Array",
    "Wanted",
    "ask",
    "ask_along",
    "class_sets",
    "describe_rows",
    "main_output",
    "member_weights",
    "reply",
]


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
    """Run a version on rows; raise InvalidRequestError for sets that it has not."""
    if wanted.sets and PREDICTION_SET not in version.manifest.extra_outputs:
        raise InvalidRequestError(
            f"{version.name}/{version.version} answers no sets of classes.",
            hint="Leave `sets` out, or fuse with `conformal`.",
        )
    names = outputs_of(version.manifest, wanted)
    return assemble(version.manifest, wanted, await wired.predictor.predict(version, rows, names))


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
