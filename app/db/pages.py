"""Pages of a list, by key: the next page starts after the last row of this one, whatever was added meanwhile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class PageRequest:
    """Ask for up to `size` rows after the row with key `after`."""

    size: int = 50
    after: str | None = None


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Hold rows, and the key to ask for the next ones with; None at the end."""

    items: Sequence[Row]
    next: str | None


def cut_page(rows: Sequence[Row], request: PageRequest, key: Callable[[Row], str]) -> Page[Row]:
    """Make a page of a result that was asked for one row more than the page holds."""
    items = rows[: request.size]
    return Page(items, key(items[-1]) if len(rows) > request.size else None)
