from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.demo import running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the whole embedded service and yield its URL."""
    home: Path = tmp_path_factory.mktemp("service") / "home"
    with running_service("embedded", home=home) as url:
        yield url
