"""TensorFlow Serving's calls beside `:predict`: classes or values of examples, and the signature of a model."""

import re
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter, ValidationError

from app.api.bodies import check_json, check_media_type
from app.api.deps import Services, Wired
from app.api.openapi import json_body
from app.api.problems import documented
from app.api.tensorflow import Classified, Examples, ModelMetadata, Regressed
from app.api.v1.answers import Array, Wanted, ask_along, main_output, reply
from app.api.v1.lookup import AliasInPath, NameInPath, VersionInPath, find_version, route_version
from app.db.registry import VersionRow
from app.domain import errors, prediction_errors
from app.domain.datasets import Task
from app.domain.explain import explain_validation
from app.domain.names import Reference
from app.serving.examples import examples_to_rows

router = APIRouter(prefix="/v1", tags=["predictions"])
# TensorFlow Serving looks at no media type: `curl -d` says that JSON is a form, other clients say nothing.
_MEDIA_TYPE = re.compile(r"(application/(json|x-www-form-urlencoded)|text/plain)?\s*(;.*)?", re.IGNORECASE)
_TYPES = {"float32": "DT_FLOAT", "uint8": "DT_UINT8"}
_VERBS: dict[Task, str] = {"classification": "classify", "regression": "regress"}
_examples: TypeAdapter[Examples] = TypeAdapter(Examples)
_PROBLEMS = documented(
    errors.MalformedJsonError,
    errors.ModelNotFoundError,
    errors.ModelNotReadyError,
    errors.ModelDeletedError,
    prediction_errors.BatchTooLargeError,
    errors.UnsupportedMediaTypeError,
    prediction_errors.TaskMismatchError,
    prediction_errors.InputShapeMismatchError,
    prediction_errors.RaggedInputError,
    prediction_errors.EmptyInputError,
    prediction_errors.InvalidInputValueError,
    errors.UnknownFieldError,
    errors.ArtifactCorruptedError,
    errors.OverloadedError,
    prediction_errors.PredictionTimeoutError,
)


def _documented(answer: type[Classified] | type[Regressed]) -> dict[str, Any]:
    example = {"one row of a table": {"examples": [{"x": [5.1, 3.5, 1.4, 0.2]}]}}
    return {
        "openapi_extra": json_body("Examples", example),
        "responses": {200: {"model": answer, "description": "One result per example."}, **_PROBLEMS},
        "response_model": None,
    }


@router.post("/models/{name}:classify", summary="Classify with the newest version", **_documented(Classified))
async def classify(request: Request, wired: Wired, name: NameInPath) -> Response:
    """Return the probability of every class, of each example, by a model's newest version."""
    return await _classify(request, wired, Reference(name))


@router.post("/models/{name}/versions/{version}:classify", summary="Classify with a version", **_documented(Classified))
async def classify_version(request: Request, wired: Wired, name: NameInPath, version: VersionInPath) -> Response:
    """Return the probability of every class, of each example, by one version of a model."""
    return await _classify(request, wired, Reference(name, version))


@router.post("/models/{name}/labels/{alias}:classify", summary="Classify with an alias", **_documented(Classified))
async def classify_alias(request: Request, wired: Wired, name: NameInPath, alias: AliasInPath) -> Response:
    """Return the probability of every class, of each example, by the version that an alias names now."""
    return await _classify(request, wired, Reference(name, alias=alias))


@router.post("/models/{name}:regress", summary="Regress with the newest version", **_documented(Regressed))
async def regress(request: Request, wired: Wired, name: NameInPath) -> Response:
    """Return the value of each example, by a model's newest version."""
    return await _regress(request, wired, Reference(name))


@router.post("/models/{name}/versions/{version}:regress", summary="Regress with a version", **_documented(Regressed))
async def regress_version(request: Request, wired: Wired, name: NameInPath, version: VersionInPath) -> Response:
    """Return the value of each example, by one version of a model."""
    return await _regress(request, wired, Reference(name, version))


@router.post("/models/{name}/labels/{alias}:regress", summary="Regress with an alias", **_documented(Regressed))
async def regress_alias(request: Request, wired: Wired, name: NameInPath, alias: AliasInPath) -> Response:
    """Return the value of each example, by the version that an alias names now."""
    return await _regress(request, wired, Reference(name, alias=alias))


async def _classify(request: Request, wired: Services, reference: Reference) -> Response:
    version, fused = await _answer(request, wired, reference, "classification")
    # In the model's order, as TensorFlow Serving writes them, not by probability.
    return _reply(version, [list(zip(version.manifest.classes, row, strict=True)) for row in fused])


async def _regress(request: Request, wired: Services, reference: Reference) -> Response:
    version, fused = await _answer(request, wired, reference, "regression")
    return _reply(version, fused[:, 0].tolist())


async def _answer(request: Request, wired: Services, reference: Reference, task: Task) -> tuple[VersionRow, Array]:
    route = await route_version(wired, reference, request.headers)
    version = route.version
    has = version.manifest.task
    if has != task:
        raise prediction_errors.TaskMismatchError(
            f"{version.name}/{version.version} does {has}, `:{_VERBS[task]}` needs {task}.",
            hint=f"POST to `:{_VERBS[has]}` or `:predict`.",
        )
    asked = await _read(request)
    rows = examples_to_rows(asked.examples, asked.context, version.manifest.input)
    return version, (await ask_along(wired, route, rows, Wanted())).fused


async def _read(request: Request) -> Examples:
    check_media_type(request, _MEDIA_TYPE, "application/json")
    content = check_json(await request.body(), only_finite=False)
    try:
        return _examples.validate_python(content)
    except ValidationError as invalid:
        raise explain_validation(invalid.errors(include_url=False), _examples.json_schema()) from None


def _reply(version: VersionRow, results: list[Any]) -> Response:
    return reply({"results": results, "model": version.name, "version": version.version, "digest": version.digest})


@router.get(
    "/models/{name}/metadata",
    summary="Signature of a model",
    responses=documented(errors.ModelNotFoundError, errors.VersionRejectedError),
)
async def get_model_metadata(wired: Wired, name: NameInPath) -> ModelMetadata:
    """Return the signature of the newest version, as TensorFlow Serving writes it."""
    return _metadata(await find_version(wired, Reference(name)))


@router.get(
    "/models/{name}/versions/{version}/metadata",
    summary="Signature of a version",
    responses=documented(errors.ModelNotFoundError, errors.ModelDeletedError),
)
async def get_version_metadata(wired: Wired, name: NameInPath, version: VersionInPath) -> ModelMetadata:
    """Return the signature of a version, as TensorFlow Serving writes it."""
    return _metadata(await find_version(wired, Reference(name, version)))


@router.get(
    "/models/{name}/labels/{alias}/metadata",
    summary="Signature of an alias",
    responses=documented(errors.ModelNotFoundError, errors.VersionRejectedError),
)
async def get_alias_metadata(wired: Wired, name: NameInPath, alias: AliasInPath) -> ModelMetadata:
    """Return the signature of the version that an alias names now, as TensorFlow Serving writes it."""
    return _metadata(await find_version(wired, Reference(name, alias=alias)))


def _metadata(row: VersionRow) -> ModelMetadata:
    manifest = row.manifest
    width = len(manifest.classes) if manifest.task == "classification" else 1
    output = main_output(manifest)
    signature = {
        "inputs": {"x": _tensor("x", _TYPES[manifest.input.dtype], manifest.input.shape)},
        "outputs": {output: _tensor(output, "DT_FLOAT", (width,))},
        "method_name": "tensorflow/serving/predict",
    }
    return ModelMetadata.model_validate(
        {
            "model_spec": {"name": row.name, "signature_name": "", "version": str(row.version)},
            "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
        }
    )


def _tensor(name: str, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in (-1, *shape)]
    return {"name": f"{name}:0", "dtype": dtype, "tensor_shape": {"dim": sizes, "unknown_rank": False}}
