"""Read the rows of a prediction from pictures: PNG or JPEG, in base64, as large as the model takes."""

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.models import InputSignature
from app.domain.request_errors import InvalidImageError

_FORMATS = ("PNG", "JPEG")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def takes_pictures(signature: InputSignature) -> bool:
    """Tell whether rows are pictures: 8-bit pixels [height, width, channels] in grey, RGB or RGBA."""
    return signature.dtype == "uint8" and len(signature.shape) == 3 and signature.shape[-1] in _MODES


def pictures_to_rows(items: Sequence[object], signature: InputSignature) -> NDArray[np.uint8]:
    """Return rows from `{"b64": "..."}` items; colours are turned into those of the model, sizes are not.

    Raise InvalidImageError for what is no picture, or of another size.
    """
    rows = np.empty((len(items), *signature.shape), dtype=np.uint8)
    for index, item in enumerate(items):
        rows[index] = _pixels(item, index, signature.shape)
    return rows


def _pixels(item: object, index: int, shape: tuple[int, ...]) -> NDArray[Any]:
    from PIL import Image  # few need it, and it takes time and memory

    height, width, channels = shape
    with _refusing(index):
        picture = Image.open(io.BytesIO(_decoded(item)), formats=_FORMATS)
    if picture.size != (width, height):
        got = f"{picture.width} x {picture.height}"
        raise InvalidImageError(
            f"Picture {index} has {got} pixels; the model takes {width} x {height}.", hint="Resize it."
        )
    with _refusing(index):
        return np.asarray(picture.convert(_MODES[channels])).reshape(shape)


@contextmanager
def _refusing(index: int) -> Iterator[None]:
    try:
        yield
    except Exception:  # noqa: BLE001 - a decoder raises whatever it likes
        raise InvalidImageError(
            f"Picture {index} is no PNG or JPEG in base64, or only a part of one.",
            hint='Send {"b64": "..."} of a whole file.',
        ) from None


def _decoded(item: object) -> bytes:
    if not isinstance(item, dict) or set(item) != {"b64"}:
        raise TypeError("it is no object with `b64` alone")
    return base64.b64decode(str(item["b64"]), validate=True)
