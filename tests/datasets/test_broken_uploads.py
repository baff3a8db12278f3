"""Every way in which an upload breaks has one answer, which names place and remedy, and leaves nothing behind."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.datasets.options import Limits
from app.domain import errors
from app.domain import upload_errors as broken
from tests.datasets import builders as make

DEFLATED = zipfile.ZIP_DEFLATED
SMALL = Limits(image_pixels=2**16, audio_seconds=2, members=50, columns=100, line_bytes=2**16)
TABLE = make.table()


def two(first: bytes, suffix: str = ".png") -> bytes:
    """Pack a file among sound ones."""
    sound = make.wav() if suffix == ".wav" else make.png()
    return make.archive({f"a/0{suffix}": sound, f"a/1{suffix}": first, f"b/0{suffix}": sound})


def jpeg() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG")
    return buffer.getvalue()


def named(name: str) -> bytes:
    return make.archive({make.raw_name(name): make.png(), "a/1.png": make.png(), "b/1.png": make.png()})


def cells(old: str, new: str) -> bytes:
    assert old in TABLE
    return TABLE.replace(old, new, 1).encode()


def with_x(member: bytes) -> bytes:
    return make.archive({"x.npy": member, "y.npy": make.npy(np.arange(20) % 2)})


X = np.zeros((20, 3), np.float32)
NPZ: list[tuple[str, Callable[[], bytes], type[errors.LeanfuseError], str]] = [
    ("cut off", lambda: make.small_npz()[:-40], errors.UnreadableFileError, "cut off"),
    ("objects", lambda: make.small_npz(x=np.array([[{}]] * 20)), broken.PickleNotAllowedError, "x.npy"),
    ("object labels", lambda: make.small_npz(y=np.array([None] * 20)), broken.PickleNotAllowedError, "y.npy"),
    ("more declared than stored", lambda: with_x(make.header((2**40, 3)) + bytes(240)),
     broken.DeclaredSizeMismatchError, "240 are stored"),
    ("less declared than stored", lambda: with_x(make.header((1, 3)) + bytes(240)),
     broken.DeclaredSizeMismatchError, "12 bytes"),
    ("a negative size", lambda: with_x(make.header((-20, -3)) + bytes(240)), broken.DeclaredSizeMismatchError, "-20"),
    ("65 arrays", lambda: make.small_npz(**{f"a{i}": X for i in range(63)}), broken.TooManyMembersError, "64"),
    ("a header of 20 KB", lambda: with_x(make.header((20, 3), extra=" " * 20_000) + bytes(240)),
     broken.UnreadableMemberError, "x.npy"),
    ("a header without an end", lambda: with_x(b"\x93NUMPY\x01\x00\x08\x00{'a': (\n"),
     broken.UnreadableMemberError, "no NPY array"),
    ("NPY 3.0", lambda: with_x(make.header((20, 3)).replace(b"NUMPY\x02", b"NUMPY\x03") + bytes(240)),
     broken.UnsupportedDtypeError, "'x.npy' is NPY version 3.0"),
    ("a header of code", lambda: with_x(make.header((20, 3)).replace(b"(20, 3)", b"open()") + bytes(240)),
     broken.UnreadableMemberError, "x.npy"),
    ("a structured type", lambda: make.small_npz(x=np.zeros(20, [("a", "f4")])), broken.UnsupportedDtypeError, "x.npy"),
    ("a void type", lambda: make.small_npz(x=np.zeros(20, "V8")), broken.UnsupportedDtypeError, "x.npy"),
    ("complex numbers", lambda: make.small_npz(x=X.astype(complex)), broken.UnsupportedDtypeError, "complex"),
    ("no arrays of ours", lambda: make.npz(a=X), broken.NoSamplesError, "savez"),
    ("unequal lengths", lambda: make.small_npz(y=np.zeros(19, int)), broken.LengthMismatchError, "20 rows"),
    ("a label below 0", lambda: make.small_npz(y=np.arange(20) % 2 - 1), broken.LabelOutOfRangeError, "row 0"),
    ("a label beyond", lambda: make.small_npz(y=np.array([0, 1] * 9 + [0, 7])), broken.LabelOutOfRangeError, "row 19"),
    ("a label beyond the classes", lambda: make.small_npz(y=np.arange(20) % 3, classes=np.array(["a", "b"])),
     broken.LabelOutOfRangeError, "row 2"),
    ("one class", lambda: make.small_npz(y=np.zeros(20, int)), broken.SingleClassError, "two classes"),
    ("NaN", lambda: make.small_npz(x=np.where(np.arange(60).reshape(20, 3) == 31, np.nan, X)),
     broken.NonFiniteValuesError, "row 10, value [1]"),
    ("infinity after rounding", lambda: make.small_npz(x=X.astype(float) + 1e300),
     broken.NonFiniteValuesError, "row 0"),
    ("a target that is NaN", lambda: make.small_npz(y=np.full(20, np.nan)), broken.NonFiniteValuesError, "row 0"),
    ("no rows", lambda: make.npz(x=X[:0], y=np.zeros(0, int)), broken.NoSamplesError, "(0, 3)"),
    ("no columns", lambda: make.small_npz(x=X[:, :0]), broken.NoSamplesError, "(20, 0)"),
    ("one-hot labels", lambda: make.small_npz(y=np.eye(20)), errors.ShapeMismatchError, "argmax"),
    ("five axes", lambda: make.small_npz(x=np.zeros((20, 1, 1, 1, 1))), errors.ShapeMismatchError, "(20, 1, 1, 1, 1)"),
    ("float pixels", lambda: make.small_npz(x=np.full((20, 4, 4, 1), 0.5)), errors.OutOfRangeError, "255"),
    ("two channels", lambda: make.small_npz(x=np.zeros((20, 4, 4, 2), np.uint8)),
     errors.ShapeMismatchError, "channels"),
    ("a bomb", lambda: make.archive({"x.npy": make.npy(np.zeros((2**20, 4))), "y.npy": b""}, method=DEFLATED),
     broken.DecompressionBombError, "100 times"),
]  # fmt: skip
ZIP = [
    (f"the name {name!r}", (lambda name=name: named(name)), broken.UnsafeArchivePathError, "")
    for name in ("../x.png", "/etc/x.png", "C:\\x.png", "C:x.png", "a\\..\\x.png", "a/../../x.png", "a/./x.png",
                 "a/\x00x.png", "a/" + "x" * 260, "a\n/x.png", "A/1.PNG")
] + [
    ("the same name twice", lambda: named("b/1.png"), broken.UnsafeArchivePathError, "twice"),
    ("a symbolic link", lambda: make.archive({make.link("a/x.png", stat.S_IFLNK): b"/etc/passwd"}),
     broken.UnsafeArchivePathError, "link"),
    ("a device", lambda: make.archive({make.link("a/x.png", stat.S_IFCHR): b""}),
     broken.UnsafeArchivePathError, "device"),
    ("a password", lambda: make.encrypted(make.folders(lambda n: make.png())),
     broken.UnsupportedArchiveError, "encrypt"),
    ("another method", lambda: make.archive({"a/1.png": b"x"}, method=zipfile.ZIP_LZMA),
     broken.UnsupportedArchiveError, "deflate"),
    ("an archive inside", lambda: make.archive({"a/1.zip": make.archive({})}), broken.UnsupportedArchiveError, "1.zip"),
    ("a hidden archive inside", lambda: two(make.archive({"x": b""})), broken.UnsupportedArchiveError, "a/1.png"),
    ("overlapping members", make.overlapping, broken.UnsupportedArchiveError, "overlap"),
    ("51 members", lambda: make.folders(lambda n: make.png(), each=26), broken.TooManyMembersError, "50"),
    ("damaged bytes", lambda: make.archive({"a/1.png": make.png()}).replace(b"IHDR", b"IHDX", 1),
     broken.UnreadableMemberError, "a/1.png"),
    ("no members", lambda: make.archive({}), broken.NoSamplesError, "no images"),
    ("only notes", lambda: make.archive({"README.md": b"hello", "__MACOSX/a/1.png": b""}), broken.NoSamplesError, ""),
    ("a file in no folder", lambda: make.archive({"1.png": make.png()}), errors.UnreadableFileError, "folder"),
]  # fmt: skip
IMAGES = [
    ("a vast image", lambda: two(make.png_of(50_000, 50_000, b"x")), broken.ImageTooLargeError, "a/1.png"),
    ("a large image", lambda: two(make.png_of(300, 300, b"x")), broken.ImageTooLargeError, "300 x 300"),
    ("a cut-off JPEG", lambda: two(jpeg()[:-300], ".jpg"), broken.UnreadableMemberError, "a/1.jpg"),
    ("noise", lambda: two(b"\x89PNG\r\n\x1a\nnoise"), broken.UnreadableMemberError, "a/1.png"),
    ("an SVG", lambda: make.archive({"a/1.svg": b"<svg/>"}), errors.UnsupportedMediaTypeError, "a/1.svg"),
    ("a WAV among images", lambda: two(make.wav()), errors.UnsupportedMediaTypeError, "a/1.png"),
    ("one label", lambda: make.folders(lambda n: make.png(shade=n), labels=1), broken.SingleClassError, "'a'"),
    ("two sizes", lambda: two(make.png(5, 4)), errors.ShapeMismatchError, '"resize"'),
]
WAVS = [
    ("not RIFF", lambda: two(b"noise, no sound", ".wav"), broken.InvalidWavError, "a/1.wav"),
    ("a size that lies", lambda: two(make.wav(more=1000), ".wav"), broken.InvalidWavError, "cut off"),
    ("a chunk that lies", lambda: two(make.wav()[:40] + struct.pack("<I", 2**31) + bytes(16), ".wav"),
     broken.InvalidWavError, "2147483648"),
    ("no channels", lambda: two(make.wav(channels=0), ".wav"), broken.InvalidWavError, "0 channels"),
    ("a rate of 0", lambda: two(make.wav(rate=0), ".wav"), broken.InvalidWavError, "0 Hz"),
    ("a rate of 10**9", lambda: two(make.wav(rate=10**9), ".wav"), broken.InvalidWavError, "1000000000 Hz"),
    ("two rates", lambda: two(make.wav(rate=8001), ".wav"), broken.InvalidWavError, "one sample rate"),
    ("ADPCM", lambda: two(make.wav(tag=2), ".wav"), broken.UnsupportedWavEncodingError, "0x0002"),
    ("mu-law", lambda: two(make.wav(tag=7, bits=8), ".wav"), broken.UnsupportedWavEncodingError, "pcm_s16le"),
    ("extensible", lambda: two(make.wav(tag=0xFFFE), ".wav"), broken.UnsupportedWavEncodingError, "0xfffe"),
    ("float", lambda: two(make.wav(tag=3, bits=32), ".wav"), broken.UnsupportedWavEncodingError, "32 bits"),
    ("a long recording", lambda: two(make.wav(bytes(2 * 8000 * 3)), ".wav"), broken.AudioTooLongError, "2 s"),
    ("no frames", lambda: two(make.wav(b""), ".wav"), broken.InvalidWavError, "0 bytes"),
    ("half a frame", lambda: two(make.wav(b"\x00" * 3), ".wav"), broken.InvalidWavError, "3 bytes"),
]  # fmt: skip
CSV = [
    ("no UTF-8", lambda: TABLE.encode().replace(b"5,2.5,b", b"5,2.5,\xff"),
     broken.InvalidCsvError, "line 7, byte 7"),
    ("NUL", lambda: cells("5,2.5,b", "5,2.5,\x00"), broken.InvalidCsvError, "line 7, byte 7"),
    ("a ragged row", lambda: cells("5,2.5,b", "5,2.5"), broken.InvalidCsvError, "line 7: 2 cells"),
    ("an unclosed quote", lambda: cells("5,2.5,b", '5,2.5,"b'), broken.InvalidCsvError, "line 7"),
    ("101 columns", lambda: ",".join(f"c{i}" for i in range(101)).encode(), broken.InvalidCsvError, "100"),
    ("a vast line", lambda: b"x" * 2**17, broken.InvalidCsvError, "line 1: longer"),
    ("the same header twice", lambda: cells("width", "height"), broken.InvalidCsvError, "'height'"),
    ("an empty header", lambda: cells("width", ""), broken.InvalidCsvError, "column '2'"),
    ("no header", lambda: b"1,2,3\n4,5,6\n", broken.InvalidCsvError, "header is missing"),
    ("1e999", lambda: cells("5,2.5,b", "5,1e999,b"), broken.InvalidCsvError, "line 7, column 'width'"),
    ("1_000", lambda: cells("5,2.5,b", "5,1_000,b"), broken.InvalidCsvError, "line 7, column 'width'"),
    ("text among numbers", lambda: cells("5,2.5,b", "5,tall,b"), broken.InvalidCsvError, "'tall' is not a number"),
    ("an empty cell", lambda: cells("5,2.5,b", "5,,b"), broken.InvalidCsvError, "line 7, column 'width'"),
    ("an empty label", lambda: cells("5,2.5,b", "5,2.5,"), broken.InvalidCsvError, "line 7, column 'label'"),
    ("nan", lambda: cells("5,2.5,b", "5,nan,b"), broken.NonFiniteValuesError, "line 7, column 'width'"),
    ("beyond float32", lambda: cells("5,2.5,b", "5,1e39,b"), broken.NonFiniteValuesError, "line 7"),
    ("a negative label", lambda: make.table(labels="01").replace("5,2.5,1", "5,2.5,-1").encode(),
     broken.LabelOutOfRangeError, "line 7"),
    ("one class", lambda: make.table(labels="a").encode(), broken.SingleClassError, "two classes"),
    ("no rows", lambda: b"height,label\n", broken.NoSamplesError, "no rows"),
    ("no features", lambda: b"label\na\nb\n", broken.NoSamplesError, "column"),
    ("no label column", lambda: cells("label", "kind"), errors.InvalidRequestError, "`target`"),
]  # fmt: skip
CASES = [
    pytest.param(blob_of, filename, error, words, id=f"{filename}: {what}")
    for filename, cases in (("x.npz", NPZ), ("x.zip", ZIP), ("x.zip", IMAGES), ("x.zip", WAVS), ("x.csv", CSV))
    for what, blob_of, error, words in cases
]


@pytest.mark.parametrize(("blob_of", "filename", "error", "words"), CASES)
def test_a_broken_upload_gets_its_own_answer(
    tmp_path: Path, blob_of: Callable[[], bytes], filename: str, error: type[errors.LeanfuseError], words: str
) -> None:
    limits = SMALL if filename != "x.npz" else make.LIMITS
    with pytest.raises(errors.LeanfuseError) as caught:
        make.read(tmp_path, blob_of(), filename, limits=limits)
    assert type(caught.value) is error
    assert words in caught.value.detail + caught.value.hint
    assert caught.value.hint, "every answer names a remedy"
    assert list((tmp_path / "sets").iterdir()) == [], "nothing is written"


def test_files_are_what_their_bytes_say(tmp_path: Path) -> None:
    for blob, filename, error in [
        (b"", "x.npz", broken.EmptyFileError),
        (TABLE.encode(), "x.npz", errors.UnsupportedMediaTypeError),
        (make.small_npz(), "x.csv", errors.UnsupportedMediaTypeError),
        (b"PAR1" + bytes(100), "x.parquet", errors.UnsupportedMediaTypeError),
        (b"\x80\x04\x95" + bytes(100), "x.pkl", broken.PickleNotAllowedError),
        (bytes(range(256)), "x", errors.UnsupportedMediaTypeError),
    ]:
        folder = tmp_path / error.slug / filename
        folder.mkdir(parents=True)
        with pytest.raises(error):
            make.read(folder, blob, filename)


def test_a_label_that_the_classes_do_not_name_is_told_with_its_lines(tmp_path: Path) -> None:
    with pytest.raises(broken.LabelOutOfRangeError) as caught:
        make.read(tmp_path, make.table(labels="abc").encode(), "x.csv", classes=["a", "b"])
    assert [error.detail for error in caught.value.errors][:2] == ["line 4", "line 7"]


def test_an_option_that_means_nothing_for_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequestError, match="`resize` means nothing for a CSV"):
        make.read(tmp_path, TABLE.encode(), "x.csv", resize=[8, 8])


def test_an_upload_beyond_the_limit_is_refused_by_its_size(tmp_path: Path) -> None:
    with pytest.raises(errors.PayloadTooLargeError, match="at most 100"):
        make.read(tmp_path, TABLE.encode(), "x.csv", limits=Limits(compressed_bytes=100))
