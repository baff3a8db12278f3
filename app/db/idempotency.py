"""Answers to requests that may be sent again with the same key.

Claim the key, do the work and keep the answer in ONE transaction: whoever repeats the request meanwhile waits for it.
"""

from typing import Any, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.db.base import insert_missing, later, now
from app.db.tables import IdempotencyRecord
from app.domain.request_errors import IdempotencyInProgressError, IdempotencyKeyReusedError


class Answer(NamedTuple):
    """What the first request was answered."""

    code: int
    body: dict[str, Any]


def claim_key(session: Session, key: str, request_sha256: str, *, lifetime_seconds: float = 86_400) -> Answer | None:
    """Return the kept answer, or None when this transaction is the first with that key.

    Raise IdempotencyKeyReusedError for another request, IdempotencyInProgressError when the first has not ended.
    """
    session.execute(delete(IdempotencyRecord).where(IdempotencyRecord.key == key, IdempotencyRecord.expires_at < now()))
    row = {"key": key, "request_sha256": request_sha256, "expires_at": later(lifetime_seconds)}
    if insert_missing(session, IdempotencyRecord, [row]) == 1:
        return None
    kept = session.scalars(select(IdempotencyRecord).where(IdempotencyRecord.key == key)).one()
    if kept.request_sha256 != request_sha256:
        raise IdempotencyKeyReusedError(
            "This idempotency key came with another request before.", hint="Use a new key for a new request."
        )
    if kept.response_code is None or kept.response_body is None:
        raise IdempotencyInProgressError("The first request with this key has not ended.", hint="Try again shortly.")
    return Answer(kept.response_code, kept.response_body)


def keep_answer(session: Session, key: str, answer: Answer) -> None:
    """Keep the answer for whoever repeats the request."""
    kept = update(IdempotencyRecord).where(IdempotencyRecord.key == key)
    kept = kept.values(response_code=answer.code, response_body=answer.body)
    session.execute(kept.execution_options(synchronize_session=False))
