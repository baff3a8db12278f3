"""The registry in memory: predictions resolve names and aliases here and never ask the database."""

import difflib
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from app.db import registry
from app.db.registry import OpenRollout, Snapshot, VersionRow
from app.db.session import Sessions, reading
from app.domain.errors import ModelNotFoundError, UnavailableError
from app.domain.names import Reference
from app.domain.rollouts import share_of
from app.logging import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class Route:
    """Say which version answers, and which one runs beside it unseen, for which rollout."""

    version: VersionRow
    shadow: VersionRow | None = None
    rollout_id: str = ""


@dataclass(frozen=True)
class RegistryIndex:
    """Hold one state of the registry."""

    revision: int = -1
    models: Mapping[str, Mapping[int, VersionRow]] = field(default_factory=dict)
    aliases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    by_id: Mapping[str, VersionRow] = field(default_factory=dict)
    rollouts: Mapping[tuple[str, str], OpenRollout] = field(default_factory=dict)

    def route(self, reference: Reference, key: str) -> Route:
        """Return the version that answers a request, and the one that runs beside it; see RegistryView.route."""
        version = self.resolve(reference)
        rollout = self.rollouts.get((reference.name, reference.alias)) if reference.alias and self.rollouts else None
        candidate = self.by_id.get(rollout.version_id) if rollout else None
        if rollout is None or candidate is None:
            return Route(version)
        chosen = share_of(rollout.id, key or secrets.token_hex(8)) < rollout.percent
        if rollout.mode == "split":
            return Route(candidate if chosen else version)
        return Route(version, candidate, rollout.id) if chosen else Route(version)

    def resolve(self, reference: Reference) -> VersionRow:
        """Return the version that a reference names; see RegistryView.resolve."""
        versions = self.models.get(reference.name)
        if not versions:
            raise _missing(f"There is no model {reference.name!r}.", "model", reference.name, list(self.models))
        number = _number(self, reference)
        if number not in versions:
            detail = f"Model {reference.name!r} has no version {number} that can serve."
            raise _missing(detail, "version", str(number), [str(known) for known in versions])
        return versions[number]


# What is done with a new state before it takes the place of the old one.
Preparation: TypeAlias = Callable[[RegistryIndex, RegistryIndex], None]


class RegistryView:
    """Hold one snapshot of the registry, exchanged as a whole, at most `seconds` old while the database answers."""

    def __init__(self, sessions: Sessions, prepare: Preparation = lambda _old, _new: None) -> None:
        self._sessions = sessions
        self._prepare = prepare
        self._index = RegistryIndex()
        self._snapshot: Snapshot | None = None
        self._refreshing = threading.Lock()

    @property
    def loaded(self) -> bool:
        """Tell whether the registry was read at least once."""
        return self._index.revision >= 0

    def refresh(self) -> None:
        """Read the registry again if it has changed; call it after every write of this process."""
        with self._refreshing, reading(self._sessions) as session:
            if registry.revision(session) != self._index.revision:
                snapshot = registry.snapshot(session, before=self._snapshot)
                found = _make_index(snapshot)
                self._prepare(self._index, found)
                self._snapshot, self._index = snapshot, found

    def follow(self, stop: threading.Event, *, seconds: float = 1.0) -> None:
        """Refresh until told to stop. While the database is away the last snapshot keeps serving."""
        while not stop.wait(seconds):
            try:
                self.refresh()
            except UnavailableError as away:
                log.warning("registry_view_stale", reason=away.detail)

    def resolve(self, reference: Reference) -> VersionRow:
        """Return the version that a reference names now; raise ModelNotFoundError that lists what there is.

        A name alone names its newest version that was not rejected; raise VersionRejectedError when it has no other.
        """
        return self._index.resolve(reference)

    def route(self, reference: Reference, key: str = "") -> Route:
        """Return the version that answers a request: an alias may have a candidate that gets a share of them.

        Requests of one key always get the same version, and keep it while the candidate's share grows; without a key
        chance decides. Raise as `resolve`.
        """
        return self._index.route(reference, key)

    def versions(self, name: str) -> Sequence[VersionRow]:
        """Return all versions of a model that can be asked, the newest first."""
        known = self._index.models.get(name, {})
        return [known[number] for number in sorted(known, reverse=True)]

    def every_version(self) -> Sequence[VersionRow]:
        """Return all versions of all models, by name and number."""
        return list(self._index.by_id.values())

    def by_id(self, version_id: str) -> VersionRow | None:
        """Return a version by id, or None."""
        return self._index.by_id.get(version_id)


def _number(index: RegistryIndex, reference: Reference) -> int:
    if reference.version is not None:
        return reference.version
    versions = index.models[reference.name]
    if reference.alias is None:
        served = [number for number, row in versions.items() if row.state in registry.SERVED_STATES]
        if not served:
            raise registry.only_rejected([versions[number] for number in sorted(versions, reverse=True)])
        return max(served)
    aliases = index.aliases.get(reference.name, {})
    if reference.alias not in aliases:
        detail = f"Model {reference.name!r} has no alias {reference.alias!r}."
        raise _missing(detail, "alias", reference.alias, list(aliases))
    return aliases[reference.alias]


def _make_index(snapshot: Snapshot) -> RegistryIndex:
    models: dict[str, dict[int, VersionRow]] = {}
    for row in snapshot.versions:
        models.setdefault(row.name, {})[row.version] = row
    return RegistryIndex(
        snapshot.revision, models, snapshot.aliases, {row.id: row for row in snapshot.versions}, snapshot.rollouts
    )


def _missing(detail: str, noun: str, given: str, known: Sequence[str]) -> ModelNotFoundError:
    near = difflib.get_close_matches(given, known, n=1)
    listed = ", ".join(sorted(known)[:10])
    hint = f"Did you mean `{near[0]}`?" if near else f"Known: {listed}." if listed else f"There is no {noun} yet."
    return ModelNotFoundError(detail, hint=hint)
