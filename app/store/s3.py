"""Artifacts in an S3-compatible bucket: `<prefix>/blobs/sha256/ab/<digest>`, as in a folder; read through a cache."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from app.domain.datasets import FileRef
from app.domain.errors import ArtifactCorruptedError
from app.domain.store_errors import StoreUnavailableError
from app.logging import get_logger
from app.settings import StoreSettings
from app.store.cache import Cache
from app.store.local import HINT, check_digest, file_ref

log = get_logger(__name__)
# One request for each part, so that a large file needs no long request, and a broken one is repeated alone.
_PART_BYTES = 16 * 2**20
_PARTS_AT_ONCE = 4
_LOCKS = 64
_QUICK_SECONDS = 3.0


class S3Store:
    """Keep files in a bucket. Credentials are what AWS's own tools take: `AWS_ACCESS_KEY_ID`, a role, and others."""

    def __init__(self, bucket: str, prefix: str, *, options: StoreSettings, cache: Cache) -> None:
        self._name = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = _open(bucket, prefix, options, seconds=options.retry_seconds)
        # Whoever asks whether all is well wants to hear soon that it is not.
        self._quick = _open(bucket, prefix, options, seconds=min(_QUICK_SECONDS, options.retry_seconds))
        self._cache = cache
        self._damaged: set[str] = set()
        self._turns = [threading.Lock() for _ in range(_LOCKS)]

    def put(self, path: Path) -> FileRef:
        """Upload the file unless the bucket has it; it appears there whole, or not at all."""
        reference = file_ref(path)
        key = _key(reference.sha256)
        if reference.sha256 in self._damaged or self._size(self._bucket, key) != reference.size_bytes:
            with self._speaking():
                obstore.put(self._bucket, key, path, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
            self._damaged.discard(reference.sha256)
        return reference

    def fetch(self, sha256: str) -> Path:
        """Return the copy in the cache, downloaded and checked first where there is none."""
        check_digest(sha256)
        # Threads that want the same file wait for one download.
        with self._turns[int(sha256[:8], 16) % _LOCKS]:
            return self._cache.find(sha256) or self._download(sha256)

    def contains(self, sha256: str) -> bool:
        """Ask the bucket."""
        return self._size(self._quick, _key(sha256)) is not None

    def delete(self, sha256: str) -> None:
        """Remove the file from the bucket and from this host's cache."""
        with self._speaking():
            obstore.delete(self._bucket, _key(sha256))
        self._cache.delete(sha256)

    def _download(self, sha256: str) -> Path:
        key = _key(sha256)
        size_bytes = self._size(self._bucket, key)
        if size_bytes is None:
            raise ArtifactCorruptedError(f"The artifact {sha256} is missing in {self._name}.", hint=HINT)
        try:
            return self._cache.keep(sha256, self._parts(key, size_bytes))
        except ArtifactCorruptedError:
            self._damaged.add(sha256)
            raise

    def _parts(self, key: str, size_bytes: int) -> Iterator[bytes]:
        for start in range(0, size_bytes, _PART_BYTES):
            with self._speaking():
                part = obstore.get_range(self._bucket, key, start=start, length=min(_PART_BYTES, size_bytes - start))
            yield part.to_bytes()

    def _size(self, bucket: Bucket, key: str) -> int | None:
        """Return the size of an object, None where there is none."""
        with self._speaking():
            try:
                return obstore.head(bucket, key)["size"]
            except FileNotFoundError:
                self._check_bucket(bucket, key)
                return None

    def _check_bucket(self, bucket: Bucket, key: str) -> None:
        """Tell a bucket without the object from no bucket: only an answer with a body says which."""
        try:
            obstore.get(bucket, key)
        except FileNotFoundError as missing:
            if _code(str(missing)) == "NoSuchBucket":
                raise StoreUnavailableError(
                    f"There is no bucket for {self._name}.", hint="Create it, or correct LEANFUSE_STORE_URL."
                ) from None

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Turn what the client raises into our error; its own text may hold what an answer must not show."""
        try:
            yield
        except BaseError as error:
            reason, hint = _explain(str(error))
            log.warning("store_failed", store=self._name, reason=reason)
            raise StoreUnavailableError(f"The store {self._name} {reason}.", hint=hint) from None


def _open(bucket: str, prefix: str, options: StoreSettings, *, seconds: float) -> Bucket:
    chosen: dict[str, Any] = {
        "endpoint": options.endpoint,
        "region": options.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
    }
    return Bucket(
        bucket,
        prefix=prefix or None,
        virtual_hosted_style_request=not options.path_style,
        # Not every server that speaks S3 knows how to delete several at a time.
        disable_bulk_delete=True,
        client_options={
            "allow_http": options.allow_http,
            "connect_timeout": timedelta(seconds=min(5.0, seconds)),
            "timeout": timedelta(seconds=options.timeout_seconds if seconds > _QUICK_SECONDS else _QUICK_SECONDS),
        },
        retry_config={
            "max_retries": 10,
            "retry_timeout": timedelta(seconds=seconds),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=max(0.2, seconds / 4)),
                "base": 2,
            },
        },
        **{name: value for name, value in chosen.items() if value is not None},
    )


def _key(sha256: str) -> str:
    check_digest(sha256)
    return f"blobs/sha256/{sha256[:2]}/{sha256}"


def _code(text: str) -> str:
    found = re.search(r"<Code>(\w{1,60})</Code>", text)
    return found[1] if found else ""


def _explain(text: str) -> tuple[str, str]:
    """Return what happened, and how to mend it, from the client's own account."""
    status = re.search(r"status code: (\d{3})", text)
    if "169.254.169.254" in text or "CredentialsNotLoaded" in text:
        return "was given no credentials", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this host a role."
    if status is None:
        return "does not answer", "Look whether it runs, and check LEANFUSE_STORE__ENDPOINT."
    answered = _code(text) or status[1]
    if status[1] in ("401", "403"):
        hint = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may read, write and delete there."
        return f"refused a request ({answered})", hint
    return f"failed ({answered})", "Look at its log; what failed is tried again."
