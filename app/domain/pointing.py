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


def pointed(wrong: LeanfuseError, pointer: str) -> LeanfuseError:
    """Return the same error with the field that it is about."""
    return type(wrong)(wrong.detail, hint=wrong.hint, errors=[FieldError(pointer, wrong.detail, wrong.slug)])
