"""Bring an array to the shape and type in which rows of its kind are stored."""

from collections.abc import Sequence

import numpy as np

from app.datasets.rows import Array
from app.domain.datasets import Features
from app.domain.errors import OutOfRangeError, ShapeMismatchError
from app.domain.upload_errors import UnsupportedDtypeError

_AXES: dict[Features, str] = {
    "image": "(rows, height, width) or (rows, height, width, channels)",
    "signal": "(rows, steps) or (rows, steps, channels)",
    "table": "(rows,) or (rows, columns)",
    "text": "(rows,) of text",
}


def find_features(x: Array) -> Features:
    """Guess what a row is: text, a table for flat rows, images for bytes or 4 axes, else a signal."""
    if x.dtype.kind in "US":
        return "text"
    if x.ndim <= 2:
        return "table"
    return "image" if x.ndim == 4 or x.dtype == np.uint8 else "signal"


def shape_rows(x: Array, features: Features) -> Array | Sequence[Array]:
    """Return image rows (H, W, C) uint8, signal rows (T, C) float32, table rows (F,) float32, text as byte arrays."""
    if features == "text":
        return _text_rows(x)
    if x.dtype.kind not in "biuf":
        raise UnsupportedDtypeError(
            f"The features have the type {x.dtype}; numbers are expected.", hint='Set "features": "text" for text.'
        )
    wanted = {"image": 4, "signal": 3, "table": 2}[features]
    if x.ndim == wanted - 1:
        x = x[..., None]
    if x.ndim != wanted:
        raise ShapeMismatchError(
            f"The features have the shape {x.shape}; {features} rows need {_AXES[features]}.",
            hint="Reshape the array, or set `features` to what a row is.",
        )
    return _bytes_of(x) if features == "image" else as_float32(x)


def as_float32(x: Array) -> Array:
    """Return float32 in C order without negative zeros, so that equal numbers have equal bytes."""
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite and is reported as such
        return np.ascontiguousarray(x, dtype=np.float32) + np.float32(0)


def _bytes_of(x: Array) -> Array:
    if x.shape[-1] not in (1, 3):
        raise ShapeMismatchError(
            f"The images have {x.shape[-1]} channels; 1 (grey) and 3 (RGB) are read.",
            hint="The channels are the last axis; drop an alpha channel.",
        )
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    if x.size and not (x.min() >= 0 and x.max() <= 255 and (x == np.floor(x)).all()):
        raise OutOfRangeError(
            f"The pixels are {x.dtype} from {x.min()} to {x.max()}; images hold whole numbers from 0 to 255.",
            hint='Scale them: (x * 255).round().astype("uint8"); or set "features": "signal" or "table".',
        )
    return np.ascontiguousarray(x, dtype=np.uint8)


def _text_rows(x: Array) -> list[Array]:
    if x.ndim != 1 or x.dtype.kind not in "US":
        raise ShapeMismatchError(
            f"The features are {x.dtype} of the shape {x.shape}; text rows need one text per row.",
            hint="Save numpy.array([...], dtype=str).",
        )
    texts = x.tolist()
    return [text_bytes(text if isinstance(text, str) else text.decode("utf-8", "replace")) for text in texts]


def text_bytes(text: str) -> Array:
    """Return a text's UTF-8 bytes."""
    return np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)
