"""Write predictions chunk by chunk, so that a file of any size needs the memory of one chunk."""

import csv
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from app.domain.predict_specs import Format
from worker.batch.columns import Array, Chunk, Column, tabular

# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_LONGEST_NUMBER = "<U32"


class Writer(Protocol):
    """Take the chunks of a file in order."""

    def write(self, chunk: Chunk) -> None:
        """Append some rows."""


@contextmanager
def open_writer(
    form: Format, path: Path, layout: Sequence[Column], *, classes: Sequence[str], scratch: Path
) -> Iterator[Writer]:
    """Open a file of predictions; it is whole when the context ends without an error."""
    kinds = {"csv": open_csv, "parquet": open_parquet}
    opened = open_npz(path, layout, classes=classes, scratch=scratch) if form == "npz" else kinds[form](path, layout)
    with opened as writer:
        yield writer


class _Csv:
    def __init__(self, file: IO[str], layout: Sequence[Column]) -> None:
        self._writer = csv.writer(file, lineterminator="\r\n")
        self._layout = layout
        self._is_headed = False

    def write(self, chunk: Chunk) -> None:
        table = tabular(self._layout, chunk)
        if not self._is_headed:
            self._writer.writerow([escape_cell(name) for name in table])
            self._is_headed = True
        self._writer.writerows(zip(*(_cells(values) for values in table.values()), strict=True))


@contextmanager
def open_csv(path: Path, layout: Sequence[Column]) -> Iterator[Writer]:
    """Write CSV (RFC 4180) in UTF-8: numbers in the fewest digits that read back equal, text made safe to open."""
    with path.open("w", encoding="utf-8", newline="") as file:
        yield _Csv(file, layout)


def escape_cell(text: str) -> str:
    """Put a ' before text that a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _cells(values: Array) -> list[Any]:
    if values.dtype.kind == "U":
        return [escape_cell(text) for text in values.tolist()]
    return list(values.astype(_LONGEST_NUMBER).tolist())


class _Parquet:
    def __init__(self, path: Path, layout: Sequence[Column], stack: ExitStack) -> None:
        self._path, self._layout, self._stack = path, layout, stack
        self._writer: Any = None

    def write(self, chunk: Chunk) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table({name: _to_arrow(values) for name, values in tabular(self._layout, chunk).items()})
        if self._writer is None:
            self._writer = self._stack.enter_context(parquet.ParquetWriter(self._path, table.schema))
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))


def _to_arrow(values: Array) -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    if values.dtype.kind == "U":
        return pa.array(values.tolist(), type=pa.string())
    return pa.array(np.ascontiguousarray(values))


@contextmanager
def open_parquet(path: Path, layout: Sequence[Column]) -> Iterator[Writer]:
    """Write Parquet, one row group per chunk."""
    with ExitStack() as stack:
        yield _Parquet(path, layout, stack)


class _Npz:
    def __init__(self, layout: Sequence[Column], files: Mapping[str, IO[bytes]]) -> None:
        self._layout, self._files = layout, files
        self.rows = 0

    def write(self, chunk: Chunk) -> None:
        for column in self._layout:
            self._files[column.name].write(np.ascontiguousarray(chunk[column.name], dtype=column.dtype).data.cast("B"))
        self.rows += len(chunk[self._layout[0].name])


@contextmanager
def open_npz(path: Path, layout: Sequence[Column], *, classes: Sequence[str], scratch: Path) -> Iterator[Writer]:
    """Write NPZ of plain arrays: no pickle. A ZIP takes one member at a time, so columns wait in files of their own."""
    places = {column.name: scratch / f"{number}.raw" for number, column in enumerate(layout)}
    with ExitStack() as stack:
        writer = _Npz(layout, {name: stack.enter_context(place.open("wb")) for name, place in places.items()})
        yield writer
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for column in layout:
            shape = (writer.rows, len(column.parts)) if column.parts else (writer.rows,)
            with places[column.name].open("rb") as source, _member(archive, column.name) as target:
                _write_header(target, column.dtype, shape)
                shutil.copyfileobj(source, target, 2**20)
            places[column.name].unlink()
        if classes:
            with _member(archive, "classes") as target:
                np.lib.format.write_array(target, np.array(classes), allow_pickle=False)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    # Of a fixed date, so that equal predictions are equal files.
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(info, "w", force_zip64=True)


def _write_header(target: IO[bytes], dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(target, described)
