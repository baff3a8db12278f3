"""The end of a job that succeeded: its state, its versions and everything about them in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.db.attempts import AttemptEnd, Lease
from app.db.session import Sessions
from app.domain.models import VersionManifest


@dataclass(frozen=True)
class NewVersion:
    """A version to register. Its files are in the store; `name` is the model's."""

    name: str
    manifest: VersionManifest


@dataclass(frozen=True)
class Finished:
    """Say how finishing went. `cancelled`: a cancel came first, so nothing was registered; call `cancelled` next."""

    outcome: Literal["succeeded", "cancelled", "fenced"]
    version_ids: tuple[str, ...] = ()


def finish(sessions: Sessions, lease: Lease, versions: Sequence[NewVersion], *, end: AttemptEnd) -> Finished:
    """Register the versions, in order, and end the job; the last one is the job's result.

    Calling it again after a lost connection answers what the first call did.
    """
    raise NotImplementedError
