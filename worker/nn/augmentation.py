"""Change rows at random without changing what they are: whole batches at once, in NumPy, by a given generator."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import Features
from app.domain.training_specs import Augmentation

Array: TypeAlias = NDArray[Any]
Random: TypeAlias = np.random.Generator


def features_of(rows: Array) -> Features:
    """Return the kind of raw rows (rows, *shape): each has a shape or type of its own."""
    if rows.ndim in (3, 4):
        return "image" if rows.ndim == 4 else "signal"
    return "text" if rows.dtype == np.uint8 else "table"


def augment(
    rows: Array, augmentation: Augmentation, features: Features, rng: Random, *, deviation: Array | None = None
) -> Array:
    """Return changed copies of raw rows (rows, *shape); what `augmentation` switches off draws nothing from `rng`.

    Bytes stay bytes, but for zoomed images, scaled signals and noise, which become float32. `deviation` is that of the
    train rows, per last axis; left out, it is that of `rows`. `mixup`, which needs the targets, is `mix`.
    """
    if features == "image":
        return _augment_images(rows, augmentation, rng)
    if features == "text":
        return drop_bytes(rows, augmentation.byte_dropout, rng) if augmentation.byte_dropout else rows.copy()
    changed = rows.copy()
    if augmentation.noise:
        units = deviation_of(rows) if deviation is None else deviation
        changed = add_noise(changed, augmentation.noise * units, rng)
    if features == "signal" and augmentation.noise:
        # Served rows are padded with silence: a network that never heard it would take it for something new.
        changed[padding_of(rows)] = 0
    if features == "signal" and augmentation.shift:
        changed = rotate_signals(changed, augmentation.shift, rng)
    if features == "signal" and augmentation.scale:
        changed = scale_signals(changed, augmentation.scale, rng)
    return changed


def padding_of(signals: Array) -> NDArray[np.bool_]:
    """Say which steps (rows, steps) of signals (rows, steps, channels) are zeros that only zeros follow."""
    silent = ~signals.any(axis=2)
    return np.logical_and.accumulate(silent[:, ::-1], axis=1)[:, ::-1]


def _augment_images(rows: Array, augmentation: Augmentation, rng: Random) -> Array:
    changed = flip_images(rows, rng.random(len(rows)) < 0.5) if augmentation.flip else rows.copy()
    if augmentation.zoom:
        factors = rng.uniform(1 - augmentation.zoom, 1 + augmentation.zoom, len(rows))
        changed = zoom_images(changed, factors)
    if augmentation.shift:
        height, width = (_steps(augmentation.shift, side) for side in rows.shape[1:3])
        down, right = rng.integers(-height, height + 1, len(rows)), rng.integers(-width, width + 1, len(rows))
        changed = shift_images(changed, down, right)
    if augmentation.cutout:
        changed = cut_out(changed, _steps(augmentation.cutout, min(rows.shape[1:3])), rng)
    return changed


def deviation_of(rows: Array, *, at_most: int = 4096) -> NDArray[np.float32]:
    """Return the standard deviation per last axis, of rows evenly spaced where there are more than `at_most`."""
    some = np.asarray(rows[:: max(1, -(-len(rows) // at_most))], dtype=np.float64)
    return some.reshape(-1, rows.shape[-1]).std(axis=0).astype(np.float32)


def flip_images(images: Array, chosen: NDArray[np.bool_]) -> Array:
    """Return the images (rows, height, width, channels), the chosen ones mirrored left to right."""
    flipped = images.copy()
    flipped[chosen] = images[chosen, :, ::-1]
    return flipped


def shift_images(images: Array, down: NDArray[np.int64], right: NDArray[np.int64]) -> Array:
    """Move each image by whole pixels; what comes in at an edge repeats that edge."""
    count, height, width = images.shape[:3]
    lines = np.clip(np.arange(height) - down[:, None], 0, height - 1)
    columns = np.clip(np.arange(width) - right[:, None], 0, width - 1)
    return images[np.arange(count)[:, None, None], lines[:, :, None], columns[:, None, :]]


def zoom_images(images: Array, factors: Array) -> NDArray[np.float32]:
    """Enlarge each image about its centre by its factor, bilinearly; a smaller one is surrounded by its edges."""
    for axis in (1, 2):
        images = _zoom_axis(np.moveaxis(images, axis, 1), factors)
        images = np.moveaxis(images, 1, axis)
    return images


def _zoom_axis(images: Array, factors: Array) -> NDArray[np.float32]:
    last = images.shape[1] - 1
    places = np.clip(last / 2 + (np.arange(last + 1) - last / 2) / factors[:, None], 0, last)
    lower = np.minimum(places.astype(np.intp), max(last - 1, 0))
    share = (places - lower).astype(np.float32)[:, :, None, None]
    each = np.arange(len(images))[:, None]
    return (1 - share) * images[each, lower] + share * images[each, np.minimum(lower + 1, last)]


def cut_out(images: Array, side: int, rng: Random) -> Array:
    """Fill a square of each image with its mean colour; the centre may lie anywhere, so a part may fall outside."""
    masks = [_near(rng.integers(0, size, len(images)), size, side) for size in images.shape[1:3]]
    mask = masks[0][:, :, None, None] & masks[1][:, None, :, None]
    return np.where(mask, images.mean(axis=(1, 2), keepdims=True).astype(images.dtype), images)


def _near(centers: NDArray[np.int64], size: int, side: int) -> NDArray[np.bool_]:
    first = centers[:, None] - side // 2
    return (np.arange(size) >= first) & (np.arange(size) < first + side)


def rotate_signals(signals: Array, share: float, rng: Random) -> Array:
    """Move each signal (rows, steps, channels) along time by up to this share, around its end."""
    most = _steps(share, signals.shape[1])
    moves = rng.integers(-most, most + 1, len(signals))
    places = (np.arange(signals.shape[1]) - moves[:, None]) % signals.shape[1]
    return np.take_along_axis(signals, places[:, :, None], axis=1)


def scale_signals(signals: Array, share: float, rng: Random) -> NDArray[np.float32]:
    """Multiply each signal by a factor between 1 - share and 1 + share."""
    factors = rng.uniform(1 - share, 1 + share, len(signals)).astype(np.float32)
    return signals.astype(np.float32) * factors[:, None, None]


def add_noise(rows: Array, deviation: Array, rng: Random) -> NDArray[np.float32]:
    """Add normal noise of this deviation, per last axis."""
    return rows.astype(np.float32) + rng.standard_normal(rows.shape, dtype=np.float32) * np.float32(deviation)


def drop_bytes(texts: Array, share: float, rng: Random) -> Array:
    """Replace this share of the bytes by 0, which also pads."""
    return np.where(rng.random(texts.shape, dtype=np.float32) < share, texts.dtype.type(0), texts)


def mix(rows: Array, targets: Array, weights: Array | None, strength: float, rng: Random) -> tuple[Array, ...]:
    """Mix each row with another of the batch, and their targets and weights (Zhang et al. 2018).

    The share of the partner is drawn for each row from Beta(strength, strength). Return rows, targets and, if given,
    weights, in float32.
    """
    partners = rng.permutation(len(rows))
    shares = rng.beta(strength, strength, len(rows)).astype(np.float32)
    given = (rows, targets) if weights is None else (rows, targets, weights)
    return tuple(_mixed(values.astype(np.float32), partners, shares) for values in given)


def _mixed(values: Array, partners: NDArray[np.int64], shares: Array) -> Array:
    own = shares.reshape(-1, *(1,) * (values.ndim - 1))
    return own * values + (1 - own) * values[partners]


def _steps(share: float, size: int) -> int:
    """Return a share of a size in whole steps; at least one, since who asks for a change wants one."""
    return max(1, round(share * size))
