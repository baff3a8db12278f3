"""Find versions for a request: in memory, and once more after a refresh if another process has just made them."""

from typing import Annotated

from fastapi import Path
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from app.api.deps import Services
from app.db import registry, retiring
from app.db.registry import VersionRow
from app.db.session import reading
from app.domain.errors import ModelNotFoundError
from app.domain.names import NAME_PATTERN, Reference
from app.serving.view import Route

# A path that breaks the naming rule names nothing: 404.
NameInPath = Annotated[str, Path(pattern=NAME_PATTERN, description="Name of the model.")]
AliasInPath = Annotated[str, Path(pattern=NAME_PATTERN, description="An alias of the model.")]
VersionInPath = Annotated[int, Path(ge=1, lt=2**31, description="Number of the version.")]


async def find_version(wired: Services, reference: Reference, *, kind: str | None = None) -> VersionRow:
    """Return the version that a reference names; raise ModelNotFoundError, also when it is not of that kind."""
    try:
        found = wired.view.resolve(reference)
    except ModelNotFoundError:
        found = await run_in_threadpool(look_again, wired, reference)
    return check_kind(found, kind)


ROUTING_KEY = "leanfuse-routing-key"


async def route_version(wired: Services, reference: Reference, headers: Headers, *, kind: str | None = None) -> Route:
    """Return the version that answers a request to a reference, and what runs beside it; raise as `find_version`."""
    key = headers.get(ROUTING_KEY, "") if reference.alias is not None else ""
    try:
        route = wired.view.route(reference, key)
    except ModelNotFoundError:
        await run_in_threadpool(look_again, wired, reference)
        route = wired.view.route(reference, key)
    check_kind(route.version, kind)
    return route


def find_in_view(wired: Services, reference: Reference) -> VersionRow:
    """Return the version that a reference names, for handlers that run in a thread; raise ModelNotFoundError."""
    try:
        return wired.view.resolve(reference)
    except ModelNotFoundError:
        return look_again(wired, reference)


def look_again(wired: Services, reference: Reference) -> VersionRow:
    """Return what another process registered just now; raise ModelDeletedError for a version that there was."""
    wired.view.refresh()
    try:
        return wired.view.resolve(reference)
    except ModelNotFoundError:
        if reference.version is not None:
            with reading(wired.sessions) as session:
                retiring.check_deleted(session, reference.name, reference.version)
        raise


def check_kind(found: VersionRow, kind: str | None) -> VersionRow:
    """Return the version; raise ModelNotFoundError when an ensemble was asked for and this is none."""
    if kind is not None and found.manifest.kind != kind:
        raise ModelNotFoundError(f"{found.name!r} is no {kind}.", hint=f"GET /v1/models/{found.name} describes it.")
    return found


def member_names(wired: Services, row: VersionRow) -> list[str]:
    """Return what an ensemble fuses, each as `name/version`, in the order of its graph's outputs; else nothing."""
    links = [link for link in row.manifest.links if link.role == "member"]
    with reading(wired.sessions) as session:
        found = registry.versions_by_id(session, [link.version_id for link in links])
    ordered = [found[link.version_id] for link in sorted(links, key=lambda link: link.position)]
    return [f"{member.name}/{member.version}" for member in ordered]


def etag(digest: str) -> str:
    """Return a digest as an ETag."""
    return f'"{digest}"'


def matches(header: str, digest: str) -> bool:
    """Tell whether an If-None-Match header names this digest."""
    return header.strip() == "*" or etag(digest) in [tag.strip().removeprefix("W/") for tag in header.split(",")]
