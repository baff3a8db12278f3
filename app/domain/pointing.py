"""Say in which field of a spec an error occurred, when what raised it could not know."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.domain.errors import ConflictError, FieldError, InvalidInputError, LeanfuseError
from app.domain.job_errors import MethodNotApplicableError


@contextmanager
def pointing_at(pointer: str) -> Iterator[None]:
    """Let errors that do not say where they occurred point here (RFC 6901)."""
    try:
        yield
    except (InvalidInputError, ConflictError, MethodNotApplicableError) as wrong:
        if wrong.errors:
            raise
        raise pointed(wrong, pointer) from None


@contextmanager
def within_step(place: int, name: str) -> Iterator[None]:
    """Let errors of a method that is step `place` (from 1) of a chain say so, and point into that step."""
    try:
        yield
    except (InvalidInputError, MethodNotApplicableError) as wrong:
        own = f"/method/steps/{place - 1}"
        fields = [
            field._replace(pointer=own + field.pointer.removeprefix("/method"))
            for field in wrong.errors or [FieldError("/method", wrong.detail, wrong.slug)]
            if field.pointer.startswith("/method")
        ]
        raise type(wrong)(f"Step {place} ({name}): {wrong.detail}", hint=wrong.hint, errors=fields) from None


def pointed(wrong: LeanfuseError, pointer: str) -> LeanfuseError:
    """Return the same error with the field that it is about."""
    return type(wrong)(wrong.detail, hint=wrong.hint, errors=[FieldError(pointer, wrong.detail, wrong.slug)])
