"""Content-addressed files: what jobs make and data sets are, named by SHA-256."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.domain.errors import UnavailableError
from app.settings import Settings, StoreSettings
from app.store.base import Store
from app.store.cache import Cache
from app.store.held import hold
from app.store.local import LocalStore

__all__ = ["Store", "hold", "open_store", "store_from"]
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FORMS = "Set LEANFUSE_STORE_URL to file:///absolute/path or to s3://bucket/prefix."


def store_from(settings: Settings) -> Store:
    """Open the store that the settings name."""
    return open_store(settings.store_url, settings.store, cache=settings.cache_path)


def open_store(url: str, options: StoreSettings | None = None, *, cache: Path | None = None) -> Store:
    """Open the store at `file:///path` or `s3://bucket/prefix`; raise UnavailableError for what names none.

    Nothing is asked of a bucket yet. `cache` is the folder of its local copies.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return _open_bucket(parts.netloc, parts.path, options or StoreSettings(), cache or Settings().cache_path)
    if parts.scheme != "file" or parts.netloc:
        raise UnavailableError(f"{_without_password(url)!r} names no kind of store.", hint=_FORMS)
    return LocalStore(Path(unquote(parts.path)))


def _open_bucket(bucket: str, path: str, options: StoreSettings, cache: Path) -> Store:
    if not _BUCKET.fullmatch(bucket):
        detail = f"{bucket.rpartition('@')[2][:80]!r} names no bucket."
        hint = "Write s3://bucket/prefix; credentials go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        raise UnavailableError(detail, hint=hint)
    if options.endpoint and not options.allow_http and not options.endpoint.startswith("https://"):
        raise UnavailableError(
            f"The endpoint {_without_password(options.endpoint)!r} has no TLS.",
            hint="Give an https:// URL, or set LEANFUSE_STORE__ALLOW_HTTP=true inside a trusted network.",
        )
    # Loaded only by those who keep files in a bucket.
    from app.store.s3 import S3Store

    copies = Cache(cache, most_bytes=options.cache_bytes)
    return S3Store(bucket, unquote(path).strip("/"), options=options, cache=copies)


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)[:200]
