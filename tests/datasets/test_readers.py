"""Sound files become the rows that they hold."""

import csv
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from app.datasets.options import IngestOptions
from app.datasets.readers.csv import read_csv
from app.datasets.readers.npz import read_npz
from app.datasets.readers.wav import decode_wav
from app.datasets.rows import RawRows
from app.datasets.shapes import shape_rows
from app.domain.errors import LeanfuseError
from tests.datasets import builders as make

ANY = IngestOptions(name="set")


def read_or_refuse(reader: Callable[..., RawRows], path: Path) -> RawRows | None:
    """Read, or return None when the reader refuses; any other error is a fault of the reader."""
    try:
        return reader(path, ANY, make.LIMITS)
    except LeanfuseError:
        return None


def all_rows(folder: Path, part: str) -> np.ndarray:
    return np.concatenate([make.load(folder, f"{name}_{part}") for name in ("train", "selection", "report")])


@given(
    x=arrays(
        st.sampled_from([np.dtype(kind) for kind in ("<f4", ">f8", "<i8", "|u1", "|b1")]),
        array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5),
        elements={"min_value": 0, "max_value": 200},
    )
    | arrays(np.dtype("<f2"), (4, 3), elements={"min_value": -100, "max_value": 100}),
    fortran=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_npz_gives_back_the_numbers_that_were_saved(tmp_path_factory, x: np.ndarray, fortran: bool) -> None:
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    kept = np.asfortranarray(x) if fortran else x
    features = "table" if x.ndim <= 2 else "signal"
    path.write_bytes(make.npz(x=kept, y=np.arange(len(x)), classes=np.array([str(i) for i in range(len(x))])))
    raw = read_npz(path, IngestOptions(name="set", features=features), make.LIMITS)
    assert np.array_equal(np.asarray(raw.x).reshape(x.shape), x.astype(np.float32))
    assert np.asarray(raw.x).dtype == np.float32
    assert np.asarray(raw.x).flags.c_contiguous


@given(blob=st.binary(max_size=300), at=st.integers(0, 10**6), cut=st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_a_damaged_npz_is_read_as_it_was_or_refused_by_an_error_of_the_tree(
    tmp_path_factory, blob: bytes, at: int, cut: int
) -> None:
    sound = make.small_npz()
    damaged = bytearray(sound)
    damaged[at % len(sound) : at % len(sound) + len(blob)] = blob
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    path.write_bytes(bytes(damaged[: len(damaged) - cut % 50]))
    raw = read_or_refuse(read_npz, path)
    assert raw is None or len(np.asarray(raw.x)) == len(raw.labels)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    rows=st.lists(st.tuples(finite, finite, st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)),
                  min_size=1, max_size=8)
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_csv_gives_back_the_cells_that_were_written(tmp_path_factory, rows: list[tuple[float, float, str]]) -> None:
    rows = [(one, two, label) for one, two, label in rows if label.strip()]
    if not rows:
        return
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["one", "two", "label"])
    writer.writerows([one, two, "n" + label] for one, two, label in rows)
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(buffer.getvalue().encode())
    raw = read_csv(path, ANY, make.LIMITS)
    assert np.array_equal(np.asarray(raw.x), np.array([row[:2] for row in rows], np.float32))
    assert raw.labels.tolist() == [("n" + label).strip()[:255] for _, _, label in rows]


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_noise_named_csv_is_refused_by_an_error_of_the_tree(tmp_path_factory, noise: bytes) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(b"one,label\n" + noise)
    raw = read_or_refuse(read_csv, path)
    assert raw is None or len(raw.labels) > 0


def test_integer_labels_number_the_classes_and_fractions_mean_regression(tmp_path: Path) -> None:
    answer = make.read(tmp_path, make.small_npz(y=np.arange(20) % 4), "x.npz")
    assert answer.dataset_schema is not None
    assert answer.dataset_schema.classes == ("0", "1", "2", "3")
    (tmp_path / "b").mkdir()
    answer = make.read(tmp_path / "b", make.small_npz(y=np.arange(20) / 4), "x.npz")
    assert answer.dataset_schema is not None
    assert (answer.dataset_schema.task, answer.dataset_schema.classes) == ("regression", ())
    targets = all_rows(tmp_path / "b", "y")
    assert (targets.dtype, targets.shape) == (np.float32, (20, 1))


def test_official_parts_of_an_npz_are_the_report_set_in_their_order(tmp_path: Path) -> None:
    x = np.arange(48, dtype=np.uint8).reshape(12, 2, 2)
    blob = make.npz(train_x=x[:8], train_y=np.arange(8) % 2, test_x=x[7:], test_y=np.arange(7, 12) % 2)
    answer = make.read(tmp_path, blob, "x.npz")
    assert answer.dataset_schema is not None
    assert (answer.dataset_schema.features, answer.dataset_schema.shape) == ("image", (2, 2, 1))
    assert answer.dataset_schema.rows == {"train": 5, "selection": 2, "report": 5}
    assert np.array_equal(make.load(tmp_path, "report_x")[..., 0], x[7:])
    assert any("1 rows that equal a row of the official report part" in note for note in answer.notes)


def test_a_csv_may_say_what_its_columns_are(tmp_path: Path) -> None:
    lines = [f"{n},{n % 7 + 0.5},{n * n},{n // 4},{'test' if n >= 30 else 'train'}" for n in range(40)]
    text = "\n".join(["id,a,price,who,part", *lines])
    answer = make.read(
        tmp_path,
        text.encode(),
        "x.csv",
        target="price",
        task="regression",
        columns=["id", "a"],
        group="who",
        part="part",
    )
    schema = answer.dataset_schema
    assert schema is not None
    assert (schema.columns, schema.shape, schema.task) == (("id", "a"), (2,), "regression")
    assert make.load(tmp_path, "report_x")[:, 0].tolist() == list(range(30, 40))
    groups = [set((make.load(tmp_path, f"{name}_x")[:, 0] // 4).tolist()) for name in ("train", "selection")]
    assert groups[0].isdisjoint(groups[1])


def test_an_npz_may_bring_groups_and_times(tmp_path: Path) -> None:
    groups = np.array([f"speaker {n // 10}" for n in range(60)])
    make.read(tmp_path, make.small_npz(60, who=groups), "x.npz", group="who")
    found = [set((make.load(tmp_path, f"{name}_x")[:, 0] // 30).tolist()) for name in ("train", "selection", "report")]
    assert sorted(map(len, found)) == [1, 1, 4]
    assert set.union(*found) == set(range(6))
    (tmp_path / "b").mkdir()
    make.read(tmp_path / "b", make.small_npz(60, when=np.arange(60)[::-1]), "x.npz", order="when")
    assert all_rows(tmp_path / "b", "x")[:, 0].tolist() == list(range(177, -1, -3))


def test_a_regression_spreads_its_targets_over_the_sets(tmp_path: Path) -> None:
    make.read(tmp_path, make.small_npz(200, y=np.arange(200) + 0.5), "x.npz")
    means = [make.load(tmp_path, f"{name}_y").mean() for name in ("train", "selection", "report")]
    assert all(abs(mean - 100) < 10 for mean in means)


def test_rows_may_be_split_by_time(tmp_path: Path) -> None:
    days = np.random.default_rng(0).permutation(40)
    lines = [f"{day},2026-{day // 28 + 1:02}-{day % 28 + 1:02},{'ab'[day % 2]}" for day in days]
    make.read(tmp_path, "\n".join(["day,time,label", *lines]).encode(), "x.csv", order="time")
    assert all_rows(tmp_path, "x")[:, 0].tolist() == list(range(40))


def test_text_is_stored_as_padded_utf8(tmp_path: Path) -> None:
    lines = [f'{"ab"[n % 2]},"Grüße, {n}\nund ""mehr"" {"!" * n}"' for n in range(20)]
    answer = make.read(tmp_path, "\n".join(["label,text", *lines]).encode(), "x.csv", text_bytes=32)
    assert answer.dataset_schema is not None
    assert (answer.dataset_schema.features, answer.dataset_schema.shape) == ("text", (32,))
    texts = {bytes(row).rstrip(b"\0") for row in all_rows(tmp_path, "x")}
    assert 'Grüße, 3\nund "mehr" !!!'.encode() in texts
    assert answer.notes == ("10 of 20 texts were cut to 32 of up to 42 values.",)
    assert answer.statistics is None


def test_images_come_grey_or_in_colour_in_one_size(tmp_path: Path) -> None:
    answer = make.read(tmp_path, make.folders(lambda n: make.png(3, 2, shade=n)), "x.zip")
    assert answer.dataset_schema is not None
    assert answer.dataset_schema.shape == (2, 3, 1)
    assert sorted(all_rows(tmp_path, "x")[:, 0, 0, 0].tolist()) == list(range(10))
    (tmp_path / "b").mkdir()
    mixed = make.folders(lambda n: make.png(4 + n, 4, shade=n, colour=n % 2 == 0))
    answer = make.read(tmp_path / "b", mixed, "x.zip", resize=[2, 5])
    assert answer.dataset_schema is not None
    assert answer.dataset_schema.shape == (2, 5, 3)


def test_labels_of_a_zip_are_its_innermost_folders(tmp_path: Path) -> None:
    members = {f"pets/{label}/{n}.png": make.png(shade=n) for n, label in enumerate(["cat", "dog", "10", "9"] * 5)}
    answer = make.read(tmp_path, make.archive(members | {"pets/LICENSE": b"", "pets/.DS_Store": b""}), "x.zip")
    assert answer.dataset_schema is not None
    assert answer.dataset_schema.classes == ("9", "10", "cat", "dog")
    shades, labels = all_rows(tmp_path, "x")[:, 0, 0, 0], all_rows(tmp_path, "y")
    assert np.array_equal(labels, np.array([2, 3, 1, 0])[shades % 4])


@pytest.mark.parametrize(
    ("bits", "data"),
    [
        (8, bytes([0, 128, 255])),
        (16, struct.pack("<3h", -32768, 0, 32512)),
        (24, b"\x00\x00\x80" + b"\x00\x00\x00" + b"\xff\x00\x7f"),
        (32, struct.pack("<3i", -(2**31), 0, 32512 << 16)),
    ],
)
def test_every_width_of_pcm_becomes_int16(bits: int, data: bytes) -> None:
    samples, rate = decode_wav("a.wav", make.wav(data, bits=bits, rate=16_000), make.LIMITS)
    assert (samples.dtype, samples.tolist(), rate) == (np.int16, [-32768, 0, 32512], 16_000)


def test_channels_are_averaged() -> None:
    samples, _ = decode_wav("a.wav", make.wav(struct.pack("<4h", 32767, 32767, -10, 30), channels=2), make.LIMITS)
    assert samples.tolist() == [32767, 10]


def test_clips_are_padded_to_the_longest_or_cut_to_the_seconds_asked(tmp_path: Path) -> None:
    clips = make.folders(lambda n: make.wav(struct.pack("<h", n + 1) * (n + 1)), suffix=".wav")
    answer = make.read(tmp_path, clips, "x.zip")
    assert answer.dataset_schema is not None
    assert (answer.dataset_schema.shape, answer.dataset_schema.sample_rate) == ((10, 1), 8000)
    rows = all_rows(tmp_path, "x")[:, :, 0]
    assert sorted(np.count_nonzero(rows, axis=1).tolist()) == list(range(1, 11))
    (tmp_path / "b").mkdir()
    answer = make.read(tmp_path / "b", clips, "x.zip", seconds=4 / 8000)
    assert answer.dataset_schema is not None
    assert answer.dataset_schema.shape == (4, 1)
    assert answer.notes[0] == "6 of 10 clips were cut to 4 of up to 10 values."


def test_statistics_are_those_of_the_train_rows(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(5, 2, (60, 3)).astype(np.float32)
    x[:, 1] = 7
    answer = make.read(tmp_path, make.small_npz(60, x=x), "x.npz")
    train = make.load(tmp_path, "train_x").astype(np.float64)
    assert answer.statistics is not None
    assert answer.statistics.mean == pytest.approx(train.mean(axis=0).tolist(), rel=1e-6)
    assert answer.statistics.deviation[1] == 1, "a constant column must not be divided by 0"
    assert answer.statistics.deviation[0] == pytest.approx(train[:, 0].std(), rel=1e-6)


def test_negative_zero_equals_zero() -> None:
    rows = np.asarray(shape_rows(np.array([[0.0], [-0.0]]), "table"))
    assert rows[0].tobytes() == rows[1].tobytes()


def test_an_archive_that_is_packed_tight_is_read(tmp_path: Path) -> None:
    members = {f"{'ab'[n % 2]}/{n}.png": make.png(shade=n) for n in range(10)}
    answer = make.read(tmp_path, make.archive(members, method=zipfile.ZIP_DEFLATED), "x.zip")
    assert answer.dataset_schema is not None
    assert sum(answer.dataset_schema.rows.values()) == 10
