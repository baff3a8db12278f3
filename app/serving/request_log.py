"""A log of some predictions: what was asked of which version, and how long it took. Off unless a share is set."""

import random
from contextvars import ContextVar

from app.db.registry import VersionRow
from app.logging import get_logger

log = get_logger(__name__)
# Set where a request is received, read where it is answered; the id is also that of the reply's header.
request_id: ContextVar[str] = ContextVar("request_id", default="")


class RequestLog:
    """Note a share of all predictions, chosen at random. The rows themselves are never written."""

    def __init__(self, share: float = 0.0) -> None:
        self._share = share

    def note(
        self, version: VersionRow, *, rows: int, outcome: str, queue_seconds: float = 0.0, run_seconds: float = 0.0
    ) -> None:
        """Write a line about a prediction, if chance wants it."""
        if not self._share or random.random() >= self._share:  # noqa: S311 - a sample is no secret
            return
        log.info(
            "prediction",
            request_id=request_id.get(),
            model=version.name,
            version=version.version,
            digest=version.digest,
            rows=rows,
            outcome=outcome,
            queue_milliseconds=round(1000 * queue_seconds, 3),
            run_milliseconds=round(1000 * run_seconds, 3),
        )
