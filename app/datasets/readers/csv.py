"""Read CSV: UTF-8, one header line, commas; every complaint names line and column."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.datasets.options import IngestOptions, Limits, check_options
from app.datasets.rows import Array, RawRows, check_finite
from app.datasets.shapes import as_float32, shape_rows, text_bytes
from app.domain.errors import FieldError, InvalidRequestError
from app.domain.upload_errors import InvalidCsvError, NoSamplesError

TARGET_NAMES = ("label", "target", "class")
CHUNK_ROWS = 4096
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_OFFICIAL = {"train": False, "report": True, "test": True}


class _Record(NamedTuple):
    line: int
    cells: list[str]


class _Roles(NamedTuple):
    features: list[int]
    target: int | None
    group: int | None
    order: int | None
    part: int | None
    weight: int | None


def read_csv(path: Path, options: IngestOptions, limits: Limits) -> RawRows:
    """Read a table of numbers with a target column, or one text column with a label."""
    check_options(options, "CSV")
    records = _records(path, limits)
    header = _check_header(next(records, _Record(1, [])).cells, limits)
    roles = _find_roles(header, options)
    is_text = options.features == "text" or (
        options.features is None and [header[i] for i in roles.features] == ["text"]
    )
    table = _read_texts(records, header, roles) if is_text else _read_numbers(records, header, roles)
    if not table.lines:
        raise NoSamplesError("The CSV has a header and no rows.", hint="Send at least one row for each of two classes.")
    features = "text" if is_text else options.features or "table"
    places = [f"line {line}" for line in table.lines]
    x = table.texts if is_text else shape_rows(_finite(table, places, header, roles), features)
    return RawRows(
        features=features,
        x=x,
        labels=_labels(table, roles),
        groups=np.array(table.extra[roles.group]) if roles.group is not None else None,
        weights=_weights(table, roles, header) if roles.weight is not None else None,
        order=_typed_order(table.extra[roles.order]) if roles.order is not None else None,
        official=_official(table, roles, header) if roles.part is not None else None,
        columns=tuple(header[index] for index in roles.features) if features == "table" else (),
        places=places,
    )


class _Table(NamedTuple):
    lines: list[int]
    numbers: list[Array]
    texts: list[Array]
    extra: dict[int, list[str]]


def _records(path: Path, limits: Limits) -> Iterator[_Record]:
    csv.field_size_limit(limits.line_bytes)
    reader = csv.reader(_lines(path, limits), strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield _Record(line, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise invalid_csv(
            f"{error} in the record that begins there", line=line, hint='Close every quote; write a quote inside as "".'
        ) from None


def _lines(path: Path, limits: Limits) -> Iterator[str]:
    with path.open("rb") as handle:
        for number in range(1, 2**62):
            line = handle.readline(limits.line_bytes + 1)
            if not line:
                return
            if len(line) > limits.line_bytes:
                raise invalid_csv(f"longer than {limits.line_bytes} bytes", line=number, hint="Split the line.")
            if b"\x00" in line:
                raise invalid_csv("a NUL byte", line=number, byte=line.index(b"\x00") + 1, hint="Save as UTF-8 text.")
            yield _decode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, number)


def _decode(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid_csv(
            f"the byte 0x{line[error.start]:02x} is not UTF-8", line=number, byte=error.start + 1, hint="Save as UTF-8."
        ) from None


def invalid_csv(what: str, *, line: int, hint: str, column: str = "", byte: int = 0) -> InvalidCsvError:
    """Say what is wrong at which line (from 1) and column."""
    place = f"line {line}" + (f", column {column!r}" if column else "") + (f", byte {byte}" if byte else "")
    return InvalidCsvError(f"{place}: {what}.", hint=hint, errors=[FieldError("/file", place, "invalid-csv")])


def _check_header(header: list[str], limits: Limits) -> list[str]:
    names = [name.strip() for name in header]
    if not names:
        raise NoSamplesError("The CSV has no header line.", hint="The first line names the columns.")
    if len(names) > limits.columns:
        raise invalid_csv(f"{len(names)} columns; at most {limits.columns} are read", line=1, hint="Drop columns.")
    for index, name in enumerate(names):
        if not name or len(name) > 255:
            raise invalid_csv(
                "the column has no name of 1 to 255 letters", line=1, column=str(index + 1), hint="Name it."
            )
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise invalid_csv("the name stands twice", line=1, column=twice, hint="Give every column its own name.")
    if all(_NUMBER.fullmatch(name) for name in names):
        raise invalid_csv("all names are numbers; the header is missing", line=1, hint="Begin with a line of names.")
    return names


def _find_roles(header: list[str], options: IngestOptions) -> _Roles:
    target = options.target or next((name for name in header if name.lower() in TARGET_NAMES), None)
    labelled = options.task != "unlabelled"
    if target is None and labelled:
        raise InvalidRequestError(
            f"No column is called {', '.join(TARGET_NAMES)}; there are: {', '.join(header)[:500]}.",
            hint="Set `target` to the column to predict." + (" Is the delimiter a comma?" if len(header) == 1 else ""),
            errors=[FieldError("/options/target", "missing", "missing")],
        )
    special = [_index(header, name) for name in (target, options.group, options.order, options.part, options.weight)]
    chosen = options.columns or [name for index, name in enumerate(header) if index not in special]
    features = [index for index in (_index(header, name) for name in chosen) if index is not None]
    if not features:
        raise NoSamplesError("No column is left for the features.", hint="Send at least one column besides the target.")
    if special[0] in features:
        raise InvalidRequestError(f"{target!r} is the target and a feature.", hint="Leave it out of `columns`.")
    _check_weight(special[-1], [special[0], *features], options)
    return _Roles(features, special[0] if labelled else None, *special[1:])


def _check_weight(weight: int | None, taken: Sequence[int | None], options: IngestOptions) -> None:
    """Refuse a weight that would also be answered or learned from."""
    if weight is not None and weight in taken:
        what = "the target" if weight == taken[0] else "a feature"
        raise InvalidRequestError(
            f"{options.weight!r} is the row weight and {what}.",
            hint="Name another column, or leave it out of `columns`.",
            errors=[FieldError("/options/weight", f"also {what}", InvalidRequestError.slug)],
        )


def _index(header: list[str], name: str | None) -> int | None:
    if name is None:
        return None
    if name not in header:
        raise InvalidRequestError(
            f"The options name a column {name!r}; there are: {', '.join(header)[:500]}.",
            hint="Name a column of the header line.",
            errors=[FieldError("/options", name, "missing")],
        )
    return header.index(name)


def _checked(records: Iterator[_Record], header: list[str], table: _Table) -> Iterator[list[str]]:
    for line, cells in records:
        if len(cells) != len(header):
            raise invalid_csv(
                f"{len(cells)} cells; the header has {len(header)} columns", line=line, hint="Mend or drop the row."
            )
        table.lines.append(line)
        for index, column in table.extra.items():
            column.append(_filled(cells[index].strip(), line, header[index]))
        yield cells


def _filled(cell: str, line: int, column: str) -> str:
    if not cell:
        raise invalid_csv("the cell is empty", line=line, column=column, hint="Fill it in or drop the row.")
    return cell[:255]


def _new_table(roles: _Roles) -> _Table:
    special = [index for index in roles[1:] if isinstance(index, int)]
    return _Table([], [], [], {index: [] for index in special})


def _read_texts(records: Iterator[_Record], header: list[str], roles: _Roles) -> _Table:
    if len(roles.features) != 1:
        raise InvalidRequestError(
            f"Text rows need one column; there are {len(roles.features)}: {', '.join(header)[:500]}.",
            hint='Name it: "columns": ["body"].',
        )
    table = _new_table(roles)
    table.texts.extend(text_bytes(cells[roles.features[0]]) for cells in _checked(records, header, table))
    return table


def _read_numbers(records: Iterator[_Record], header: list[str], roles: _Roles) -> _Table:
    table = _new_table(roles)
    chunk: list[list[float]] = []
    for cells in _checked(records, header, table):
        chunk.append(_parse_row([cells[index] for index in roles.features], table.lines[-1], header, roles))
        if len(chunk) == CHUNK_ROWS:
            table.numbers.append(as_float32(np.array(chunk)))
            chunk.clear()
    if chunk:
        table.numbers.append(as_float32(np.array(chunk)))
    return table


def _parse_row(cells: list[str], line: int, header: list[str], roles: _Roles) -> list[float]:
    try:
        values = list(map(float, cells))
    except ValueError:
        values = []
    # float() also takes 1_000 and nan; a sum that is not finite or a letter outside numbers sends us to the slow check.
    if values and sum(values) - sum(values) == 0 and "_" not in "".join(cells):
        return values
    for index, cell in zip(roles.features, cells, strict=True):
        _check_number(cell.strip(), line, header[index])
    return values


def _check_number(cell: str, line: int, column: str) -> None:
    _filled(cell, line, column)
    if _NOT_FINITE.fullmatch(cell):
        return  # reported with all its like, once the table is read
    if not _NUMBER.fullmatch(cell):
        hint = "Write numbers only; for one column of text set features to text and name it in `columns`."
        raise invalid_csv(f"{cell[:80]!r} is not a number", line=line, column=column, hint=hint)
    if np.isinf(float(cell)):
        raise invalid_csv(f"{cell[:80]} is too large", line=line, column=column, hint="Rescale the column.")


def _finite(table: _Table, places: Sequence[str], header: list[str], roles: _Roles) -> Array:
    x = np.concatenate(table.numbers)
    check_finite(x, places, names=[header[index] for index in roles.features])
    return x


def _labels(table: "_Table", roles: _Roles) -> Array:
    if roles.target is None:
        return np.zeros(len(table.lines), np.int64)
    return _typed_labels(table.extra[roles.target])


def _typed_labels(labels: list[str]) -> Array:
    """Return floats when all labels are numbers and some has a fraction, else the text."""
    if all(map(_NUMBER.fullmatch, labels)):
        numbers = np.array(labels, dtype=np.float64)
        if (numbers != np.floor(numbers)).any():
            return numbers
    return np.array(labels)


def _typed_order(order: list[str]) -> Array:
    return np.array(order, dtype=np.float64) if all(map(_NUMBER.fullmatch, order)) else np.array(order)


def _weights(table: _Table, roles: _Roles, header: list[str]) -> Array:
    """Return the weights as numbers; what is not finite or below 0 is reported once all files are read."""
    column = roles.weight or 0
    for line, cell in zip(table.lines, table.extra[column], strict=True):
        if not (_NUMBER.fullmatch(cell) or _NOT_FINITE.fullmatch(cell)):
            hint = "Row weights are numbers from 0 to 3.4e38; write 0 for a row that is to teach nothing."
            raise invalid_csv(f"{cell[:80]!r} is not a number", line=line, column=header[column], hint=hint)
    return np.array([float(cell) for cell in table.extra[column]])


def _official(table: _Table, roles: _Roles, header: list[str]) -> Array:
    parts = table.extra[roles.part or 0]
    for line, part in zip(table.lines, parts, strict=True):
        if part.lower() not in _OFFICIAL:
            raise invalid_csv(
                f"{part[:80]!r} is no part", line=line, column=header[roles.part or 0], hint="Write train or report."
            )
    return np.array([_OFFICIAL[part.lower()] for part in parts])
