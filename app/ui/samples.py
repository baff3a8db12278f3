"""Rows of a data set as people look at them: pictures, waveforms, text, numbers."""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.datasets import DatasetManifest, DatasetSchema, RowSet
from app.plots.curves import waveform
from app.serving.arrays import ArrayCache

_PEAK_ROWS = 256


class Sample(NamedTuple):
    """Show one row: `picture` is a data URL, `wave` an SVG, `text` its words, `numbers` its columns."""

    row: int
    label: str
    picture: str = ""
    wave: str = ""
    text: str = ""
    numbers: Sequence[float] = ()


def take_samples(arrays: ArrayCache, manifest: DatasetManifest, row_set: RowSet, count: int) -> list[Sample]:
    """Return some rows of a set, spread over it."""
    schema = manifest.dataset_schema
    inputs, targets = (arrays.array(manifest.files[f"{row_set}_{part}"]) for part in "xy")
    rows: Sequence[int] = (
        np.unique(np.linspace(0, len(inputs) - 1, min(count, len(inputs)), dtype=int)).tolist() if len(inputs) else []
    )
    peak = peak_value(inputs)
    return [_sample(schema, int(row), inputs[row], label_of(schema, targets[row]), peak) for row in rows]


def peak_value(inputs: NDArray[Any]) -> float:
    """Return the largest value of the first rows: 16 for the UCI digits, 255 for most pictures."""
    return float(np.max(inputs[:_PEAK_ROWS], initial=1))


def label_of(schema: DatasetSchema, target: NDArray[Any]) -> str:
    """Return a class by its name, the target of a regression in figures, nothing for a row without a label."""
    if schema.task == "classification":
        return schema.classes[int(target)]
    return f"{float(target[0]):.4g}" if target.size else ""


def class_counts(arrays: ArrayCache, manifest: DatasetManifest) -> dict[RowSet, list[int]]:
    """Count the rows of every class in every set."""
    schema = manifest.dataset_schema
    return {
        row_set: np.bincount(arrays.array(manifest.files[f"{row_set}_y"]), minlength=len(schema.classes)).tolist()
        for row_set in schema.rows
        if schema.task == "classification"
    }


def _sample(schema: DatasetSchema, row: int, x: NDArray[Any], label: str, peak: float) -> Sample:
    if schema.features == "image":
        return Sample(row, label, picture=data_url(x, peak))
    if schema.features == "text":
        return Sample(row, label, text=bytes(x).rstrip(b"\0").decode("utf-8", "replace"))
    if schema.features == "signal":
        return Sample(row, label, wave=waveform(x[:, 0].tolist()))
    return Sample(row, label, numbers=[float(value) for value in x.ravel()])


def data_url(pixels: NDArray[Any], peak: float) -> str:
    """Return an image (height, width, channels) as a PNG in a data URL; `peak` becomes white."""
    from PIL import Image  # only here: the process that predicts stays small without it

    scaled = np.clip(pixels.astype(np.float32) * (255 / peak), 0, 255).astype(np.uint8)
    picture = Image.fromarray(scaled[..., 0] if scaled.shape[-1] == 1 else scaled[..., :3])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
