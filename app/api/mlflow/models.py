"""Registered models: names under which versions stand, their tags and aliases."""

import re

from app.api.deps import Services
from app.api.mlflow import requests
from app.api.mlflow.grammar import MODELS, parse_filter, parse_order
from app.api.mlflow.paging import Tokens
from app.api.mlflow.replies import Reply, model_reply, version_reply, without_empty
from app.api.v1.aliases import promote
from app.db import labels, mlflow, registry
from app.db.mlflow import ModelEntry
from app.db.session import reading
from app.domain.errors import InvalidNameError, InvalidRequestError
from app.domain.names import NAME_PATTERN, NAME_RULE, check_name

_RESERVED_ALIAS = re.compile(r"latest|[vV][0-9]+")


def create(wired: Services, sent: requests.NewModel) -> Reply:
    """Make a registered model without versions; jobs and imports add them."""
    check_name(sent.name)
    with wired.sessions.begin() as session:
        labels.create_model(session, sent.name, {tag.key: tag.value for tag in sent.tags}, sent.description)
    return _model(wired, sent.name)


def get(wired: Services, sent: requests.ModelName) -> Reply:
    """Return a registered model with its newest version, tags and aliases."""
    return _model(wired, sent.name)


def search(wired: Services, sent: requests.ModelSearch) -> Reply:
    """Search registered models by name and tags."""
    conditions, order = parse_filter(sent.filter, MODELS), parse_order(sent.order_by, MODELS)
    tokens = Tokens(wired, "models", sent)
    with reading(wired.sessions) as session:
        found = mlflow.search_models(session, conditions, order, size=sent.max_results, after=tokens.after)
    models = [model_reply(entry) for entry in found.items]
    return without_empty({"registered_models": models, "next_page_token": tokens.next(found.next)})


def rename(wired: Services, sent: requests.NewName) -> Reply:
    """Give a registered model another name; its versions keep their numbers."""
    check_name(sent.new_name)
    with wired.sessions.begin() as session:
        labels.rename_model(session, sent.name, sent.new_name)
    wired.view.refresh()
    return _model(wired, sent.new_name)


def update(wired: Services, sent: requests.ModelDescription) -> Reply:
    """Replace the description of a registered model."""
    with wired.sessions.begin() as session:
        labels.describe_model(session, sent.name, sent.description)
    wired.view.refresh()
    return _model(wired, sent.name)


def delete(wired: Services, sent: requests.ModelName) -> Reply:
    """Delete a registered model with all its versions, unless an ensemble or a job needs one of them."""
    with wired.sessions.begin() as session:
        labels.delete_model(session, sent.name)
    wired.view.refresh()
    return {}


def set_tag(wired: Services, sent: requests.ModelTagIn) -> Reply:
    """Set a tag of a registered model."""
    with wired.sessions.begin() as session:
        labels.set_model_tag(session, sent.name, sent.key, sent.value)
    return {}


def delete_tag(wired: Services, sent: requests.ModelTagKey) -> Reply:
    """Remove a tag of a registered model."""
    with wired.sessions.begin() as session:
        labels.delete_model_tag(session, sent.name, sent.key)
    return {}


def get_latest_versions(wired: Services, sent: requests.Stages) -> Reply:
    """Return the newest version that serves, which `models:/name/latest` means: there is only the stage None."""
    newest = _entry(wired, sent.name).newest
    asked = not sent.stages or "none" in [stage.lower() for stage in sent.stages]
    return without_empty({"model_versions": [version_reply(newest)] if newest and asked else []})


def set_alias(wired: Services, sent: requests.NewAlias) -> Reply:
    """Load and verify the version, then let the alias name it."""
    _check_alias(sent.alias)
    promote(wired, sent.name, sent.alias, sent.number)
    wired.view.refresh()
    return {}


def get_by_alias(wired: Services, sent: requests.ModelAlias) -> Reply:
    """Return the version that an alias names."""
    with reading(wired.sessions) as session:
        aliases = mlflow.get_model(session, sent.name).aliases
        if sent.alias not in aliases:
            raise InvalidRequestError(f"Registered model alias {sent.alias[:80]} not found.")
        return {"model_version": version_reply(mlflow.get_version(session, sent.name, aliases[sent.alias]))}


def delete_alias(wired: Services, sent: requests.ModelAlias) -> Reply:
    """Remove an alias, if there is one."""
    with wired.sessions.begin() as session:
        if sent.alias in mlflow.get_model(session, sent.name).aliases:
            registry.delete_alias(session, sent.name, sent.alias)
    wired.view.refresh()
    return {}


def _check_alias(alias: str) -> None:
    """Refuse what is no alias of ours, and what MLflow's clients read as something else."""
    if _RESERVED_ALIAS.fullmatch(alias):
        raise InvalidNameError(f"The alias {alias!r} is reserved.", hint="Choose another word.")
    if not re.fullmatch(NAME_PATTERN[1:-1], alias) or ".." in alias:
        raise InvalidNameError(f"Invalid alias name {alias[:80]!r}.", hint=f"An alias has {NAME_RULE}.")


def _entry(wired: Services, name: str) -> ModelEntry:
    with reading(wired.sessions) as session:
        return mlflow.get_model(session, name)


def _model(wired: Services, name: str) -> Reply:
    return {"registered_model": model_reply(_entry(wired, name))}
