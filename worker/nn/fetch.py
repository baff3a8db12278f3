"""Download a data set through keras.datasets: `python -m worker.nn.fetch fashion_mnist OUT.npz`.

A process of its own, because the API that asks for it must never import Keras.
"""

import os
import sys
from pathlib import Path

import numpy as np


def fetch(name: str, target: Path) -> None:
    """Write train_x, train_y, test_x and test_y to an NPZ."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    from keras import datasets

    (train_x, train_y), (test_x, test_y) = getattr(datasets, name).load_data()
    np.savez(target, train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y)


def main(arguments: list[str]) -> int:
    """Fetch, or say on the last line of stderr why not."""
    name, target = arguments
    if name != "fashion_mnist":
        sys.stderr.write(f"there is nothing to fetch for {name!r}\n")
        return 2
    try:
        fetch(name, Path(target))
    except ImportError as error:
        sys.stderr.write(f"{error.name or error} is not installed\n")
        return 1
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a download is told in one line
        sys.stderr.write(" ".join(f"{type(error).__name__}: {error}".split()) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
