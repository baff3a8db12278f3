"""What a folder and a bucket have in common: content goes in whole, and comes out as it was or not at all."""

import hashlib
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest

from app.domain.errors import ArtifactCorruptedError
from app.store import open_store
from app.store.base import Store
from app.store.s3 import S3Store
from tests.factories import sha256
from tests.object_store import BUCKET, ObjectStore


@dataclass(frozen=True)
class Kept:
    """A store, another opener of it on another host, and how to change what lies in it behind its back."""

    store: Store
    elsewhere: Store
    overwrite: Callable[[str, bytes], None]


def _folder(tmp_path: Path) -> Kept:
    url = (tmp_path / "store").as_uri()
    store = open_store(url)
    return Kept(store, open_store(url), lambda digest, content: _overwrite(store, digest, content))


def _overwrite(store: Store, digest: str, content: bytes) -> None:
    store.fetch(digest).write_bytes(content)


def _bucket(tmp_path: Path, server: ObjectStore) -> Kept:
    url = f"s3://{BUCKET}/{uuid.uuid4()}"
    store, elsewhere = (open_store(url, server.options, cache=tmp_path / name) for name in ("cache", "other"))
    assert isinstance(store, S3Store)

    def overwrite(digest: str, content: bytes) -> None:
        obstore.put(store._bucket, f"blobs/sha256/{digest[:2]}/{digest}", content)
        store._cache.delete(digest)

    return Kept(store, elsewhere, overwrite)


@pytest.fixture(params=["folder", "bucket"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    """Run the test on a folder and on a bucket of a real S3 server."""
    if request.param == "folder":
        return _folder(tmp_path)
    request.getfixturevalue("credentials")
    return _bucket(tmp_path, request.getfixturevalue("shared_object_store"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_text("weights")
    return path


@pytest.mark.parametrize("content", [b"weights", b"", bytes(range(256)) * 1000])
def test_what_is_put_is_fetched_by_its_content_on_every_host(kept: Kept, source: Path, content: bytes) -> None:
    source.write_bytes(content)
    reference = kept.store.put(source)

    assert (reference.sha256, reference.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert kept.store.fetch(reference.sha256).read_bytes() == content
    assert kept.elsewhere.fetch(reference.sha256).read_bytes() == content


def test_putting_twice_gives_the_same_name(kept: Kept, source: Path) -> None:
    assert kept.store.put(source) == kept.elsewhere.put(source)


def test_the_original_may_change_afterwards(kept: Kept, source: Path) -> None:
    digest = kept.store.put(source).sha256
    source.write_text("other")

    assert kept.store.fetch(digest).read_text() == "weights"


@pytest.mark.parametrize("content", [b"garbage", b"short", b"longer than the content was"])
def test_content_that_is_not_what_it_was_is_refused_until_it_is_put_again(
    kept: Kept, source: Path, content: bytes
) -> None:
    digest = kept.store.put(source).sha256
    kept.overwrite(digest, content)

    with pytest.raises(ArtifactCorruptedError, match="other content"):
        kept.store.fetch(digest)
    kept.store.put(source)
    assert kept.store.fetch(digest).read_text() == "weights"


def test_a_missing_file_is_named(kept: Kept) -> None:
    with pytest.raises(ArtifactCorruptedError, match=sha256("nothing")):
        kept.store.fetch(sha256("nothing"))


def test_deleted_content_is_gone_and_deleting_again_is_no_error(kept: Kept, source: Path) -> None:
    digest = kept.store.put(source).sha256
    kept.store.fetch(digest)
    assert kept.store.contains(digest)
    kept.store.delete(digest)
    kept.store.delete(digest)

    assert not kept.store.contains(digest)
    with pytest.raises(ArtifactCorruptedError, match="missing"):
        kept.store.fetch(digest)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_only_a_digest_names_a_file(kept: Kept, name: str) -> None:
    for ask in (kept.store.fetch, kept.store.contains, kept.store.delete):
        with pytest.raises(ValueError, match="SHA-256"):
            ask(name)


def test_a_folder_is_no_file(kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        kept.store.put(tmp_path)


def test_many_may_put_and_fetch_the_same_at_once(kept: Kept, source: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda store: store.put(source).sha256, [kept.store, kept.elsewhere] * 8))
        (digest,) = names
        paths = list(pool.map(lambda store: store.fetch(digest), [kept.store, kept.elsewhere] * 8))

    assert {path.read_text() for path in paths} == {"weights"}
