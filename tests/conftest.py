"""What every test may ask for."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no fault of what is tested: pytest's timeout ends what hangs.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Measuring every tiny graph would take longer than the tests do; those about tuning turn it on.
os.environ.setdefault("LEANFUSE_SERVING__TUNE", "false")

pytest_plugins = ["tests.services", "tests.object_store", "tests.browsers"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes, so that at the end no process waits for another."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of real data sets, or skip."""
    folder = Path(os.environ.get("LEANFUSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "optdigits_train.csv").is_file():
        pytest.skip(f"no real data under {folder}; set LEANFUSE_TEST_DATA")
    return folder
