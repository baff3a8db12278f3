"""Small data sets of every kind of rows, each with a structure that a small network finds."""

from pathlib import Path

import numpy as np

from tests.worker.methods.jobs import Workshop, digits, wave, write_dataset
from worker.assignment import DatasetInput

TRAINING = {"epochs": 6, "batch_size": 64, "optimizer": {"type": "adam", "learning_rate": 0.004}}
DEEP = {"type": "resnet", "width": 8, "blocks": 3, "dropout": 0.0}
_SQUARE = {"type": "dense", "units": 16, "activation": "relu"}
_MLP = {"type": "mlp", "hidden": [16, 16, 16], "dropout": 0.0}
ARCHITECTURES = {
    "image": DEEP,
    "signal": DEEP,
    "audio": DEEP,
    "text": {
        "type": "graph",
        "layers": [
            {"type": "conv1d", "name": "conv1", "filters": 16, "activation": "relu"},
            {"type": "conv1d", "name": "conv2", "filters": 16, "activation": "relu"},
            {"type": "global_max_pool", "name": "strongest"},
            {"type": "dense", "name": "answer", "units": 2},
        ],
    },
    "table": _MLP,
    "regression": _MLP,
}
BOUNDS = {"train": slice(0, 300), "selection": slice(300, 400), "report": slice(400, 600)}


def workshop_of(kind: str, root: Path) -> Workshop:
    """Return a workshop on rows of this kind."""
    if kind == "image":
        made = digits(root / "data", train=500)
    else:
        made = wave(root / "data") if kind == "regression" else _made(kind, root / "data")
    return Workshop(root / "jobs", made)


def _made(kind: str, directory: Path) -> DatasetInput:
    x, schema = {"signal": _signals, "audio": _sounds, "text": _messages, "table": _tables}[kind]()
    y = np.arange(len(x)) % len(schema["classes"])
    return write_dataset(directory, schema, {name: (x[part], y[part]) for name, part in BOUNDS.items()})


def _signals():
    """Waves of two channels whose pitch is the class."""
    rng, time = np.random.default_rng(0), np.linspace(0, 2 * np.pi, 32)
    pitch = 1 + np.arange(600)[:, None, None] % 3
    x = np.sin(pitch * time[:, None] + rng.uniform(0, 6, (600, 1, 2))) + rng.normal(size=(600, 32, 2)) * 0.3
    schema = {"features": "signal", "shape": (32, 2), "dtype": "float32", "classes": ("low", "middle", "high")}
    return x.astype(np.float32), schema


def _sounds():
    """Tones of 500 or 1500 Hz in noise, as samples."""
    rng, time = np.random.default_rng(0), np.arange(2000) / 8000
    pitch = np.where(np.arange(600) % 2, 1500, 500)[:, None, None]
    x = 8000 * np.sin(2 * np.pi * pitch * time[:, None]) + rng.normal(size=(600, 2000, 1)) * 2000
    schema = {
        "features": "signal",
        "shape": (2000, 1),
        "dtype": "int16",
        "sample_rate": 8000,
        "classes": ("low", "high"),
    }
    return x.astype(np.int16), schema


def _messages():
    """Random letters, with a word somewhere that tells the class."""
    rng = np.random.default_rng(0)
    x = rng.integers(97, 123, (600, 24)).astype(np.uint8)
    for row, start in enumerate(rng.integers(0, 20, 600)):
        x[row, start : start + 4] = np.frombuffer(b"FREE" if row % 2 else b"hola", np.uint8)
    return x, {"features": "text", "shape": (24,), "dtype": "uint8", "classes": ("ham", "spam")}


def _tables():
    """Two clouds around opposite corners."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 6)) + np.where(np.arange(600) % 2, 0.7, -0.7)[:, None]
    return x.astype(np.float32), {"features": "table", "shape": (6,), "dtype": "float32", "classes": ("a", "b")}
