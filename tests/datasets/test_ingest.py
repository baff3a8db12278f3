"""Adding a data set: a jailed child reads, and either all of it is kept or nothing."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.datasets.ingest import Ingested, Upload, ingest
from app.datasets.options import IngestOptions, Limits
from app.domain import errors, upload_errors
from app.store.local import LocalStore
from tests.datasets import builders as make

ROOT = Path(__file__).parents[2]
WHOLE = {"report_pattern": r"(a+)+$"}


def add(path: Path, store: LocalStore, workspace: Path, *, limits: Limits = make.LIMITS, **options: object) -> Ingested:
    asked = IngestOptions.model_validate({"name": "set", **options})
    return ingest(Upload(path, path.name), asked, workspace=workspace, store=store, limits=limits)


def nothing_is_kept(store: LocalStore, workspace: Path, tmp_path: Path) -> bool:
    blobs = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    return not blobs and not list(workspace.iterdir())


def test_the_sets_are_kept_by_digest_and_can_be_mapped(tmp_path: Path, store: LocalStore, workspace: Path) -> None:
    (tmp_path / "x.csv").write_text(make.table(50))
    manifest = add(tmp_path / "x.csv", store, workspace).manifest
    assert manifest.dataset_schema.rows == {"train": 30, "selection": 10, "report": 10}
    assert manifest.dataset_schema.columns == ("height", "width")
    hashes = []
    for name in ("train", "selection", "report"):
        x, y, row_hashes = (
            np.load(store.fetch(manifest.files[f"{name}_{part}"].sha256), mmap_mode="r") for part in ("x", "y", "hash")
        )
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert len(x) == len(y) == len(row_hashes) == manifest.dataset_schema.rows[name]
        hashes.append({bytes(row) for row in row_hashes})
    assert not hashes[0] & hashes[1] and not hashes[0] & hashes[2] and not hashes[1] & hashes[2]  # noqa: PT018
    assert list(workspace.iterdir()) == []


def test_the_same_bytes_and_options_give_the_same_digest(tmp_path: Path, store: LocalStore, workspace: Path) -> None:
    (tmp_path / "x.npz").write_bytes(make.small_npz(60))
    first, again = (add(tmp_path / "x.npz", store, workspace, seed=1).manifest for _ in range(2))
    other = add(tmp_path / "x.npz", store, workspace, seed=2).manifest
    assert first.digest == again.digest
    assert first.digest != other.digest


@pytest.mark.parametrize(
    ("filename", "blob_of", "error"),
    [
        ("x.npz", lambda: make.small_npz()[:-40], errors.UnreadableFileError),
        ("x.npz", lambda: make.small_npz(x=np.array([[{}]] * 20)), upload_errors.PickleNotAllowedError),
        ("x.npz", lambda: make.small_npz(y=np.array([0, 1] * 9 + [0, 7])), upload_errors.LabelOutOfRangeError),
        ("x.zip", lambda: make.archive({make.raw_name("../../x.png"): b""}), upload_errors.UnsafeArchivePathError),
        ("x.csv", lambda: b"one,label\n1,a\n2\n", upload_errors.InvalidCsvError),
    ],
)
def test_a_broken_upload_leaves_nothing_behind(
    tmp_path: Path,
    store: LocalStore,
    workspace: Path,
    filename: str,
    blob_of: Callable[[], bytes],
    error: type[errors.LeanfuseError],
) -> None:
    (tmp_path / filename).write_bytes(blob_of())
    with pytest.raises(errors.LeanfuseError) as caught:
        add(tmp_path / filename, store, workspace)
    assert type(caught.value) is error
    assert caught.value.hint
    assert nothing_is_kept(store, workspace, tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits the memory of a process")
def test_memory_is_limited(tmp_path: Path, store: LocalStore, workspace: Path) -> None:
    x = np.zeros((2**20, 64), np.uint8)
    x[:, 0] = np.arange(2**20) % 251
    (tmp_path / "x.npz").write_bytes(make.npz(x=x, y=np.arange(len(x)) % 2))
    with pytest.raises(errors.UnreadableFileError, match="512 MiB of memory"):
        add(tmp_path / "x.npz", store, workspace, limits=Limits(memory_bytes=2**29))
    assert nothing_is_kept(store, workspace, tmp_path)


def test_a_reader_that_cannot_even_start_is_told(tmp_path: Path, store: LocalStore, workspace: Path) -> None:
    (tmp_path / "x.csv").write_text(make.table())
    with pytest.raises(errors.UnreadableFileError):
        add(tmp_path / "x.csv", store, workspace, limits=Limits(expanded_bytes=1))
    assert nothing_is_kept(store, workspace, tmp_path)


def test_processor_time_and_wall_clock_are_limited(tmp_path: Path, store: LocalStore, workspace: Path) -> None:
    members = {f"{label}/{'a' * 60}{number}.png": make.png(shade=number) for label in "ab" for number in range(5)}
    (tmp_path / "x.zip").write_bytes(make.archive(members, method=zipfile.ZIP_DEFLATED))
    with pytest.raises(errors.UnreadableFileError, match="1 s of processor time"):
        add(tmp_path / "x.zip", store, workspace, limits=Limits(cpu_seconds=1), **WHOLE)
    with pytest.raises(errors.UnreadableFileError, match=r"longer than 0\.05 s"):
        add(tmp_path / "x.zip", store, workspace, limits=Limits(wall_seconds=0.05))
    assert nothing_is_kept(store, workspace, tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has network namespaces")
def test_the_jail_has_no_network_and_gains_no_privileges() -> None:
    code = (
        "import socket\n"
        "from pathlib import Path\n"
        "from app.datasets.jail import confine\n"
        "failed = confine({'memory_bytes': 2**31, 'cpu_seconds': 5, 'expanded_bytes': 2**20})\n"
        "print([name for _, name in socket.if_nameindex()] == ['lo'] or 'network' in failed)\n"
        "print('NoNewPrivs:\\t1' in Path('/proc/self/status').read_text())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_what_adds_data_sets_imports_no_heavy_library() -> None:
    heavy = {"sklearn", "scipy", "PIL", "keras", "tensorflow", "pandas"}
    code = f"import sys, app.datasets.ingest; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_uploads_stay_where_they_are_and_readable_by_their_owner_only(
    tmp_path: Path, store: LocalStore, workspace: Path
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(make.table())
    before = path.read_bytes()
    files = add(path, store, workspace).manifest.files
    assert path.read_bytes() == before
    assert all(store.fetch(file.sha256).stat().st_mode & 0o077 == 0 for file in files.values())


def test_a_report_file_is_the_report_set(tmp_path: Path, store: LocalStore, workspace: Path) -> None:
    (tmp_path / "x.csv").write_text(make.table(40))
    (tmp_path / "y.csv").write_text(make.table(60).replace("height,width", "height,width", 1))
    source = Upload(tmp_path / "x.csv", "x.csv", tmp_path / "y.csv", "y.csv")
    with pytest.raises(upload_errors.NoSamplesError, match="train set would be empty"):
        ingest(source, IngestOptions(name="set"), workspace=workspace, store=store)
    (tmp_path / "y.csv").write_text("height,depth,label\n1,2,a\n")
    with pytest.raises(errors.ShapeMismatchError, match="other columns"):
        ingest(source, IngestOptions(name="set"), workspace=workspace, store=store)
    assert nothing_is_kept(store, workspace, tmp_path)
