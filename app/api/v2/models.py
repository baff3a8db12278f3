"""Metadata, readiness and configuration of the server and of models, as Triton's and KServe's clients ask for them."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from app import __version__
from app.api.deps import Services, Wired
from app.api.v1.lookup import find_version
from app.api.v2.datatypes import TEXTS, datatype_of
from app.api.v2.errors import described_errors
from app.api.v2.outputs import offered
from app.api.v2.paths import ModelInPath, VersionInPath, reference_of
from app.api.v2.rows import takes_texts
from app.db.registry import SERVED_STATES, VersionRow
from app.domain import errors
from app.domain.names import Reference
from app.serving.inputs import MOST_ROWS, TENSOR
from app.serving.predictor import graph_of

router = APIRouter(prefix="/v2", tags=["open inference protocol"])
_EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
_UNKNOWN = described_errors(errors.ModelNotFoundError, errors.ModelNotReadyError)


@router.get("", summary="Metadata of the server")
async def get_server_metadata() -> dict[str, Any]:
    """Return name, version and the extensions of the protocol that there are."""
    return {"name": "leanfuse", "version": __version__, "extensions": list(_EXTENSIONS)}


@router.get("/", summary="Metadata of the server, with a slash")
async def get_server_metadata_with_slash() -> dict[str, Any]:
    """Return name, version and extensions under the path that the protocol's own document has."""
    return await get_server_metadata()


@router.get("/health/live", summary="Is the server alive?")
async def get_server_liveness() -> dict[str, bool]:
    """Answer, and do nothing else."""
    return {"live": True}


@router.get("/health/ready", summary="Can the server predict?", responses=described_errors(errors.UnavailableError))
async def get_server_readiness(wired: Wired) -> dict[str, bool]:
    """Tell whether predictions are answered; they need no database once the registry was read."""
    if not wired.view.loaded or wired.leaving.is_set():
        raise errors.UnavailableError("The server is not ready to predict.", hint="Try again in a moment.")
    return {"ready": True, "live": True}


@router.get("/models", summary="Names of the models that serve")
async def list_served_models(wired: Wired) -> dict[str, list[str]]:
    """Return the names of all models with a version that can serve, as KServe does."""
    served = {row.name for row in wired.view.every_version() if row.state in SERVED_STATES}
    return {"models": sorted(served)}


@router.get("/models/{name}", summary="Metadata of a model", responses=_UNKNOWN)
async def get_tensors_of_model(wired: Wired, name: ModelInPath) -> dict[str, Any]:
    """Return a model's versions, inputs and outputs; the first output is the one that is answered by default."""
    return _metadata(wired, await find_version(wired, reference_of(name)))


@router.get("/models/{name}/versions/{version}", summary="Metadata of a version", responses=_UNKNOWN)
async def get_tensors_of_version(wired: Wired, name: ModelInPath, version: VersionInPath) -> dict[str, Any]:
    """Return the inputs and outputs of a version."""
    return _metadata(wired, await find_version(wired, reference_of(name, version)))


@router.get("/models/{name}/ready", summary="Can a model predict?", responses=_UNKNOWN)
async def get_model_readiness(wired: Wired, name: ModelInPath) -> dict[str, Any]:
    """Tell whether a model answers; it may have to be loaded first."""
    return await _readiness(wired, reference_of(name))


@router.get("/models/{name}/versions/{version}/ready", summary="Can a version predict?", responses=_UNKNOWN)
async def get_version_readiness(wired: Wired, name: ModelInPath, version: VersionInPath) -> dict[str, Any]:
    """Tell whether a version answers; it may have to be loaded first."""
    return await _readiness(wired, reference_of(name, version))


@router.get("/models/{name}/config", summary="Configuration of a model", responses=_UNKNOWN)
async def get_model_config(wired: Wired, name: ModelInPath) -> Response:
    """Return a model's configuration, as Triton describes models."""
    return JSONResponse(configuration(await find_version(wired, reference_of(name))))


@router.get("/models/{name}/versions/{version}/config", summary="Configuration of a version", responses=_UNKNOWN)
async def get_version_config(wired: Wired, name: ModelInPath, version: VersionInPath) -> Response:
    """Return a version's configuration, as Triton describes models."""
    return JSONResponse(configuration(await find_version(wired, reference_of(name, version))))


async def _readiness(wired: Services, reference: Reference) -> dict[str, Any]:
    version = await find_version(wired, reference)
    graph_of(version)
    return {"name": version.name, "ready": True}


def _metadata(wired: Services, version: VersionRow) -> dict[str, Any]:
    signature = version.manifest.input
    taken: dict[str, Any] = {
        "name": TENSOR,
        "datatype": datatype_of(signature.dtype),
        "shape": [-1, *signature.shape],
    }
    if takes_texts(signature):
        taken["parameters"] = {"also": TEXTS}
    outputs: list[dict[str, Any]] = [
        {"name": name, "datatype": offer.datatype, "shape": list(offer.shape)}
        for name, offer in offered(version.manifest).items()
    ]
    for extra in outputs[1:]:
        extra["parameters"] = {"optional": True}
    return {
        "name": version.name,
        "versions": [str(row.version) for row in reversed(wired.view.versions(version.name))],
        "platform": "onnxruntime_onnx",
        "inputs": [taken],
        "outputs": outputs,
    }


def configuration(version: VersionRow) -> dict[str, Any]:
    """Return a version's configuration in Triton's form; shapes are those of one row."""
    signature, offers = version.manifest.input, offered(version.manifest)
    rows = {name: offer for name, offer in offers.items() if offer.shape[:1] == (-1,)}
    return {
        "name": version.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": MOST_ROWS,
        "input": [{"name": TENSOR, "data_type": _type(datatype_of(signature.dtype)), "dims": list(signature.shape)}],
        "output": [
            {"name": name, "data_type": _type(offer.datatype), "dims": list(offer.shape[1:]) or [1]}
            for name, offer in rows.items()
        ],
    }


def _type(datatype: str) -> str:
    return f"TYPE_{'STRING' if datatype == TEXTS else datatype}"
