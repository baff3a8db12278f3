"""Content-addressed files: what jobs make and data sets are, named by SHA-256."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.domain.errors import UnavailableError
from app.store.base import Store
from app.store.local import LocalStore


def open_store(url: str) -> Store:
    """Open the store that LEANFUSE_STORE_URL names: `file:///path`."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc:
        raise UnavailableError(
            f"{url!r} names no kind of store.", hint="Set LEANFUSE_STORE_URL to file:///absolute/path."
        )
    return LocalStore(Path(unquote(parts.path)))
