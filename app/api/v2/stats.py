"""Statistics of models in Triton's form."""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter

from app.api.deps import Services, Wired
from app.api.v1.lookup import find_version
from app.api.v2.errors import described_errors
from app.api.v2.paths import ModelInPath, VersionInPath, reference_of
from app.db.registry import SERVED_STATES, VersionRow
from app.domain import errors
from app.domain.errors import LeanfuseError
from app.serving.statistics import Duration, VersionStatistics

router = APIRouter(prefix="/v2", tags=["open inference protocol"])
_UNKNOWN = described_errors(errors.ModelNotFoundError, errors.ModelNotReadyError)
_NEVER = Duration()


@router.get("/models/stats", summary="Statistics of all models")
async def list_statistics(wired: Wired) -> dict[str, Any]:
    """Return what was counted for every version that serves, since this process started."""
    return _described(wired, [row for row in wired.view.every_version() if row.state in SERVED_STATES])


@router.get("/models/{name}/stats", summary="Statistics of a model", responses=_UNKNOWN)
async def get_statistics(wired: Wired, name: ModelInPath) -> dict[str, Any]:
    """Return what was counted for every version of a model, or for the one that `name@alias` names."""
    reference = reference_of(name)
    found = await find_version(wired, reference)
    return _described(wired, [found] if reference.alias else reversed(wired.view.versions(found.name)))


@router.get("/models/{name}/versions/{version}/stats", summary="Statistics of a version", responses=_UNKNOWN)
async def get_statistics_of_version(wired: Wired, name: ModelInPath, version: VersionInPath) -> dict[str, Any]:
    """Return what was counted for a version."""
    return _described(wired, [await find_version(wired, reference_of(name, version))])


def _described(wired: Services, versions: Iterable[VersionRow]) -> dict[str, Any]:
    return {"model_stats": [_describe(wired, version) for version in versions]}


def _describe(wired: Services, version: VersionRow) -> dict[str, Any]:
    counted = wired.predictor.statistics.of(version.name, version.version)
    return {
        "name": version.name,
        "version": str(version.version),
        "last_inference": counted.last_milliseconds,
        "inference_count": counted.inferences,
        "execution_count": counted.executions,
        "inference_stats": _durations(counted),
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(_NEVER),
                "compute_infer": _duration(counted.batches[rows]),
                "compute_output": _duration(_NEVER),
            }
            for rows in sorted(counted.batches)
        ],
        "memory_usage": _memory(wired, version),
    }


def _durations(counted: VersionStatistics) -> dict[str, Any]:
    named = {
        "success": counted.success,
        "fail": counted.failure,
        "queue": counted.queue,
        "compute_input": counted.reading,
        "compute_infer": counted.running,
        "compute_output": counted.writing,
        "cache_hit": _NEVER,
        "cache_miss": _NEVER,
    }
    return {name: _duration(value) for name, value in named.items()}


def _duration(value: Duration) -> dict[str, int]:
    return {"count": value.count, "ns": value.nanoseconds}


def _memory(wired: Services, version: VersionRow) -> list[dict[str, Any]]:
    try:
        size = wired.predictor.memory_bytes(version)
    except LeanfuseError:
        return []
    return [{"type": "CPU", "id": 0, "byte_size": size}] if size else []
