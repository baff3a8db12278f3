"""Decode images to uint8 (height, width, channels), looking at every header before a pixel is unpacked."""

import io
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from app.datasets.options import IngestOptions, Limits
from app.datasets.rows import Array
from app.domain.errors import FieldError, ShapeMismatchError
from app.domain.upload_errors import DecompressionBombError, ImageTooLargeError, UnreadableMemberError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_MAGICS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
_GREY_MODES = ("1", "L")
_COLOUR_MODES = ("RGB", "RGBA", "P", "LA", "PA", "CMYK", "YCbCr")


def decode_images(blobs: Iterable[tuple[str, bytes]], options: IngestOptions, limits: Limits) -> Array:
    """Return all images, uint8 (rows, height, width, 1 or 3): grey when all are grey, unless `channels` says else."""
    images: list[tuple[str, Array]] = []
    used = 0
    for name, blob in blobs:
        pixels = _decode(name, blob, options, limits)
        used += pixels.nbytes
        if used > limits.expanded_bytes:
            raise DecompressionBombError(
                f"The images hold more than {limits.expanded_bytes} bytes of pixels.",
                hint="Send fewer or smaller images.",
            )
        images.append((name, pixels))
    _check_one_size(images)
    channels = options.channels or max(pixels.shape[2] for _, pixels in images)
    return np.stack(
        [np.repeat(pixels, channels, axis=2) if pixels.shape[2] < channels else pixels for _, pixels in images]
    )


def _decode(name: str, blob: bytes, options: IngestOptions, limits: Limits) -> Array:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            image = Image.open(io.BytesIO(blob), formats=("PNG", "JPEG", "BMP"))
        _check_header(name, image, limits)
        image.load()
        return _pixels(image, options)
    except Image.DecompressionBombError as error:
        raise _too_large(name, str(error), limits) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError) as error:
        raise _unreadable(name, str(error) or type(error).__name__) from None


def _check_header(name: str, image: "Image", limits: Limits) -> None:
    width, height = image.size
    if width * height > limits.image_pixels:
        raise _too_large(name, f"It has {width} x {height} pixels.", limits)
    if width * height == 0 or image.mode not in _GREY_MODES + _COLOUR_MODES:
        raise _unreadable(name, f"images of {width} x {height} pixels in the mode {image.mode} are not read")


def _pixels(image: "Image", options: IngestOptions) -> Array:
    channels = options.channels or (1 if image.mode in _GREY_MODES else 3)
    converted = image.convert("L" if channels == 1 else "RGB")
    if options.resize is not None:
        height, width = options.resize
        converted = converted.resize((width, height))  # bicubic, Pillow's default
    pixels = np.asarray(converted, dtype=np.uint8)
    return pixels[:, :, None] if channels == 1 else pixels


def _check_one_size(images: list[tuple[str, Array]]) -> None:
    first_name, first = images[0]
    for name, pixels in images:
        if pixels.shape[:2] != first.shape[:2]:
            raise ShapeMismatchError(
                f"{name[:200]!r} has {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), "
                f"{first_name[:200]!r} has {first.shape[0]} x {first.shape[1]}.",
                hint=f'All images need one size; set "resize": [{first.shape[0]}, {first.shape[1]}] to scale them.',
                errors=[FieldError("/file", name[:200], "shape-mismatch")],
            )


def _too_large(name: str, what: str, limits: Limits) -> ImageTooLargeError:
    return ImageTooLargeError(
        f"{name[:200]!r}: {what} At most {limits.image_pixels} pixels are decoded.",
        hint="Scale the image down before sending it.",
        errors=[FieldError("/file", name[:200], "image-too-large")],
    )


def _unreadable(name: str, what: str) -> UnreadableMemberError:
    return UnreadableMemberError(
        f"{name[:200]!r} cannot be decoded: {what[:300]}.",
        hint="Save the image again as PNG or JPEG, or leave it out.",
        errors=[FieldError("/file", name[:200], "unreadable-member")],
    )
