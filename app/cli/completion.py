"""Completions that a shell asks for while somebody types: names that the service knows, or nothing, at once."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import typer

from app.cli.config import read_config

if TYPE_CHECKING:
    from app.client import Connection

SECONDS = 1.0
MOST = 100


def complete_model(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer models; after `name@` its aliases, after `name/` its versions."""
    name, mark, _ = incomplete.replace("/", "@").partition("@")
    if not mark:
        return _offered(context, incomplete, _models)
    if "@" in incomplete:
        return _offered(context, incomplete, lambda client: _aliases(client, name))
    return _offered(context, incomplete, lambda client: _versions(client, name))


def complete_job(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer jobs, the newest first."""
    return _offered(context, incomplete, _jobs)


def complete_dataset(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer data sets."""
    return _offered(context, incomplete, _datasets)


def complete_alias(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the aliases of the model that was named before."""
    name = str(context.params.get("name") or context.params.get("reference") or "").split("/")[0].split("@")[0]
    prefix = f"{name}@"
    found = _offered(context, prefix + incomplete, lambda client: _aliases(client, name))
    return [(text.removeprefix(prefix), told) for text, told in found]


def _offered(context: typer.Context, incomplete: str, find: Any) -> list[tuple[str, str]]:  # noqa: ANN401
    """Return what is found within a second; a shell's prompt is no place for errors."""
    from app.client import Connection

    try:
        config = read_config()
        with closing(Connection(str(context.params.get("url") or config.url), timeout_seconds=SECONDS)) as client:
            return [item for item in find(client) if item[0].startswith(incomplete)]
    except Exception:  # noqa: BLE001 - whatever goes wrong, there is just nothing to offer
        return []


def _list(client: "Connection", path: str, collection: str) -> list[dict[str, Any]]:
    # Once and no more: retries would hold the prompt up.
    answer = client.send("GET", path, params={"page_size": MOST}, repeatable=False).json()
    found: list[dict[str, Any]] = answer[collection]
    return found


def _models(client: "Connection") -> Iterator[tuple[str, str]]:
    for model in _list(client, "/v1/models", "models"):
        yield model["name"], f"{model['newest']['method']}, version {model['newest']['version']}"


def _aliases(client: "Connection", name: str) -> Iterator[tuple[str, str]]:
    model = client.send("GET", f"/v1/models/{name}", repeatable=False).json()
    for alias, version in model["aliases"].items():
        yield f"{name}@{alias}", f"version {version}"


def _versions(client: "Connection", name: str) -> Iterator[tuple[str, str]]:
    for version in _list(client, f"/v1/models/{name}/versions", "versions"):
        yield f"{name}/{version['version']}", f"{version['method']}, {version['state']}"


def _jobs(client: "Connection") -> Iterator[tuple[str, str]]:
    for job in _list(client, "/v1/jobs", "jobs"):
        yield job["id"], f"{job['name']}, {job['state']}"


def _datasets(client: "Connection") -> Iterator[tuple[str, str]]:
    for dataset in _list(client, "/v1/datasets", "datasets"):
        yield dataset["name"], f"{dataset['schema']['features']}, {dataset['schema']['task']}"
