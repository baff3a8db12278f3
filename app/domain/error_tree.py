"""The whole error tree, whichever module a class lives in."""

from collections.abc import Iterable

from app.domain import import_errors, job_errors, prediction_errors, request_errors, store_errors, upload_errors
from app.domain.errors import LeanfuseError

__all__ = [
    "all_errors",
    "import_errors",
    "job_errors",
    "prediction_errors",
    "request_errors",
    "store_errors",
    "upload_errors",
]


def all_errors(root: type[LeanfuseError] = LeanfuseError) -> Iterable[type[LeanfuseError]]:
    """Yield every error class of the tree, the root first."""
    yield root
    for child in root.__subclasses__():
        yield from all_errors(child)
