"""Groups and times of the train rows are kept beside them, so that what is trained on folds can honour them."""

from pathlib import Path

import numpy as np

from app.datasets.ingest import Upload, ingest
from app.datasets.options import IngestOptions
from app.domain.datasets import DatasetSchema
from app.store.local import LocalStore
from tests.datasets import builders as make


def test_groups_of_the_train_rows_are_numbered_and_counted(tmp_path: Path) -> None:
    groups = np.array([f"speaker {row // 10}" for row in range(60)])
    answer = make.read(tmp_path, make.small_npz(60, who=groups), "x.npz", group="who")
    kept = make.load(tmp_path, "train_group")
    speakers = make.load(tmp_path, "train_x")[:, 0] // 30
    assert answer.dataset_schema is not None
    assert answer.dataset_schema.train_groups == len(np.unique(speakers)) == kept.max() + 1
    assert len(np.unique(np.stack([kept, speakers.astype(np.int64)]), axis=1).T) == answer.dataset_schema.train_groups
    assert answer.dataset_schema.train_times == 0
    assert not (tmp_path / "sets" / "selection_group.npy").exists()


def test_times_of_the_train_rows_are_kept_by_their_rank(tmp_path: Path) -> None:
    days = np.array([f"2026-01-{1 + row // 3:02}" for row in range(60)])[::-1]
    answer = make.read(tmp_path, make.small_npz(60, day=days), "x.npz", order="day")
    kept, numbers = make.load(tmp_path, "train_order"), make.load(tmp_path, "train_x")[:, 0] // 3
    assert answer.dataset_schema is not None
    assert answer.dataset_schema.train_times == len(np.unique(days[numbers.astype(int)]))
    np.testing.assert_array_equal(kept, np.unique(days[numbers.astype(int)], return_inverse=True)[1])


def test_files_of_groups_are_checked_and_stored(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(make.small_npz(60, who=np.arange(60) // 5))
    options = IngestOptions(name="set", group="who", seed=3)
    found = ingest(Upload(path, "x.npz"), options, workspace=tmp_path / "w", store=LocalStore(tmp_path / "store"))
    assert "train_group" in found.manifest.files
    assert "train_order" not in found.manifest.files


def test_a_schema_without_groups_and_times_is_written_as_it_always_was() -> None:
    schema = DatasetSchema(
        features="table", shape=(1,), dtype="float32", task="regression", rows={"train": 1, "selection": 1, "report": 1}
    )
    assert not {"train_groups", "train_times"} & set(schema.model_dump(mode="json"))
