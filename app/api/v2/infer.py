"""Predict in the form of the Open Inference Protocol, with Triton's binary and classification extensions."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from app.api.deps import Services, Wired
from app.api.express import Lane
from app.api.v1.answers import main_output
from app.api.v1.lookup import route_version
from app.api.v2 import binary
from app.api.v2.compression import LEAST_BYTES, accepted_encoding, deflate, inflate
from app.api.v2.datatypes import Array
from app.api.v2.errors import described_errors
from app.api.v2.outputs import answer, best_classes, offered, wanted_outputs
from app.api.v2.paths import NAME, ModelInPath, VersionInPath, reference_of
from app.api.v2.rows import raw_rows, rows_of
from app.api.v2.schemas import INFER_BODY, INFER_REPLY
from app.api.v2.wire import Asked, InferRequest, Reply, read_request, write_reply
from app.db.registry import VersionRow
from app.domain import errors, prediction_errors
from app.domain.models import VersionManifest
from app.domain.names import Reference

router = APIRouter(prefix="/v2", tags=["open inference protocol"])
LENGTH_HEADER = "Inference-Header-Content-Length"
# Triton's client sends no media type at all, and `curl -d` says that it sends a form.
_MEDIA_TYPES = frozenset(
    {"", "application/json", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"}
)
# What takes about a millisecond to compress would keep others waiting.
_LARGE_BYTES = 64 * 1024
_DOCUMENTED: dict[str, Any] = {
    "openapi_extra": INFER_BODY,
    "responses": INFER_REPLY
    | described_errors(
        errors.MalformedJsonError,
        errors.InvalidRequestError,
        prediction_errors.InputShapeMismatchError,
        prediction_errors.InvalidInputValueError,
        errors.ModelNotFoundError,
        prediction_errors.BatchTooLargeError,
        errors.UnsupportedMediaTypeError,
        errors.ModelNotReadyError,
        errors.OverloadedError,
        prediction_errors.PredictionTimeoutError,
        errors.NotSupportedError,
    ),
    "response_model": None,
}


@router.post("/models/{name}/infer", summary="Infer with a model", **_DOCUMENTED)
async def infer_with_model(request: Request, wired: Wired, name: ModelInPath) -> Response:
    """Answer tensors with a model's newest version, or with the one that `name@alias` names."""
    return await infer(wired, reference_of(name), await request.body(), request.headers)


@router.post("/models/{name}/versions/{version}/infer", summary="Infer with a version", **_DOCUMENTED)
async def infer_with_version(request: Request, wired: Wired, name: ModelInPath, version: VersionInPath) -> Response:
    """Answer tensors with one version of a model, named by its number or by an alias."""
    return await infer(wired, reference_of(name, version), await request.body(), request.headers)


async def _express(wired: Services, found: "re.Match[str]", body: bytes, headers: Headers) -> Response:
    return await infer(wired, reference_of(found["name"], found["version"]), body, headers)


# Paths that break the naming rule are left to the documented routes, which know what to answer.
EXPRESS = Lane(
    re.compile(rf"/v2/models/(?P<name>{NAME}(?:@{NAME})?)(?:/versions/(?P<version>{NAME}))?/infer"),
    "/v2/models/{name}/infer",
    _express,
)


async def infer(wired: Services, reference: Reference, body: bytes, headers: Headers) -> Response:
    """Answer a request's tensors."""
    started = time.perf_counter()
    _check_media_type(headers)
    body = await _inflated(wired, body, headers)
    route = await route_version(wired, reference, headers)
    version = route.version
    request, rows = _read(version.manifest, body, headers)
    asked = wanted_outputs(request, version.manifest)
    read = time.perf_counter()
    names = list(dict.fromkeys(item.name for item in asked))
    seconds = request.timeout_microseconds / 1e6 or None
    arrays = await answer(wired, version, rows, names, deadline_seconds=seconds)
    answered = time.perf_counter()
    if route.shadow is not None and names[0] == main_output(version.manifest):
        wired.shadows.mirror(route, rows, arrays[0], seconds=answered - read, output=names[0])
    outputs = _as_asked(asked, dict(zip(names, arrays, strict=True)), version.manifest)
    reply = write_reply(_head(version, request), outputs, non_finite=request.non_finite)
    response = await _response(reply, headers)
    counters = wired.predictor.statistics.of(version.name, version.version)
    counters.reading.add(read - started)
    counters.writing.add(time.perf_counter() - answered)
    return response


def _read(manifest: VersionManifest, body: bytes, headers: Headers) -> tuple[InferRequest, Array]:
    """Return what is asked for, and the rows; a body that is nothing but bytes asks for everything, as bytes."""
    length = binary.json_length(headers.get(LENGTH_HEADER), body)
    if length == 0:
        every = tuple(Asked(name, binary=True) for name in offered(manifest))
        return InferRequest(None, (), every), raw_rows(body, manifest.input)
    request = read_request(body, length)
    return request, rows_of(request.inputs, manifest.input)


def _as_asked(
    asked: Sequence[Asked], found: Mapping[str, Array], manifest: VersionManifest
) -> list[tuple[Asked, Array]]:
    return [
        (item, best_classes(found[item.name], item.classes, manifest.classes) if item.classes else found[item.name])
        for item in asked
    ]


def _head(version: VersionRow, request: InferRequest) -> dict[str, Any]:
    head: dict[str, Any] = {"model_name": version.name, "model_version": str(version.version)}
    if request.id is not None:
        head["id"] = request.id
    return {**head, "parameters": {"digest": version.digest}}


def _check_media_type(headers: Headers) -> None:
    given = headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in _MEDIA_TYPES:
        raise errors.UnsupportedMediaTypeError(
            f"The body has the media type {given[:80]!r}.",
            hint="Send `application/json`, or `application/octet-stream` where binary data follows the JSON.",
        )


async def _inflated(wired: Services, body: bytes, headers: Headers) -> bytes:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in {"", "identity"}:
        return body
    return await run_in_threadpool(inflate, body, encoding, most_bytes=wired.settings.limits.body_bytes)


async def _response(reply: Reply, headers: Headers) -> Response:
    sent: dict[str, str] = {}
    if reply.json_length is not None:
        sent[LENGTH_HEADER] = str(reply.json_length)
    body = reply.body
    encoding = accepted_encoding(headers.get("accept-encoding", "")) if len(body) >= LEAST_BYTES else None
    if encoding is not None:
        sent["Content-Encoding"] = encoding
        is_large = len(body) > _LARGE_BYTES
        body = await run_in_threadpool(deflate, body, encoding) if is_large else deflate(body, encoding)
    media_type = "application/json" if reply.json_length is None else "application/octet-stream"
    return Response(body, headers=sent, media_type=media_type)
