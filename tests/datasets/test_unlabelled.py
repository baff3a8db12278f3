"""Rows without labels: all of them go to the train set, and labels that are there are not read."""

from pathlib import Path

import numpy as np
import pytest

from app.datasets.ingest import Upload, ingest
from app.datasets.options import IngestOptions
from app.domain.errors import InvalidRequestError
from app.domain.upload_errors import NoSamplesError
from app.store.local import LocalStore
from tests.datasets import builders as make

X = np.arange(60, dtype=np.float32).reshape(20, 3)
WITHOUT_LABELS = "height,width\n" + "".join(f"{index},{index / 2}\n" for index in range(20))


@pytest.mark.parametrize(
    ("filename", "blob", "shape"),
    [
        ("x.npz", make.npz(x=X), (3,)),
        ("x.npz", make.npz(x=X, y=np.full(20, np.nan)), (3,)),
        ("x.csv", WITHOUT_LABELS.encode(), (2,)),
        ("x.csv", make.table(20, labels="a").encode(), (2,)),
        ("x.zip", make.archive({f"{index}.png": make.png(shade=index) for index in range(20)}), (4, 4, 1)),
        ("x.zip", make.folders(lambda index: make.wav(bytes([index] * 16)), each=10, suffix=".wav"), (8, 1)),
    ],
    ids=["npz", "npz with labels", "csv", "csv with labels", "images in no folder", "wav"],
)
def test_all_rows_stand_in_the_train_set(tmp_path: Path, filename: str, blob: bytes, shape: tuple[int, ...]) -> None:
    schema = make.read(tmp_path, blob, filename, task="unlabelled").dataset_schema
    assert schema is not None
    assert (schema.task, schema.classes, schema.shape) == ("unlabelled", (), shape)
    assert schema.rows == {"train": 20, "selection": 0, "report": 0}
    assert make.load(tmp_path, "train_y").shape == (20, 0)
    assert make.load(tmp_path, "train_hash").shape == (20, 16)
    assert len(make.load(tmp_path, "report_x")) == 0


def test_texts_need_no_label(tmp_path: Path) -> None:
    read = make.read(tmp_path, b"text\nhello there\nlast row\n", "x.csv", task="unlabelled")
    assert read.dataset_schema is not None
    assert (read.dataset_schema.features, read.dataset_schema.columns) == ("text", ())


def test_they_are_kept_like_any_other_set(tmp_path: Path, store: LocalStore, workspace: Path) -> None:
    (tmp_path / "x.npz").write_bytes(make.npz(x=X))
    options = IngestOptions(name="more", task="unlabelled")
    manifest = ingest(Upload(tmp_path / "x.npz", "x.npz"), options, workspace=workspace, store=store).manifest
    assert manifest.statistics is not None
    assert manifest.dataset_schema.task == "unlabelled"
    kept = np.load(store.fetch(manifest.files["train_x"].sha256), mmap_mode="r")
    assert sorted(map(tuple, kept)) == sorted(map(tuple, X))
    assert len(np.load(store.fetch(manifest.files["selection_x"].sha256), mmap_mode="r")) == 0


@pytest.mark.parametrize("option", [{"classes": ["a", "b"]}, {"split": {}}, {"group": "width"}, {"part": "width"}])
def test_what_would_need_other_sets_or_labels_is_refused(tmp_path: Path, option: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError, match="without labels") as refused:
        make.read(tmp_path, WITHOUT_LABELS.encode(), "x.csv", task="unlabelled", **option)
    assert refused.value.errors[0].pointer == f"/options/{next(iter(option))}"


def test_a_report_file_is_refused(tmp_path: Path, store: LocalStore, workspace: Path) -> None:
    (tmp_path / "x.npz").write_bytes(make.npz(x=X))
    upload = Upload(tmp_path / "x.npz", "x.npz", tmp_path / "x.npz", "x.npz")
    with pytest.raises(InvalidRequestError, match="report part"):
        ingest(upload, IngestOptions(name="more", task="unlabelled"), workspace=workspace, store=store)


def test_an_archive_without_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoSamplesError, match="no features"):
        make.read(tmp_path, make.npz(y=np.zeros(4)), "x.npz", task="unlabelled")
