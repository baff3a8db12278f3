"""Have in memory what requests will ask for next, before they can."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from app.db.registry import VersionRow
from app.domain.errors import LeanfuseError
from app.domain.names import Reference, parse_reference
from app.logging import get_logger
from app.serving.predictor import Predictor
from app.serving.view import Preparation, RegistryIndex

log = get_logger(__name__)
Subject = TypeVar("Subject")
Result = TypeVar("Result")


def warming(predictor: Predictor, pinned: Sequence[str]) -> Preparation:
    """Return what is done with a new state of the registry before requests see it.

    Where a name or an alias moves on from a version that is in memory, the next one is loaded first: nobody who asks by
    that name waits. So is a candidate that is rolled out where a loaded version answers. What is pinned is loaded and
    kept. A version that cannot be loaded is told in the log.
    """
    references = [parse_reference(text) for text in pinned]

    def prepare(old: RegistryIndex, new: RegistryIndex) -> None:
        for before, after in _moved(old, new):
            if _quietly(predictor.is_loaded, before):
                _quietly(predictor.load, after)
        for (name, alias), rollout in new.rollouts.items():
            stable, candidate = _found(new, Reference(name, alias=alias)), new.by_id.get(rollout.version_id)
            if candidate is not None and stable is not None and _quietly(predictor.is_loaded, stable):
                _quietly(predictor.load, candidate)
        if references:
            _quietly(predictor.pin, [row for reference in references if (row := _found(new, reference)) is not None])

    return prepare


def _moved(old: RegistryIndex, new: RegistryIndex) -> Iterator[tuple[VersionRow, VersionRow]]:
    """Yield where names and aliases that both states have led before, and where they lead now."""
    for name in new.models.keys() & old.models.keys():
        same_versions = new.models[name].keys() == old.models[name].keys()
        if same_versions and new.aliases.get(name) == old.aliases.get(name):
            continue
        references = [Reference(name), *(Reference(name, alias=alias) for alias in new.aliases.get(name, {}))]
        for reference in references:
            before, after = _found(old, reference), _found(new, reference)
            if before is not None and after is not None and before.id != after.id:
                yield before, after


def _found(index: RegistryIndex, reference: Reference) -> VersionRow | None:
    try:
        return index.resolve(reference)
    except LeanfuseError:
        return None


def _quietly(function: Callable[[Subject], Result], subject: Subject) -> Result | None:
    try:
        return function(subject)
    except LeanfuseError as failed:
        log.warning("not_warmed", reason=failed.detail)
        return None
