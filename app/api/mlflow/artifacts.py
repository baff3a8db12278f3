"""The files of a version as MLflow's clients list and download them, with the `MLmodel` that tells how to load them."""

import platform
from importlib import metadata
from typing import Any

import orjson
from fastapi import Response
from fastapi.responses import FileResponse

from app.api.deps import Services
from app.api.mlflow import requests
from app.api.mlflow.replies import Reply, without_empty
from app.api.v1.answers import main_output
from app.api.v1.lookup import find_in_view
from app.db.registry import VersionRow
from app.domain.errors import InvalidNameError, ModelNotFoundError
from app.domain.models import GRAPH, PACKED_GRAPH, VersionManifest
from app.domain.names import parse_reference

MLMODEL = "MLmodel"
REQUIREMENTS = "requirements.txt"
_REQUIREMENTS = b"mlflow-skinny\nnumpy\nonnx\nonnxruntime\npandas\n"


def list_artifacts(wired: Services, sent: requests.ArtifactPath) -> Reply:
    """List the files of a version, `path=name/3`; a file itself has none below it."""
    row, file = _find(wired, sent.path)
    if file:
        _check_file(row, file)
        return {}
    return without_empty({"files": [_described(row, name) for name in _files(row)]})


def download(wired: Services, path: str) -> Response:
    """Return a file of a version: what was registered, or one that is made from it."""
    row, file = _find(wired, path)
    _check_file(row, file)
    made = _made(wired, row, file)
    if made is not None:
        return Response(made, media_type="application/octet-stream")
    return FileResponse(wired.store.fetch(row.manifest.files[file].sha256), media_type="application/octet-stream")


def _find(wired: Services, path: str) -> tuple[VersionRow, str]:
    name, _, rest = path.strip("/").partition("/")
    number, _, file = rest.partition("/")
    try:
        reference = parse_reference(f"{name}/{number}")
    except InvalidNameError:
        raise ModelNotFoundError(f"There are no artifacts at {path[:200]!r}.", hint="Ask for `name/3`.") from None
    return find_in_view(wired, reference), file


def _files(row: VersionRow) -> list[str]:
    return sorted({MLMODEL, REQUIREMENTS, GRAPH, *row.manifest.files})


def _check_file(row: VersionRow, file: str) -> None:
    if file not in _files(row):
        known = ", ".join(_files(row))
        raise ModelNotFoundError(f"{row.name}/{row.version} has no file {file[:80]!r}.", hint=f"It has {known}.")


def _described(row: VersionRow, file: str) -> dict[str, Any]:
    """Describe a file; the size of a graph that would have to be unpacked first is left out."""
    described: dict[str, Any] = {"path": file, "is_dir": False}
    if file in row.manifest.files:
        described["file_size"] = row.manifest.files[file].size_bytes
    elif file != GRAPH:
        described["file_size"] = len(_told(row, file))
    return described


def _made(wired: Services, row: VersionRow, file: str) -> bytes | None:
    """Return the content of a file that was not registered as it is, else None."""
    if file in row.manifest.files:
        return None
    if file != GRAPH:
        return _told(row, file)
    from app.serving.runtime import plain_bytes

    return plain_bytes(wired.store.fetch(row.manifest.files[PACKED_GRAPH].sha256))


def _told(row: VersionRow, file: str) -> bytes:
    return _mlmodel(row) if file == MLMODEL else _REQUIREMENTS


def _mlmodel(row: VersionRow) -> bytes:
    """Return how MLflow loads the graph, as JSON, which is YAML."""
    python, onnx = platform.python_version(), metadata.version("onnx")
    flavors = {
        "onnx": {"data": GRAPH, "onnx_version": onnx, "providers": ["CPUExecutionProvider"], "code": None},
        "python_function": {"loader_module": "mlflow.onnx", "data": GRAPH, "python_version": python},
    }
    content = {
        "artifact_path": "model",
        "flavors": flavors,
        "model_uuid": row.digest[:32],
        "signature": _signature(row.manifest),
        "utc_time_created": row.created_at.strftime("%Y-%m-%d %H:%M:%S.%f"),
        "metadata": {"leanfuse": {"name": row.name, "version": row.version, "digest": row.digest}},
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2)


def _signature(manifest: VersionManifest) -> dict[str, str]:
    width = len(manifest.classes) if manifest.task == "classification" else 1
    inputs = _tensor("x", manifest.input.dtype, manifest.input.shape)
    return {"inputs": inputs, "outputs": _tensor(main_output(manifest), "float32", (width,))}


def _tensor(name: str, dtype: str, shape: tuple[int, ...]) -> str:
    tensor = {"type": "tensor", "name": name, "tensor-spec": {"dtype": dtype, "shape": [-1, *shape]}}
    return orjson.dumps([tensor]).decode()
