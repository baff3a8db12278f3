import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.demo import running_service

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the whole embedded service and yield its URL."""
    home: Path = tmp_path_factory.mktemp("service") / "home"
    with running_service("embedded", home=home) as url:
        yield url


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site from a copy, as `make docs` does, and return its folder."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in ("zensical.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    program = Path(sys.executable).with_name("zensical")
    built = subprocess.run(
        [program, "build", "--strict", "--clean"], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert built.returncode == 0, re.sub(r"\x1b\[[0-9;]*m", "", f"{built.stdout}\n{built.stderr}")
    return folder / "site"
