"""The data sets of the table."""

import csv
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from app.client import Client

Add: TypeAlias = Callable[[Client, str, Path], None]
# Of an official train part nine rows in ten are learned from; the last tenth selects.
SPLIT = {"train": 0.72, "selection": 0.08, "report": 0.2}
EXTRA_ROWS, EXTRA_SEED = 20_000, 1_234
FRESH_ROWS, FRESH_SEED = 20_000, 4_321
SMS_TRAIN_SHARE = 0.3
DATA = Path(os.environ.get("LEANFUSE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def add_datasets(client: Client, names: set[str]) -> None:
    """Register those of the data sets that are named; the files of real ones lie in LEANFUSE_TEST_DATA."""
    known = {dataset["name"] for dataset in client.datasets.list()}
    with tempfile.TemporaryDirectory() as directory:
        for name in sorted(names - known):
            _ADD[name](client, name, Path(directory))


def _add_builtin(builtin: str) -> Add:
    def add(client: Client, name: str, _: Path) -> None:
        client.datasets.add_builtin(builtin, name=name, options={"split": SPLIT})

    return add


def _add_extra(client: Client, name: str, directory: Path) -> None:
    """Add more rows of MNIST-1D without their labels."""
    path = directory / "extra.npz"
    np.savez(path, x=_mnist1d(EXTRA_ROWS, EXTRA_SEED)[0])
    client.datasets.upload(path, name=name, options={"task": "unlabelled", "features": "signal"})


def _add_fresh(client: Client, name: str, directory: Path) -> None:
    """Add MNIST-1D with its own train part and many fresh report rows, so that a claim has a narrow interval."""
    from mnist1d.data import get_dataset_args, make_dataset

    own = make_dataset(get_dataset_args())
    fresh_x, fresh_y = _mnist1d(FRESH_ROWS, FRESH_SEED)
    train_x = np.asarray(own["x"], np.float32)[:, :, None]
    path = directory / "fresh.npz"
    np.savez(path, train_x=train_x, train_y=own["y"], test_x=fresh_x, test_y=fresh_y)
    _upload(client, name, path, {"features": "signal"})


def _mnist1d(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Generate rows (rows, 40, 1) and labels as MNIST-1D does, from another seed."""
    from mnist1d.data import get_dataset_args, make_dataset

    options = get_dataset_args()
    options.seed, options.num_samples, options.train_split = seed, rows, 1.0
    made = make_dataset(options)
    return np.asarray(made["x"], np.float32)[:, :, None], np.asarray(made["y"], np.int64)


def _add_optdigits(client: Client, name: str, directory: Path) -> None:
    """Add the official split, by other writers, as images of 8 x 8."""
    arrays = {}
    for part in ("train", "test"):
        table = np.loadtxt(DATA / f"optdigits_{part}.csv", delimiter=",", skiprows=1, dtype=np.int64)
        arrays |= {f"{part}_x": table[:, :64].reshape(-1, 8, 8, 1).astype(np.uint8), f"{part}_y": table[:, 64]}
    path = directory / "optdigits.npz"
    np.savez(path, **arrays)
    _upload(client, name, path, {"features": "image"})


def _add_spoken(client: Client, name: str, _: Path) -> None:
    """Add the recordings; 00 to 04 of each speaker and digit are the official report part."""
    _upload(client, name, DATA / "spoken_digits.zip", {"report_pattern": r"_0[0-4]\.wav$"})


def _add_sms(client: Client, name: str, directory: Path) -> None:
    """Add the messages; the first 30 % are learned from, as its authors did."""
    with (DATA / "sms_spam.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    last = round(SMS_TRAIN_SHARE * len(rows))
    path = directory / "sms.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "text", "part"])
        for place, row in enumerate(rows):
            writer.writerow([row["label"], row["text"], "train" if place < last else "report"])
    _upload(client, name, path, {"part": "part", "features": "text"})


def _upload(client: Client, name: str, path: Path, options: dict[str, str]) -> None:
    client.datasets.upload(path, name=name, options={**options, "split": json.dumps(SPLIT)})


_ADD: dict[str, Add] = {
    "mnist1d": _add_builtin("mnist1d"),
    "fashion-mnist": _add_builtin("fashion_mnist"),
    "mnist1d-extra": _add_extra,
    "mnist1d-fresh": _add_fresh,
    "optdigits": _add_optdigits,
    "spoken-digits": _add_spoken,
    "sms-spam": _add_sms,
}
