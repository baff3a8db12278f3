"""What a bucket adds: a cache of bounded size, outages that are told and pass, credentials that nobody sees."""

import errno
import hashlib
import os
import uuid
from pathlib import Path
from traceback import format_exception
from typing import Any

import obstore
import pytest
from structlog.testing import capture_logs

from app.domain.errors import UnavailableError
from app.domain.store_errors import StoreUnavailableError
from app.settings import Settings, StoreSettings
from app.store import hold, open_store, store_from
from app.store.cache import Cache
from app.store.s3 import S3Store
from tests.factories import sha256
from tests.object_store import BUCKET, SECRET_KEY, ObjectStore

pytestmark = pytest.mark.usefixtures("credentials")


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def bucket(server: ObjectStore, cache: Path, **options: Any) -> S3Store:
    chosen = server.options.model_copy(update=options)
    store = open_store(f"s3://{BUCKET}/{uuid.uuid4()}", chosen, cache=cache)
    assert isinstance(store, S3Store)
    return store


@pytest.fixture
def store(shared_object_store: ObjectStore, tmp_path: Path) -> S3Store:
    return bucket(shared_object_store, tmp_path / "cache")


def test_a_large_file_travels_in_parts(store: S3Store, tmp_path: Path) -> None:
    content = os.urandom(20 * 2**20)
    reference = store.put(write(tmp_path / "large", content))

    assert store.fetch(reference.sha256).read_bytes() == content


def test_what_the_bucket_has_is_not_sent_again(store: S3Store, tmp_path: Path) -> None:
    source = write(tmp_path / "file", b"weights")
    digest = store.put(source).sha256
    key = f"blobs/sha256/{digest[:2]}/{digest}"
    first = obstore.head(store._bucket, key)
    obstore.put(store._bucket, key, b"WEIGHTS")
    store.put(source)

    assert first["size"] == 7
    assert bytes(obstore.get(store._bucket, key).bytes()) == b"WEIGHTS", "of the same name and size: left alone"


def test_a_copy_is_kept_and_a_damaged_one_is_fetched_anew(store: S3Store, tmp_path: Path) -> None:
    digest = store.put(write(tmp_path / "file", b"weights")).sha256
    first = store.fetch(digest)
    assert store.fetch(digest) == first
    first.write_bytes(b"garbage")

    assert store.fetch(digest).read_bytes() == b"weights"


def test_an_outage_is_told_copies_still_serve_and_it_passes(own_object_store: ObjectStore, tmp_path: Path) -> None:
    store = bucket(own_object_store, tmp_path / "cache", retry_seconds=0.5)
    known = store.put(write(tmp_path / "known", b"known")).sha256
    unknown = store.put(write(tmp_path / "unknown", b"unknown")).sha256
    store.fetch(known)
    own_object_store.stop()

    assert store.fetch(known).read_bytes() == b"known"
    for ask in (
        lambda: store.fetch(unknown),
        lambda: store.put(write(tmp_path / "new", b"new")),
        lambda: store.contains(known),
        lambda: store.delete(known),
    ):
        with pytest.raises(StoreUnavailableError, match="does not answer") as told:
            ask()
        assert "LEANFUSE_STORE__ENDPOINT" in told.value.hint
    own_object_store.start()
    assert store.fetch(unknown).read_bytes() == b"unknown"
    assert store.contains(known)


def test_a_bucket_that_is_not_there_is_told(shared_object_store: ObjectStore, tmp_path: Path) -> None:
    store = open_store("s3://no-such-bucket", shared_object_store.options, cache=tmp_path / "cache")

    for ask in (store.contains, store.fetch):
        with pytest.raises(StoreUnavailableError, match=r"no bucket for s3://no-such-bucket\.") as told:
            ask(sha256("x"))
        assert "LEANFUSE_STORE_URL" in told.value.hint


def test_a_refusal_says_what_to_check_and_shows_no_secret(
    shared_object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "another-secret-than-the-right-one"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong)
    store = bucket(shared_object_store, tmp_path / "cache")

    with capture_logs() as logged, pytest.raises(StoreUnavailableError, match="refused a request") as told:
        store.put(write(tmp_path / "file", b"weights"))
    assert "AWS_SECRET_ACCESS_KEY" in told.value.hint
    traceback = "".join(format_exception(told.value))
    seen = f"{told.value!r} {traceback} {store!r} {vars(store)} {logged}"
    assert "store_failed" in seen, "the log was looked at too"
    assert wrong not in seen
    assert SECRET_KEY not in seen


def test_the_cache_keeps_what_was_asked_for_last(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_bytes=2500, spared_seconds=0)
    contents = {digest_of(content): content for content in (bytes([place]) * 1000 for place in range(4))}
    first, second, third, fourth = contents
    for digest in (first, second):
        cache.keep(digest, [contents[digest]])
    cache.find(first)
    cache.keep(third, [contents[third]])

    assert [cache.find(digest) is not None for digest in contents] == [True, False, True, False]
    cache.keep(fourth, [contents[fourth]])
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 2500


def test_the_cache_spares_what_somebody_is_about_to_open(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_bytes=0)
    path = cache.keep(digest_of(b"weights"), [b"weights"])

    assert path.read_bytes() == b"weights"


def test_a_job_keeps_its_files_when_the_cache_makes_room(store: S3Store, tmp_path: Path) -> None:
    held = hold(store, tmp_path / "job" / "inputs")
    digest = held.put(write(tmp_path / "file", b"weights")).sha256
    path = held.fetch(digest)
    store._cache.delete(digest)

    assert path.read_bytes() == b"weights"
    assert path.is_relative_to(tmp_path / "job")
    assert held.fetch(digest) == path


def test_a_job_on_another_disk_than_the_cache_gets_copies(
    store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: Path, _place: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    digest = store.put(write(tmp_path / "file", b"weights")).sha256

    assert hold(store, tmp_path / "inputs").fetch(digest).read_bytes() == b"weights"


def test_the_environment_says_where_a_bucket_is(
    shared_object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEANFUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LEANFUSE_STORE_URL", f"s3://{BUCKET}/{uuid.uuid4()}")
    monkeypatch.setenv("LEANFUSE_STORE__ENDPOINT", shared_object_store.endpoint)
    monkeypatch.setenv("LEANFUSE_STORE__ALLOW_HTTP", "true")
    settings = Settings()
    digest = store_from(settings).put(write(tmp_path / "file", b"weights")).sha256

    copy = open_store(settings.store_url).fetch(digest)
    assert copy.read_bytes() == b"weights"
    assert copy.is_relative_to(tmp_path / "home" / "cache")


def test_a_folder_needs_no_second_names(tmp_path: Path) -> None:
    folder = open_store(tmp_path.as_uri())
    assert hold(folder, tmp_path / "inputs") is folder


@pytest.mark.parametrize(
    ("url", "options", "told"),
    [
        ("s3://", {}, "names no bucket"),
        ("s3:bucket", {}, "names no bucket"),
        ("s3://key:secret@bucket/prefix", {}, "names no bucket"),
        ("s3://bucket", {"endpoint": "http://key:secret@host:9000"}, "has no TLS"),
        ("gs://bucket", {}, "names no kind of store"),
        ("ftp://key:secret@host", {}, "names no kind of store"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_start(
    tmp_path: Path, url: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UnavailableError, match=told) as refused:
        open_store(url, StoreSettings(**options), cache=tmp_path)
    assert refused.value.hint
    assert "secret" not in refused.value.detail
