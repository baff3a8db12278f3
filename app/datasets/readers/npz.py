"""Read NPZ: named arrays without pickle, checked by their headers before they are read."""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from app.datasets.archive import open_archive, unpacking
from app.datasets.options import IngestOptions, Limits, check_options
from app.datasets.rows import Array, RawRows
from app.datasets.shapes import find_features, shape_rows
from app.domain.errors import FieldError, InvalidRequestError, ShapeMismatchError
from app.domain.npy import Header, read_npy_header
from app.domain.upload_errors import (
    DeclaredSizeMismatchError,
    LengthMismatchError,
    NoSamplesError,
    PickleNotAllowedError,
    UnreadableMemberError,
    UnsupportedDtypeError,
)

_KEYS = (  # features and labels, then those of an official report part
    ("x", "y"),
    ("X", "y"),
    ("train_x", "train_y", "test_x", "test_y"),
    ("x_train", "y_train", "x_test", "y_test"),
)


def read_npz(path: Path, options: IngestOptions, limits: Limits) -> RawRows:
    """Read `x` and `y`, or `train_x train_y test_x test_y` (an official split), and the arrays that options name."""
    check_options(options, "NPZ")
    wanted = [name for name in (options.group, options.weight, options.order, "classes") if name is not None]
    with open_archive(path, limits, most_members=limits.arrays) as (archive, members):
        by_name = {member.filename.removesuffix(".npy"): member for member in members}
        keys = _choose_features(by_name) if options.task == "unlabelled" else _choose_keys(by_name)
        arrays = {name: _read_array(archive, by_name[name]) for name in (*keys, *wanted) if name in by_name}
    _check_weight(options.weight, arrays, keys)
    x, labels = _features_and_labels(arrays, keys)
    features = options.features or find_features(x)
    return RawRows(
        features=features,
        x=shape_rows(x, features),
        labels=labels,
        groups=_one_per_row(arrays, options.group, len(x)),
        weights=_one_per_row(arrays, options.weight, len(x)),
        order=_one_per_row(arrays, options.order, len(x)),
        official=np.arange(len(x)) >= len(arrays[keys[0]]) if len(keys) == 4 else None,
        classes=tuple(str(name) for name in arrays["classes"].reshape(-1)) if "classes" in arrays else None,
    )


def _features_and_labels(arrays: Mapping[str, Array], keys: tuple[str, ...]) -> tuple[Array, Array]:
    if len(keys) == 1:
        x = arrays[keys[0]]
        return x, np.zeros(x.shape[:1] or 0, np.int64)
    _check_lengths(arrays, keys)
    x, labels = (_join([arrays[name] for name in names], names) for names in (keys[0::2], keys[1::2]))
    return x, _flat_labels(labels, keys[1])


def _choose_features(by_name: Mapping[str, Any]) -> tuple[str, ...]:
    for key in ("x", "X"):
        if key in by_name:
            return (key,)
    raise NoSamplesError(
        f"The archive holds {', '.join(sorted(by_name))[:300] or 'nothing'}; no features `x`.",
        hint="Save with numpy.savez(FILE, x=...).",
    )


def _choose_keys(by_name: Mapping[str, Any]) -> tuple[str, ...]:
    for keys in reversed(_KEYS):
        if all(key in by_name for key in keys):
            return keys
    raise NoSamplesError(
        f"The archive holds {', '.join(sorted(by_name))[:300] or 'nothing'}; no features `x` with labels `y`.",
        hint="Save with numpy.savez(FILE, x=..., y=...), or train_x, train_y, test_x and test_y.",
    )


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with unpacking(member), archive.open(member) as handle:
        shape, fortran, dtype = _read_header(handle, member)
        _check_dtype(dtype, member)
        declared = math.prod(shape) * dtype.itemsize
        stored = member.file_size - handle.tell()
        if declared != stored or min(shape, default=1) < 0:
            raise DeclaredSizeMismatchError(
                f"The header of {member.filename!r} declares {dtype} {shape}, {declared} bytes; {stored} are stored.",
                hint="Save the array again with numpy.savez.",
                errors=[FieldError("/file", member.filename, "declared-size-mismatch")],
            )
        values = np.frombuffer(handle.read(), dtype=dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def _read_header(handle: IO[bytes], member: zipfile.ZipInfo) -> Header:
    try:
        return read_npy_header(handle, repr(member.filename))
    except ValueError as broken:
        raise UnreadableMemberError(
            f"{member.filename!r} is no NPY array: {broken}.", hint="Save with numpy.savez."
        ) from None


def _check_dtype(dtype: np.dtype[Any], member: zipfile.ZipInfo) -> None:
    if dtype.hasobject:
        raise PickleNotAllowedError(
            f"{member.filename!r} is an array of Python objects, which is stored as a pickle: code of the sender.",
            hint="Save arrays of numbers or text: numpy.savez(FILE, x=x.astype('float32'), y=y.astype('int64')).",
            errors=[FieldError("/file", member.filename, "pickle-not-allowed")],
        )
    if dtype.kind not in "biufUS" or dtype.itemsize == 0:
        raise UnsupportedDtypeError(
            f"{member.filename!r} has the type {str(dtype)[:100]}; numbers and text are read.",
            hint="Save one plain array for each column.",
            errors=[FieldError("/file", member.filename, "unsupported-dtype")],
        )


def _check_lengths(arrays: Mapping[str, Array], keys: tuple[str, ...]) -> None:
    for features, labels in zip(keys[0::2], keys[1::2], strict=True):
        rows = [arrays[name].shape[:1] or (0,) for name in (features, labels)]
        if rows[0] != rows[1]:
            raise LengthMismatchError(
                f"`{features}` has {rows[0][0]} rows and `{labels}` has {rows[1][0]}.", hint="Give one label per row."
            )


def _join(arrays: list[Array], names: tuple[str, ...]) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    if arrays[0].shape[1:] != arrays[1].shape[1:]:
        raise ShapeMismatchError(
            f"Rows of `{names[0]}` have the shape {arrays[0].shape[1:]}, of `{names[1]}` {arrays[1].shape[1:]}.",
            hint="Both parts must hold rows of one shape.",
        )
    return np.concatenate(arrays)


def _flat_labels(labels: Array, name: str) -> Array:
    if labels.size != len(labels):
        raise ShapeMismatchError(
            f"`{name}` has the shape {labels.shape}; one label per row is expected.",
            hint="One-hot labels become numbers by y.argmax(axis=1).",
        )
    flat = labels.reshape(-1)
    if flat.dtype.kind == "S":
        return np.char.decode(flat, "utf-8", "replace")
    return flat.astype(np.int64) if flat.dtype.kind == "b" else flat


def _check_weight(name: str | None, arrays: Mapping[str, Array], keys: tuple[str, ...]) -> None:
    """Refuse weights that are features or labels, or no numbers."""
    if name is None:
        return
    if name in keys:
        raise InvalidRequestError(
            f"`{name}` holds the features or labels, so it cannot hold the row weights too.",
            hint="Save the weights as an array of their own beside x and y.",
            errors=[FieldError("/options/weight", name, InvalidRequestError.slug)],
        )
    if name in arrays and arrays[name].dtype.kind not in "biuf":
        raise UnsupportedDtypeError(
            f"The row weights `{name}` have the type {arrays[name].dtype}; numbers are expected.",
            hint="Save one number from 0 to 3.4e38 per row.",
            errors=[FieldError("/file", name, "unsupported-dtype")],
        )


def _one_per_row(arrays: Mapping[str, Array], name: str | None, rows: int) -> Array | None:
    if name is None:
        return None
    if name not in arrays:
        raise InvalidRequestError(
            f"The options name an array `{name}` that the archive does not hold.",
            hint="Save it beside x and y.",
            errors=[FieldError("/options", name, "missing")],
        )
    if arrays[name].shape != (rows,):
        raise LengthMismatchError(
            f"`{name}` has the shape {arrays[name].shape}; x has {rows} rows.",
            hint="Give one value per row.",
            errors=[FieldError("/file", name, "length-mismatch")],
        )
    return arrays[name]
