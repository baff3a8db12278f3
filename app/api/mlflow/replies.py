"""Write models and versions as MLflow does: milliseconds, versions as text, no empty lists."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from app.db.mlflow import ModelEntry, VersionEntry

Reply: TypeAlias = dict[str, Any]


def model_reply(entry: ModelEntry) -> Reply:
    """Return a registered model; the version inside tells no aliases."""
    reply = {
        "name": entry.name,
        "creation_timestamp": _milliseconds(entry.created_at),
        "last_updated_timestamp": _milliseconds(entry.updated_at),
        "description": entry.description,
        "latest_versions": [version_reply(entry.newest, with_aliases=False)] if entry.newest else [],
        "tags": _tags(entry.tags),
        "aliases": [{"alias": alias, "version": str(version)} for alias, version in entry.aliases.items()],
    }
    return without_empty(reply)


def version_reply(entry: VersionEntry, *, with_aliases: bool = True) -> Reply:
    """Return a model version. One that was rejected by its gate is no success of registering it, and says why."""
    reply: Reply = {
        "name": entry.name,
        "version": str(entry.version),
        "creation_timestamp": _milliseconds(entry.created_at),
        "last_updated_timestamp": _milliseconds(entry.updated_at),
        "current_stage": "None",
        "description": entry.description,
        "source": entry.source,
        "run_id": entry.run_id,
        "run_link": entry.run_link,
        "status": "READY" if entry.rejected is None else "FAILED_REGISTRATION",
    }
    more = {
        "status_message": entry.rejected,
        "tags": _tags(entry.tags),
        "aliases": list(entry.aliases) if with_aliases else [],
    }
    return reply | without_empty(more)


def without_empty(reply: Reply) -> Reply:
    """Leave out what is empty, as MLflow does."""
    return {name: value for name, value in reply.items() if value not in ("", [], None)}


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _milliseconds(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)
