import os
from pathlib import Path

import pytest

from app.store.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of real data sets, or skip."""
    folder = Path(os.environ.get("LEANFUSE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (folder / "optdigits_train.csv").is_file():
        pytest.skip(f"no real data under {folder}; set LEANFUSE_TEST_DATA")
    return folder
