"""The data sets of the table."""

import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from app.client import Client
from app.domain.errors import AlreadyExistsError

# Of an official train part nine rows in ten are learned from; the last tenth selects.
SPLIT = {"train": 0.72, "selection": 0.08, "report": 0.2}
EXTRA_ROWS, EXTRA_SEED = 20_000, 1_234


def add_datasets(client: Client) -> None:
    """Register MNIST-1D, more rows of it without their labels, and Fashion-MNIST."""
    for builtin, name in (("mnist1d", "mnist1d"), ("fashion_mnist", "fashion-mnist")):
        with suppress(AlreadyExistsError):
            client.datasets.add_builtin(builtin, name=name, options={"split": SPLIT})
    with tempfile.TemporaryDirectory() as directory, suppress(AlreadyExistsError):
        path = Path(directory) / "extra.npz"
        np.savez(path, x=_extra_rows())
        client.datasets.upload(path, name="mnist1d-extra", options={"task": "unlabelled", "features": "signal"})


def _extra_rows() -> np.ndarray:
    """Generate rows as MNIST-1D does, from another seed: (rows, 40, 1)."""
    from mnist1d.data import get_dataset_args, make_dataset

    options = get_dataset_args()
    options.seed, options.num_samples, options.train_split = EXTRA_SEED, EXTRA_ROWS, 1.0
    return np.asarray(make_dataset(options)["x"], np.float32)[:, :, None]
