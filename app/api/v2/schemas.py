"""The protocol's bodies for the OpenAPI document: they are read and written by hand, so they are described by hand."""

from typing import Any

from app.api.openapi import json_body
from app.api.v2.datatypes import DTYPES, TEXTS

_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}, "description": "The first size is the rows."}
_DATATYPE = {"type": "string", "enum": [*DTYPES, TEXTS]}
_DATA = {
    "type": "array",
    "items": {},
    "description": "Flat or nested like `shape`, in C order. FP16, BF16: binary only.",
}
_BINARY_SIZE = {"type": "integer", "minimum": 0, "description": "Bytes of this tensor after the JSON; no `data` then."}
_INPUT = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "shape": _SHAPE,
        "datatype": _DATATYPE,
        "parameters": {**_PARAMETERS, "properties": {"binary_data_size": _BINARY_SIZE}},
        "data": _DATA,
    },
    "required": ["name", "shape", "datatype"],
}
_CLASSES = {
    "type": "integer",
    "minimum": 0,
    "description": "Answer so many best classes as BYTES, `value:index:label`.",
}
_ASKED = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "parameters": {
            **_PARAMETERS,
            "properties": {
                "binary_data": {"type": "boolean", "description": "Answer it as bytes after the JSON."},
                "classification": _CLASSES,
            },
        },
    },
    "required": ["name"],
}
_TIMEOUT = {"type": "integer", "minimum": 0, "description": "Microseconds after which to give up; 0: the service's."}
_REQUEST = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "Comes back in the reply."},
        "parameters": {
            **_PARAMETERS,
            "properties": {
                "binary_data_output": {"type": "boolean", "description": "Answer every output as bytes."},
                "timeout": _TIMEOUT,
                "priority": {"type": "integer", "minimum": 0, "description": "Accepted; all requests are equal."},
                "non_finite": {
                    "enum": ["error", "null"],
                    "description": "What stands in JSON for NaN and infinities: a refusal (default), or null.",
                },
            },
        },
        "inputs": {"type": "array", "items": _INPUT, "minItems": 1},
        "outputs": {"type": "array", "items": _ASKED, "description": "Default: the fused answer alone."},
    },
    "required": ["inputs"],
}
_TENSOR = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": _DATATYPE,
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}},
    },
    "required": ["name", "shape", "datatype"],
}
_REPLY = {
    "type": "object",
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
    "required": ["model_name", "model_version", "outputs"],
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "Length of the JSON where binary data follows it; 0 where the body is the input's bytes alone.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}
_EXAMPLE = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}


def _infer_body() -> dict[str, Any]:
    described = json_body(_REQUEST, {"a row of a table": _EXAMPLE})
    described["requestBody"]["content"]["application/octet-stream"] = _BYTES
    return {**described, "parameters": [_LENGTH]}


INFER_BODY = _infer_body()
INFER_REPLY: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs.",
        "content": {"application/json": {"schema": _REPLY}, "application/octet-stream": _BYTES},
    }
}


def replies_with(description: str, schema: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of an operation that answers an object, or nothing."""
    content = {} if schema is None else {"content": {"application/json": {"schema": schema}}}
    return {200: {"description": description, **content}}
