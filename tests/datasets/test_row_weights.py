"""Rows may bring weights: checked, split with their rows, kept beside them, and never a feature."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.datasets.ingest import Upload, ingest
from app.datasets.messages import Answer
from app.datasets.options import IngestOptions
from app.domain import errors
from app.domain import upload_errors as broken
from app.domain.datasets import DatasetManifest, DatasetSchema
from app.store.local import LocalStore
from tests import factories
from tests.datasets import builders as make

SETS = ("train", "selection", "report")
WEIGHTS = np.arange(20) / 4


def table(weights: list[object], *, part: bool = False) -> bytes:
    """Write rows whose first number tells which they are."""
    lines = [
        f"{row},{weight},{row / 2},{'ab'[row % 2]}{',test' if part and row >= 15 else ',train' if part else ''}"
        for row, weight in enumerate(weights)
    ]
    return "\n".join(["row,importance,half,label" + (",part" if part else ""), *lines]).encode()


def changed(place: int, weight: object) -> list[object]:
    return [weight if row == place else number for row, number in enumerate(WEIGHTS.tolist())]


def check_kept(folder: Path, answer: Answer) -> None:
    """Check that every row has the weight that was written beside it: a quarter of its number."""
    assert answer.dataset_schema is not None
    assert answer.dataset_schema.row_weights
    for name in SETS:
        weights = make.load(folder, f"{name}_weight")
        assert (weights.dtype, len(weights)) == (np.float32, answer.dataset_schema.rows[name])
        rows = make.load(folder, f"{name}_x").reshape(len(weights), -1)[:, 0]
        assert np.array_equal(weights, rows / 4)


def test_a_column_of_weights_is_kept_beside_its_rows_and_is_no_feature(tmp_path: Path) -> None:
    answer = make.read(tmp_path, table(WEIGHTS.tolist()), "x.csv", weight="importance")
    assert answer.dataset_schema is not None
    assert answer.dataset_schema.columns == ("row", "half")
    assert answer.notes == ("1 of 20 rows have the weight 0: nothing is learned from them.",)
    check_kept(tmp_path, answer)


@pytest.mark.parametrize("dtype", ["<f8", "<f2", ">f4"])
def test_an_array_of_weights_is_kept_beside_its_rows(tmp_path: Path, dtype: str) -> None:
    blob = make.small_npz(x=np.arange(20.0)[:, None] * [1, 2], importance=WEIGHTS.astype(dtype))
    check_kept(tmp_path, make.read(tmp_path, blob, "x.npz", weight="importance"))


@pytest.mark.parametrize("weights", [np.arange(20) % 2 == 0, np.arange(20, dtype=np.uint8)], ids=["marks", "counts"])
def test_whole_numbers_and_marks_are_weights_too(tmp_path: Path, weights: np.ndarray) -> None:
    make.read(tmp_path, make.small_npz(x=np.arange(20.0)[:, None], w=weights), "x.npz", weight="w")
    for name in SETS:
        rows = make.load(tmp_path, f"{name}_x")[:, 0].astype(int)
        assert np.array_equal(make.load(tmp_path, f"{name}_weight"), weights[rows].astype(np.float32))


@pytest.mark.parametrize(
    "option",
    [{"order": "half"}, {"group": "half"}, {"part": "part"}, {"seed": 7}, {"target": "half", "columns": ["row"]}],
    ids=str,
)
def test_however_rows_are_split_they_keep_their_weights(tmp_path: Path, option: dict[str, Any]) -> None:
    blob = table(WEIGHTS.tolist(), part="part" in option)
    check_kept(tmp_path, make.read(tmp_path, blob, "x.csv", weight="importance", **option))


def test_text_may_have_weights(tmp_path: Path) -> None:
    lines = [f"{'ab'[row % 2]},{row + 1},word {chr(97 + row)}" for row in range(20)]
    make.read(tmp_path, "\n".join(["label,sure,text", *lines]).encode(), "x.csv", weight="sure")
    for name in SETS:
        letters = make.load(tmp_path, f"{name}_x")[:, 5].astype(int)
        assert np.array_equal(make.load(tmp_path, f"{name}_weight"), letters - 96)


def test_official_parts_of_an_npz_have_one_array_of_weights(tmp_path: Path) -> None:
    x, y = np.arange(20.0)[:, None], np.arange(20) % 2
    parts = {"train_x": x[:15], "train_y": y[:15], "test_x": x[15:], "test_y": y[15:]}
    answer = make.read(tmp_path, make.npz(**parts, importance=WEIGHTS), "x.npz", weight="importance")
    check_kept(tmp_path, answer)
    assert make.load(tmp_path, "report_weight").tolist() == WEIGHTS[15:].tolist()


CSV: list[tuple[str, list[object], type[errors.LeanfuseError], str]] = [
    ("negative", changed(5, -0.5), broken.WeightOutOfRangeError, "-0.5 at line 7 in `importance` is below 0"),
    ("nan", changed(5, "nan"), broken.NonFiniteValuesError, "nan at line 7 in `importance`"),
    ("infinite", changed(5, "-inf"), broken.NonFiniteValuesError, "line 7"),
    ("beyond float64", changed(5, "1e999"), broken.NonFiniteValuesError, "line 7"),
    ("beyond float32", changed(5, "1e39"), broken.NonFiniteValuesError, "1e+39 at line 7"),
    ("a word", changed(5, "much"), broken.InvalidCsvError, "line 7, column 'importance': 'much' is not a number"),
    ("1_000", changed(5, "1_000"), broken.InvalidCsvError, "line 7, column 'importance'"),
    ("an empty cell", changed(5, ""), broken.InvalidCsvError, "line 7, column 'importance': the cell is empty"),
    ("nothing but 0", [0] * 20, broken.WeightOutOfRangeError, "All 20 row weights in `importance` are 0"),
    ("one above 0", [0] * 19 + [1], broken.WeightOutOfRangeError, "have the weight 0"),
]
NPZ: list[tuple[str, np.ndarray, type[errors.LeanfuseError], str]] = [
    ("negative", np.array(changed(5, -2.0)), broken.WeightOutOfRangeError, "-2 at row 5 in `importance` is below 0"),
    ("nan", np.array(changed(5, np.nan)), broken.NonFiniteValuesError, "row 5"),
    ("beyond float32", np.array(changed(5, 1e300)), broken.NonFiniteValuesError, "row 5"),
    ("text", np.array(["1"] * 20), broken.UnsupportedDtypeError, "`importance` have the type"),
    ("one too few", WEIGHTS[:19], broken.LengthMismatchError, "(19,); x has 20 rows"),
    ("a column", WEIGHTS[:, None], broken.LengthMismatchError, "(20, 1)"),
    ("nothing but 0", np.zeros(20), broken.WeightOutOfRangeError, "All 20 row weights"),
]
CASES = [
    *(pytest.param("x.csv", table(weights), *rest, id=f"csv: {what}") for what, weights, *rest in CSV),
    *(pytest.param("x.npz", make.small_npz(importance=w), *rest, id=f"npz: {what}") for what, w, *rest in NPZ),
]


@pytest.mark.parametrize(("filename", "blob", "error", "words"), CASES)
def test_a_weight_that_cannot_be_one_is_refused_with_place_and_remedy(
    tmp_path: Path, filename: str, blob: bytes, error: type[errors.LeanfuseError], words: str
) -> None:
    with pytest.raises(errors.LeanfuseError) as caught:
        make.read(tmp_path, blob, filename, weight="importance")
    assert type(caught.value) is error
    assert words in caught.value.detail
    assert "0 to 3.4e38" in caught.value.hint or error in (broken.InvalidCsvError, broken.LengthMismatchError)
    assert caught.value.errors
    assert list((tmp_path / "sets").iterdir()) == [], "nothing is written"


def test_the_first_ten_wrong_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(broken.WeightOutOfRangeError) as caught:
        make.read(tmp_path, table([-1] * 20), "x.csv", weight="importance")
    assert [error.detail for error in caught.value.errors] == [f"line {line}, `importance`" for line in range(2, 12)]
    assert {error.pointer for error in caught.value.errors} == {"/file"}


@pytest.mark.parametrize("idle", ["train", "selection"])
def test_a_set_of_rows_without_weight_is_refused(tmp_path: Path, idle: str) -> None:
    """Nothing could be learned from such train rows, and no epoch be chosen on such selection rows."""
    bounds = {"train": range(12), "selection": range(12, 16), "report": range(16, 20)}
    weights = [0 if row in bounds[idle] else 1 for row in range(20)]
    with pytest.raises(broken.WeightOutOfRangeError, match=f"rows of the {idle} set have the weight 0") as caught:
        make.read(tmp_path, table(list(weights)), "x.csv", weight="importance", order="row")
    assert caught.value.errors[0].pointer == "/options/weight"
    (tmp_path / "b").mkdir()
    weights = [0 if row in bounds["report"] else 1 for row in range(20)]
    make.read(tmp_path / "b", table(list(weights)), "x.csv", weight="importance", order="row")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": "label"}, "the target"),
        ({"weight": "half", "columns": ["row", "half"]}, "a feature"),
        ({"weight": "nowhere"}, "name a column 'nowhere'"),
        ({"weight": "importance", "task": "unlabelled"}, "each of them weighs 1 in a transfer set"),
    ],
    ids=str,
)
def test_a_csv_refuses_a_weight_that_has_another_part(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.InvalidRequestError) as caught:
        make.read(tmp_path, table(WEIGHTS.tolist()), "x.csv", **options)
    assert words in caught.value.detail
    assert caught.value.errors[0].pointer.startswith("/options")


@pytest.mark.parametrize("name", ["x", "y", "nowhere"])
def test_an_npz_refuses_a_weight_that_has_another_part(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.InvalidRequestError, match=f"`{name}`") as caught:
        make.read(tmp_path, make.small_npz(x=np.zeros(20)), "x.npz", weight=name)
    assert caught.value.errors[0].pointer.startswith("/options")


def test_files_in_folders_have_no_weights(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequestError, match="`weight` means nothing for a ZIP of images"):
        make.read(tmp_path, make.folders(lambda number: make.png(shade=number)), "x.zip", weight="w")


def add(path: Path, store: LocalStore, workspace: Path, *, report: Path | None = None, **options: Any) -> Any:
    upload = Upload(path, path.name, report, report.name if report else "")
    return ingest(upload, IngestOptions(name="set", **options), workspace=workspace, store=store).manifest


def test_weights_are_stored_with_the_data_set_only_where_given(
    tmp_path: Path, store: LocalStore, workspace: Path
) -> None:
    (tmp_path / "x.csv").write_bytes(table(WEIGHTS.tolist()))
    manifest = add(tmp_path / "x.csv", store, workspace, weight="importance")
    assert {f"{name}_weight" for name in SETS} < set(manifest.files)
    kept = [np.load(store.fetch(manifest.files[f"{name}_weight"].sha256)) for name in SETS]
    assert sorted(np.concatenate(kept)) == WEIGHTS.tolist()
    assert DatasetManifest.model_validate_json(manifest.model_dump_json()) == manifest
    plain = add(tmp_path / "x.csv", store, workspace)
    assert len(plain.files) == 9
    assert plain.digest != manifest.digest


def test_a_report_file_brings_weights_of_its_own(tmp_path: Path, store: LocalStore, workspace: Path) -> None:
    (tmp_path / "x.csv").write_bytes(table(WEIGHTS.tolist()))
    (tmp_path / "y.csv").write_text("row,importance,half,label\n90,3,45,a\n91,-4,45.5,b\n")
    with pytest.raises(broken.WeightOutOfRangeError, match="report file, line 3"):
        add(tmp_path / "x.csv", store, workspace, report=tmp_path / "y.csv", weight="importance")
    (tmp_path / "y.csv").write_text("row,importance,half,label\n90,3,45,a\n91,4,45.5,b\n")
    manifest = add(tmp_path / "x.csv", store, workspace, report=tmp_path / "y.csv", weight="importance")
    assert np.load(store.fetch(manifest.files["report_weight"].sha256)).tolist() == [3, 4]


def test_data_sets_without_weights_keep_the_digest_they_had() -> None:
    assert "row_weights" not in factories.dataset_manifest().model_dump_json()
    assert factories.dataset_manifest().digest == "70f5f9fccfaa0dd72ca4c2c081800c55d49d4ea2667102fdf76c7b4643de1b26"
    schema = DatasetSchema.model_validate({**factories.dataset_manifest().dataset_schema.model_dump()})
    assert not schema.row_weights
