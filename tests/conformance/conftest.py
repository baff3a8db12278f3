"""One real server on a loopback port, with registered models, for clients of others in an environment of their own."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app.cli.stack import free_port
from app.db.registry import set_alias
from app.db.session import create_engine_for, make_sessions
from app.domain.jobs import Timing
from app.settings import ServingSettings
from app.store import open_store
from tests.api.builders import Registry
from tests.workers import running, until, worker_settings

HERE = Path(__file__).parent
CLIENTS = HERE.parents[1] / ".venv-clients" / "bin" / "python"
API = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--log-level", "warning", "--port"]


def register(registry: Registry) -> None:
    """Register models of images (with an alias and a rejected version), one of texts, and an ensemble."""
    registry.add_dataset()
    registry.add_dataset("notes", shape=(16,))
    registry.add_model("pets-cnn", seed=1)
    registry.add_model("pets-cnn", seed=2)
    registry.add_model("pets-cnn", seed=3, rejected="2.1 points worse than its parent, at most 0.5 allowed")
    registry.add_model("notes-cnn", dataset="notes", dtype="uint8")
    registry.add_ensemble()
    with registry.sessions.begin() as session:
        set_alias(session, "pets-cnn", "champion", 1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[str]:
    """Serve what is registered, in a process of its own; give its URL."""
    folder = tmp_path_factory.mktemp("conformance")
    url = f"sqlite:///{shutil.copyfile(sqlite_template, folder / 'leanfuse.db')}"
    settings = worker_settings(folder / "home", url, Timing(), serving=ServingSettings(tune=False))
    engine = create_engine_for(url)
    register(Registry(make_sessions(engine), open_store(settings.store_url)))
    engine.dispose()
    address = f"http://127.0.0.1:{(port := free_port())}"
    with running([*API, str(port)], settings, name="api"):
        until(lambda: is_ready(address))
        yield address


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def run_client(server: str) -> Callable[[str], str]:
    """Give a function that runs a script of this folder against the server, and returns what it wrote."""
    if not CLIENTS.exists():
        pytest.skip("no clients of others here: `make .venv-clients/.installed` installs them")

    def run(script: str) -> str:
        command = [str(CLIENTS), str(HERE / script), server]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 0, f"{script}: {ended.stdout}\n{ended.stderr}"
        return ended.stdout

    return run
