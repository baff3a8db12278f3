"""The OpenAPI document of one model: exact shapes, ranges, classes and members, with a real row as the example."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.db.registry import VersionRow
from app.domain.models import InputSignature, VersionManifest
from app.serving.answering import (
    ANSWERED_BY,
    PREDICTION_SET,
    member_output,
    member_weights,
    uncertainty_of,
)
from app.serving.inputs import MOST_ROWS, takes_text
from app.serving.pictures import takes_pictures

Schema = dict[str, Any]
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_BASE64 = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}


class Described(NamedTuple):
    """What a document tells of: a version, where it is asked, its members' names and a row of its data set."""

    version: VersionRow
    path: str
    members: Sequence[str]
    row: NDArray[Any] | None

    @property
    def manifest(self) -> VersionManifest:
        """Return the manifest of the version."""
        return self.version.manifest


def describe_model(told: Described, whole: Mapping[str, Any]) -> Schema:
    """Return the document of one model; what refusals look like is taken from the whole service's document."""
    verb = "classify" if told.manifest.task == "classification" else "regress"
    predict = {**_refusals(whole, ":predict"), "200": _answer("One prediction per row.", _predictions(told))}
    second = {**_refusals(whole, f":{verb}"), "200": _answer("One result per example.", _results(told))}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{told.version.name}/{told.version.version}", "version": str(told.version.version)}
        | {"description": _about(told)},
        "servers": [{"url": "/"}],
        "tags": [{"name": "predictions", "description": f"What {told.version.name} answers."}],
        "paths": {
            f"{told.path}:predict": {"post": _operation("predict", "Predict", _asking(told), predict)},
            f"{told.path}:{verb}": {"post": _operation(verb, verb.title(), _asking_examples(told), second)},
        },
        "components": _components(whole, [*predict.values(), *second.values()]),
    }


def row_schema(signature: InputSignature) -> Schema:
    """Return the schema of one row: nested lists of exactly the model's shape, of numbers in the range of its type."""
    number: Schema = {"type": "number", "minimum": -_LARGEST_FLOAT32, "maximum": _LARGEST_FLOAT32}
    found: Schema = {"type": "integer", "minimum": 0, "maximum": 255} if signature.dtype == "uint8" else number
    for size in reversed(signature.shape):
        found = {"type": "array", "items": found, "minItems": size, "maxItems": size}
    return found


def _about(told: Described) -> str:
    manifest = told.manifest
    rows = f"`{manifest.input.dtype}` of the shape `{list(manifest.input.shape)}`"
    answers = f"one of {len(manifest.classes)} classes" if manifest.classes else "a number"
    lines = [
        f"**{told.version.name}/{told.version.version}** takes rows of {rows} and answers {answers}.",
        f"Kind: {manifest.kind} ({manifest.method}), trained on `{manifest.dataset}`. Digest: `{told.version.digest}`.",
    ]
    if manifest.rejected:
        lines.append(f"It was rejected: {manifest.rejected}.")
    if told.members:
        lines.append(f"Members, in order: {', '.join(told.members)}.")
    return "\n\n".join(lines)


def _operation(name: str, summary: str, body: Schema, responses: Mapping[str, Schema]) -> Schema:
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["predictions"],
        "description": f"{summary} rows of exactly the shape that this model takes.",
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": dict(sorted(responses.items())),
    }


def _asking(told: Described) -> Schema:
    row, flags = row_schema(told.manifest.input), _flags(told)
    named = _object({"x": row}, ["x"])
    choices = [_list_of(row), _list_of(named), *map(_list_of, _encoded(told.manifest.input))]
    rows = _object({"instances": {"anyOf": choices}, **flags}, ["instances"])
    columns = _object({"inputs": {"anyOf": [*choices[:1], _object({"x": _list_of(row)}, ["x"])]}, **flags}, ["inputs"])
    return {"schema": {"oneOf": [rows, columns]}, "examples": _examples(told)}


def _asking_examples(told: Described) -> Schema:
    row = row_schema(told.manifest.input)
    choices = [row, _flat(told.manifest.input), *_encoded(told.manifest.input)]
    schema = _object({"examples": _list_of(_object({"x": {"anyOf": choices}}, ["x"]))}, ["examples"])
    shown = {} if told.row is None else {"a row of its data set": {"value": {"examples": [{"x": told.row}]}}}
    return {"schema": schema, "examples": shown}


def _flat(signature: InputSignature) -> Schema:
    size = int(np.prod(signature.shape))
    return row_schema(InputSignature(shape=(size,), dtype=signature.dtype))


def _encoded(signature: InputSignature) -> list[Schema]:
    """Return what a row may be instead of numbers."""
    if takes_text(signature):
        return [{"type": "string", "description": "Text, as UTF-8 cut to the length of a row."}, _BASE64]
    return [{**_BASE64, "description": "A PNG or JPEG of that size."}] if takes_pictures(signature) else []


def _flags(told: Described) -> Schema:
    flags = {"uncertainty": "Answer how sure it is, too."}
    if told.members:
        flags |= {"members": "Answer each member's prediction too.", "weights": "Answer the members' weights too."}
    if PREDICTION_SET in told.manifest.extra_outputs:
        flags["sets"] = "Answer sets of classes too."
    return {name: {"type": "boolean", "default": False, "description": text} for name, text in flags.items()}


def _examples(told: Described) -> Schema:
    if told.row is None:
        return {}
    shown: Schema = {"a row of its data set": {"value": {"instances": [told.row]}}}
    if told.members:
        extras = {"members": True, "weights": True, "uncertainty": True}
        shown["with what its members say"] = {"value": {"instances": [told.row], **extras}}
    if takes_text(told.manifest.input):
        text = bytes(told.row.astype(np.uint8)).rstrip(b"\0").decode("utf-8", "ignore")
        shown["the same row as text"] = {"value": {"instances": [text]}}
    return shown


def _predictions(told: Described) -> Schema:
    """Describe the answer, with a name for the place of every class."""
    values = _values(told)
    found = {**_served(told), "predictions": _many(values), "outputs": _many(values), **_beside(told)}
    named = _object(found, ["model", "version", "digest"])
    return {**named, "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}]}


def _results(told: Described) -> Schema:
    if told.manifest.task == "regression":
        return _object({**_served(told), "results": _many({"type": "number"})}, ["results"])
    labelled = {
        "type": "array",
        "prefixItems": [{"enum": list(told.manifest.classes)}, {"type": "number", "minimum": 0, "maximum": 1}],
        "minItems": 2,
        "maxItems": 2,
    }
    count = len(told.manifest.classes)
    example = {"type": "array", "items": labelled, "minItems": count, "maxItems": count}
    return _object({**_served(told), "results": _many(example)}, ["results"])


def _values(told: Described, *, output: str = "") -> Schema:
    if told.manifest.task == "regression":
        return {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 1}
    number = {"type": "number"} if output == "logits" else {"type": "number", "minimum": 0, "maximum": 1}
    classes = told.manifest.classes
    places = [{**number, "title": name} for name in classes]
    return {"type": "array", "prefixItems": places, "minItems": len(classes), "maxItems": len(classes)}


def _beside(told: Described) -> Schema:
    manifest, found = told.manifest, dict[str, Schema]()
    if told.members:
        values = _values(told, output=member_output(manifest))
        members = [{**_many(values), "title": name} for name in told.members]
        found["members"] = {"type": "array", "prefixItems": members, "maxItems": len(members)}
        weights = member_weights(manifest)
        found["weights"] = {"const": None} if weights is None else {"const": weights}
    found["uncertainty"] = {
        "type": "object",
        "properties": {name: _many({"type": "number"}) for name in _kinds_of_uncertainty(told)},
    }
    if PREDICTION_SET in manifest.extra_outputs:
        found["sets"] = _many({"type": "array", "items": {"enum": list(manifest.classes)}, "uniqueItems": True})
    if ANSWERED_BY in manifest.extra_outputs:
        found["answered_by"] = _many({"type": "integer", "minimum": 0, "maximum": len(told.members) - 1})
    return found


def _kinds_of_uncertainty(told: Described) -> list[str]:
    """Return the names, as an even answer of the model and of its members would have them."""
    count = max(1, len(told.manifest.classes))
    even = np.full((1, count), 1 / count)
    return list(uncertainty_of(told.manifest, even, [even] * len(told.members)))


def _served(told: Described) -> Schema:
    version = told.version
    return {
        "model": {"const": version.name},
        "version": {"const": version.version},
        "digest": {"const": version.digest},
    }


def _many(items: Schema) -> Schema:
    return {"type": "array", "items": items, "description": "One for each row."}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": MOST_ROWS}


def _object(properties: Schema, required: Sequence[str]) -> Schema:
    found = {"type": "object", "properties": properties, "required": list(required)}
    return {**found, "additionalProperties": False}


def _answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(whole: Mapping[str, Any], verb: str) -> Schema:
    responses: Mapping[str, Schema] = whole["paths"]["/v1/models/{name}" + verb]["post"]["responses"]
    return {code: response for code, response in responses.items() if int(code) >= 400}


def _components(whole: Mapping[str, Any], responses: Sequence[Schema]) -> Schema:
    shown = {slug for one in responses for content in one["content"].values() for slug in content.get("examples", ())}
    schemas = {name: whole["components"]["schemas"][name] for name in ("Problem", "WrongField")}
    return {"schemas": schemas, "examples": {slug: whole["components"]["examples"][slug] for slug in sorted(shown)}}
