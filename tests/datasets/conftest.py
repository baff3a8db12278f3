from pathlib import Path

import pytest

from app.store.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"
