"""The constants of the log-mel spectrum, in NumPy: Keras and ONNX compute with the same numbers."""

import numpy as np
from numpy.typing import NDArray

from app.domain.layers import LogMel


def window(layer: LogMel) -> NDArray[np.float32]:
    """Return the periodic Hann window (frame_length,)."""
    places = np.arange(layer.frame_length) / layer.frame_length
    return (0.5 - 0.5 * np.cos(2 * np.pi * places)).astype(np.float32)


def fourier_kernel(layer: LogMel) -> NDArray[np.float32]:
    """Return the windowed cosines, then sines, (frame_length, 2 * bins): a frame times it is its spectrum."""
    places, bins = np.arange(layer.frame_length), np.arange(layer.frame_length // 2 + 1)
    angles = 2 * np.pi * (np.outer(places, bins) % layer.frame_length) / layer.frame_length
    return (np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * window(layer)[:, None]).astype(np.float32)


def mel_filters(layer: LogMel) -> NDArray[np.float32]:
    """Return triangular filters (bins, mel_bins), evenly spaced in mel from `low_hertz` to half the sample rate."""
    bins = np.arange(layer.frame_length // 2 + 1) * layer.sample_rate / layer.frame_length
    edges = np.linspace(_mel(layer.low_hertz), _mel(layer.sample_rate / 2), layer.mel_bins + 2)
    places = _mel(bins)[:, None]
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _mel(hertz: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)
