"""Find or fetch what a builtin set needs; runs outside the jail, which has no network."""

import os
import subprocess
import sys
from pathlib import Path

from app.datasets.options import Builtin
from app.domain.errors import DatasetUnavailableError

FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
FETCH_SECONDS = 600


def prepare(builtin: Builtin, workspace: Path) -> list[Path]:
    """Find the files of a builtin set, or fetch them."""
    if builtin != "fashion_mnist":
        return []
    found = find_fashion_mnist(FASHION_MNIST_FOLDER)
    return found or [fetch(builtin, workspace / "fetched.npz")]


def find_fashion_mnist(folder: Path) -> list[Path]:
    """Return Debian's four idx files, gzipped or not, or nothing when one is missing."""
    found = []
    for name in FASHION_MNIST_FILES:
        here = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if not here:
            return []
        found.append(here[0])
    return found


def fetch(builtin: Builtin, target: Path) -> Path:
    """Let a child process download the set through keras.datasets, which this process must not import."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("LEANFUSE_")}
    command = [sys.executable, "-m", "worker.nn.fetch", builtin, str(target)]
    home = Path(__file__).parents[2]
    try:
        done = subprocess.run(command, cwd=home, env=settings, capture_output=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise unavailable(builtin, f"fetching it took more than {FETCH_SECONDS} s") from None
    if done.returncode or not target.is_file():
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["the fetching process failed"]
        raise unavailable(builtin, lines[-1][:500])
    return target


def unavailable(builtin: Builtin, why: str) -> DatasetUnavailableError:
    """Say what to install for a builtin that is missing."""
    hints = {
        "digits": "Install scikit-learn.",
        "mnist1d": "Install the PyPI package mnist1d where the service runs: pip install mnist1d.",
        "fashion_mnist": "Install Debian's dataset-fashion-mnist (apt-get install dataset-fashion-mnist), or let "
        "keras.datasets fetch it: that needs the `worker` extra and the internet.",
    }
    return DatasetUnavailableError(f"The builtin {builtin} cannot be read: {why}.", hint=hints[builtin])
