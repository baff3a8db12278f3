"""Read the sets that come with Leanfuse, or are found on the machine; runs in the jail."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from app.datasets.fetch import unavailable
from app.datasets.options import Builtin, IngestOptions, Limits
from app.datasets.readers.idx import read_idx
from app.datasets.readers.npz import read_npz
from app.datasets.rows import RawRows
from app.datasets.shapes import as_float32

FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DIGITS = tuple("0123456789")


def read_builtin(builtin: Builtin, files: Sequence[Path], limits: Limits) -> RawRows:
    """Read a builtin set; `files` are what `prepare` found or fetched for it."""
    readers: Mapping[Builtin, Callable[[], RawRows]] = {
        "digits": _read_digits,
        "mnist1d": _read_mnist1d,
        "fashion_mnist": lambda: _read_fashion_mnist(files, limits),
    }
    return readers[builtin]()


def _read_digits() -> RawRows:
    """Read the 1,797 digits of 8 x 8 pixels, 0 to 16, that scikit-learn ships.

    Its file is read rather than `load_digits` called, because importing scikit-learn takes seconds.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise unavailable("digits", "scikit-learn is not installed")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise unavailable("digits", f"{path.name} of scikit-learn: {error}") from None
    return RawRows(
        features="image", x=table[:, :-1].reshape(-1, 8, 8, 1), labels=table[:, -1].astype(np.int64), classes=DIGITS
    )


def _read_mnist1d() -> RawRows:
    """Generate MNIST-1D with the package's defaults: 4,000 + 1,000 rows of 40 steps (Greydanus & Kobak 2020)."""
    # mnist1d imports matplotlib and requests, to draw and to download; neither happens here, and both are slow to load.
    for name in ("matplotlib", "matplotlib.pyplot", "requests"):
        sys.modules.setdefault(name, ModuleType(name))
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError as error:
        raise unavailable("mnist1d", str(error)) from None
    made = make_dataset(get_dataset_args())
    x = np.concatenate([made["x"], made["x_test"]])
    return RawRows(
        features="signal",
        x=as_float32(x)[:, :, None],
        labels=np.concatenate([made["y"], made["y_test"]]).astype(np.int64),
        official=np.arange(len(x)) >= len(made["x"]),
        classes=DIGITS,
    )


def _read_fashion_mnist(files: Sequence[Path], limits: Limits) -> RawRows:
    if len(files) == 1:  # what worker.nn.fetch wrote
        return read_npz(files[0], IngestOptions(name="fashion-mnist", classes=FASHION_MNIST_CLASSES), limits)
    train_x, train_y, test_x, test_y = (read_idx(path, limits) for path in files)
    return RawRows(
        features="image",
        x=np.concatenate([train_x, test_x])[..., None],
        labels=np.concatenate([train_y, test_y]),
        official=np.arange(len(train_x) + len(test_x)) >= len(train_x),
        classes=FASHION_MNIST_CLASSES,
    )
