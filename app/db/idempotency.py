"""Answers to requests that may be sent again with the same key.

Claim the key, do the work and keep the answer in ONE transaction: whoever repeats the request meanwhile waits for it.
"""

from typing import Any, NamedTuple

from sqlalchemy.orm import Session


class Answer(NamedTuple):
    """What the first request was answered."""

    code: int
    body: dict[str, Any]


def claim_key(session: Session, key: str, request_sha256: str, *, lifetime_seconds: float = 86_400) -> Answer | None:
    """Return the kept answer, or None when this transaction is the first with that key.

    Raise IdempotencyKeyReusedError for another request, IdempotencyInProgressError when the first has not ended.
    """
    raise NotImplementedError


def keep_answer(session: Session, key: str, answer: Answer) -> None:
    """Keep the answer for whoever repeats the request."""
    raise NotImplementedError
