"""Model versions. They are results of jobs: what can be created here is another name for one of them."""

from app.api.deps import Services
from app.api.mlflow import requests
from app.api.mlflow.grammar import VERSIONS, parse_filter, parse_order
from app.api.mlflow.paging import Tokens
from app.api.mlflow.replies import Reply, version_reply, without_empty
from app.db import labels, mlflow, registering, registry
from app.db.labels import Notes
from app.db.session import reading
from app.domain.errors import InvalidNameError, InvalidRequestError, ModelNotFoundError
from app.domain.names import Reference, check_name, parse_reference

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


def create(wired: Services, sent: requests.NewVersionIn, base_url: str) -> Reply:
    """Register a version of ours once more: the same files under another name or number, nothing is copied."""
    check_name(sent.name)
    reference = _source(sent.source, base_url)
    with wired.sessions.begin() as session:
        registry.begin_write(session)
        labels.model_id_of(session, sent.name)
        try:
            twin = registry.resolve(session, reference)
        except ModelNotFoundError as missing:
            raise InvalidRequestError(f"The source {str(reference)!r} does not exist. {missing.detail}") from None
        version_id = registering.register_copy(session, sent.name, twin)
        labels.note_version(session, version_id, Notes(sent.description, sent.source, sent.run_id, sent.run_link))
        registry.set_tags(session, version_id, {tag.key: tag.value for tag in sent.tags})
        made = registry.versions_by_id(session, [version_id])[version_id]
    wired.view.refresh()
    return _version(wired, made.name, made.version)


def get(wired: Services, sent: requests.NumberedVersion) -> Reply:
    """Return a version."""
    return _version(wired, sent.name, sent.number)


def search(wired: Services, sent: requests.VersionSearch) -> Reply:
    """Search versions by name, number, run, source and tags."""
    conditions, order = parse_filter(sent.filter, VERSIONS), parse_order(sent.order_by, VERSIONS)
    tokens = Tokens(wired, "versions", sent)
    with reading(wired.sessions) as session:
        found = mlflow.search_versions(session, conditions, order, size=sent.max_results, after=tokens.after)
    versions = [version_reply(entry) for entry in found.items]
    return without_empty({"model_versions": versions, "next_page_token": tokens.next(found.next)})


def get_download_uri(wired: Services, sent: requests.NumberedVersion, base_url: str) -> Reply:
    """Return the address below which the files of a version lie."""
    with reading(wired.sessions) as session:
        entry = mlflow.get_version(session, sent.name, sent.number)
    return {"artifact_uri": f"{base_url}{ARTIFACTS}/{entry.name}/{entry.version}"}


def update(wired: Services, sent: requests.VersionDescription) -> Reply:
    """Replace the description of a version; everything else of it is immutable."""
    with wired.sessions.begin() as session:
        labels.describe_version(session, sent.reference, sent.description)
    return _version(wired, sent.name, sent.number)


def delete(wired: Services, sent: requests.NumberedVersion) -> Reply:
    """Take a version out of service with its aliases, unless an ensemble or a job needs it."""
    with wired.sessions.begin() as session:
        labels.delete_version(session, sent.name, sent.number)
    wired.view.refresh()
    return {}


def set_tag(wired: Services, sent: requests.VersionTagIn) -> Reply:
    """Set a tag of a version."""
    with wired.sessions.begin() as session:
        labels.set_version_tag(session, sent.reference, sent.key, sent.value)
    wired.view.refresh()
    return {}


def delete_tag(wired: Services, sent: requests.VersionTagKey) -> Reply:
    """Remove a tag of a version."""
    with wired.sessions.begin() as session:
        labels.delete_version_tag(session, sent.reference, sent.key)
    wired.view.refresh()
    return {}


def transition_stage(wired: Services, sent: requests.VersionStage) -> Reply:
    """Refuse every stage but None: aliases say what stages said."""
    if sent.stage.lower() != "none":
        raise InvalidRequestError(
            f"Leanfuse has no stages, so none {sent.stage[:40]!r}.",
            hint="Set an alias instead: `client.set_registered_model_alias(name, 'champion', version)`.",
        )
    return _version(wired, sent.name, sent.number)


def _version(wired: Services, name: str, version: int) -> Reply:
    with reading(wired.sessions) as session:
        return {"model_version": version_reply(mlflow.get_version(session, name, version))}


def _source(source: str, base_url: str) -> Reference:
    """Return the version of ours that a source names; nothing is ever opened that a client names."""
    starts = ("models:/", f"{base_url}{ARTIFACTS}/", mlflow.SOURCE_PREFIX)
    own = next((start for start in starts if source.startswith(start)), None)
    reference = _reference(source.removeprefix(own)) if own else None
    if reference is None:
        raise InvalidRequestError(
            f"The source {source[:200]!r} is no version of this registry.",
            hint="Name one as `models:/name/3` or `models:/name@alias`; `POST /v1/models` imports files of your own.",
        )
    return reference


def _reference(text: str) -> Reference | None:
    """Read `name/3` or `name@alias`; a name alone may mean another version tomorrow."""
    try:
        found = parse_reference(text)
    except InvalidNameError:
        return None
    return found if found.version is not None or found.alias is not None else None
