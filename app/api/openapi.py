"""The OpenAPI document: bodies that are read by hand are described here, with examples that work."""

import threading
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from app.api.common_problems import add_common_problems, problem_examples
from app.api.problems import Problem, documented, form_of
from app.api.tensorflow import ColumnPredictions, Examples, PredictColumns, PredictRows, RowPredictions
from app.domain.rollouts import PromoteIn, RolloutIn
from app.domain.specs import posted_spec_adapter
from app.serving.npy import NPY

DESCRIPTION = """
**Lean models, fused.** POST a job that makes a model smaller and faster, or fuses several into a more accurate one;
workers train, measure and register the result; GET predictions of any model or fused ensemble.

1. `POST /v1/datasets` with `{"builtin": "digits"}`
2. `POST /v1/jobs` with `{"kind": "train", "name": "digits-cnn", "dataset": "digits", "architecture": {"type": "cnn"}}`
3. `GET /v1/jobs/{job_id}/events` until `done`
4. `GET /v1/models/digits-cnn/predictions?dataset=digits&limit=5`

Every error is a problem (RFC 9457): its `type` is a page of this service that explains it.
"""
TAGS = [
    {"name": "datasets", "description": "Rows to train, select and report on: three disjoint sets."},
    {"name": "jobs", "description": "Train, optimize, fuse; follow and steer."},
    {"name": "models", "description": "Versions, aliases, lineage and artifacts of everything registered."},
    {"name": "ensembles", "description": "Models that fuse others: members, weights, gain."},
    {
        "name": "predictions",
        "description": "Answers of models and ensembles, in TensorFlow Serving's form and by rows.",
    },
    {
        "name": "open inference protocol",
        "description": 'The same models for the clients of Triton and KServe; errors are `{"error": "text"}`.',
    },
    {"name": "mlflow", "description": "The registry as MLflow's own clients speak to it; errors are MLflow's, too."},
    {"name": "operations", "description": "Health, version, metrics, the meaning of problems."},
]
_PREDICT_MODELS = (PredictRows, PredictColumns, RowPredictions, ColumnPredictions)
_ARRAYS = f"\n\nA body of `{NPY}` is an array as `numpy.save` writes it; `Accept: {NPY}` answers with one."
_BODIES: Mapping[str, TypeAdapter[Any]] = {
    "JobSpec": posted_spec_adapter,
    **{model.__name__: TypeAdapter(model) for model in (Problem, Examples, RolloutIn, PromoteIn, *_PREDICT_MODELS)},
}


def json_body(schema: str | Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    """Return `openapi_extra` of an operation that reads its JSON body itself; a string names a component."""
    shown = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    content = {"schema": shown, "examples": {name: {"value": value} for name, value in examples.items()}}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def install_openapi(app: FastAPI) -> None:
    """Let the application describe itself."""
    turn = threading.Lock()

    def describe() -> dict[str, Any]:
        # Several threads may ask first; FastAPI's own models are built once and not for many at a time.
        with turn:
            if app.openapi_schema is None:
                app.openapi_schema = _describe(app)
            return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # the way FastAPI documents


def _describe(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        tags=TAGS,
        routes=app.routes,
        servers=[{"url": "/"}],
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, adapter in _BODIES.items():
        described = adapter.json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(described.pop("$defs", {}))
        schemas[name] = described
    document["components"]["examples"] = problem_examples()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            add_common_problems(path, operation, form.describe if (form := form_of(app, path)) else documented)
            _forget_empty_defaults(operation)
            _name_body(operation, schemas)
            if path.endswith(":predict"):
                _describe_prediction(operation)
    _name_properties(document)
    return document


def _forget_empty_defaults(operation: dict[str, Any]) -> None:
    """Leave out defaults that only stand for absence: generated clients would send `Idempotency-Key:` with nothing."""
    for parameter in operation.get("parameters", ()):
        if parameter["schema"].get("default") == "":
            del parameter["schema"]["default"]


def _name_body(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Move the schema of a body to the components, so that generated clients call it by its name alone."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("title")
    if name and schemas.get(name, content["schema"]) == content["schema"]:
        schemas[name] = content["schema"]
        content["schema"] = {"$ref": f"#/components/schemas/{name}"}


def _name_properties(node: object) -> None:
    """Write `patternProperties` as names and values, which says that no others are allowed, and which generators read.

    Where names and values have one pattern they are of one type, so that the names' lengths are known too.
    """
    if isinstance(node, list):
        for item in node:
            _name_properties(item)
    if isinstance(node, dict):
        for item in node.values():
            _name_properties(item)
        if isinstance(patterns := node.get("patternProperties"), dict) and len(patterns) == 1:
            ((pattern, values),) = node.pop("patternProperties").items()
            node["additionalProperties"] = values
            node["propertyNames"] = values if values.get("pattern") == pattern else {"pattern": pattern}


def _describe_prediction(operation: dict[str, Any]) -> None:
    """Say what the operations that read and write their bytes themselves take and answer."""
    asked, answered = (
        {"oneOf": [{"$ref": f"#/components/schemas/{model.__name__}"} for model in pair]}
        for pair in (_PREDICT_MODELS[:2], _PREDICT_MODELS[2:])
    )
    operation["requestBody"]["content"]["application/json"]["schema"] = asked
    operation["responses"]["200"] = {
        "description": "One prediction per row.",
        "content": {"application/json": {"schema": answered}},
    }
    # In words only: a second type of body breaks what openapi-python-client generates.
    operation["description"] += _ARRAYS
