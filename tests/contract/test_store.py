"""A store keeps what it is given, whole or not at all, and never returns anything else."""

import os
import stat
from pathlib import Path

import pytest

from app.domain.errors import ArtifactCorruptedError, UnavailableError
from app.store import open_store
from app.store.local import LocalStore
from tests.factories import sha256


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_text("weights")
    return path


def all_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_put_is_fetched_by_its_content(store: LocalStore, source: Path) -> None:
    reference = store.put(source)

    assert (reference.sha256, reference.size_bytes) == (sha256("weights"), 7)
    assert store.fetch(reference.sha256).read_text() == "weights"


def test_the_place_is_told_by_the_digest_alone(store: LocalStore, source: Path, tmp_path: Path) -> None:
    digest = store.put(source).sha256

    assert store.fetch(digest) == tmp_path / "store" / "blobs" / "sha256" / digest[:2] / digest


def test_putting_twice_keeps_one_file(store: LocalStore, source: Path, tmp_path: Path) -> None:
    assert store.put(source) == store.put(source)
    assert len(all_files(tmp_path / "store")) == 1


def test_the_original_may_change_afterwards(store: LocalStore, source: Path) -> None:
    digest = store.put(source).sha256
    source.write_text("other")

    assert store.fetch(digest).read_text() == "weights"


def test_only_the_owner_may_read(store: LocalStore, source: Path) -> None:
    path = store.fetch(store.put(source).sha256)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("position", [0, 3, 6])
def test_a_flipped_bit_is_detected(store: LocalStore, source: Path, position: int) -> None:
    path = store.fetch(store.put(source).sha256)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)

    with pytest.raises(ArtifactCorruptedError, match="other content"):
        store.fetch(path.name)


def test_a_truncated_file_is_detected_by_another_process_too(store: LocalStore, source: Path, tmp_path: Path) -> None:
    path = store.fetch(store.put(source).sha256)
    os.truncate(path, 3)

    with pytest.raises(ArtifactCorruptedError):
        LocalStore(tmp_path / "store").fetch(path.name)


def test_putting_again_mends_a_corrupted_file(store: LocalStore, source: Path) -> None:
    path = store.fetch(store.put(source).sha256)
    path.write_text("garbage")
    store.put(source)

    assert store.fetch(path.name).read_text() == "weights"


def test_a_missing_file_is_named(store: LocalStore) -> None:
    with pytest.raises(ArtifactCorruptedError, match=sha256("nothing")):
        store.fetch(sha256("nothing"))


def test_deleted_content_is_gone_and_deleting_again_is_no_error(store: LocalStore, source: Path) -> None:
    digest = store.put(source).sha256
    assert store.contains(digest)
    store.delete(digest)
    store.delete(digest)

    assert not store.contains(digest)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_only_a_digest_names_a_file(store: LocalStore, name: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        store.fetch(name)


def test_a_failed_put_leaves_nothing(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        store.put(tmp_path)

    assert all_files(tmp_path / "store") == []


def test_a_full_disk_leaves_nothing(
    store: LocalStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        store.put(source)

    assert all_files(tmp_path / "store") == []


def test_a_name_appears_only_after_its_content_is_durable(
    store: LocalStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        seen.append(len(all_files(tmp_path / "store" / "blobs")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    store.put(source)

    # The file while nobody can see it, then the folders that name it.
    assert seen == [0, 1, 1]


def test_the_url_opens_the_store(tmp_path: Path) -> None:
    store = open_store((tmp_path / "a b").as_uri())
    (tmp_path / "file").write_text("x")

    assert store.fetch(store.put(tmp_path / "file").sha256).is_relative_to(tmp_path / "a b")


def test_other_urls_are_refused() -> None:
    with pytest.raises(UnavailableError, match="names no kind of store"):
        open_store("ftp://host/path")
