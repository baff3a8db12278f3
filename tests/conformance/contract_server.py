"""A real server on loopback with a data set, models, an ensemble and an alias, for clients that are not ours."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from app.cli.stack import free_port
from app.db import registry
from app.db.session import create_engine_for, make_sessions
from app.settings import Settings
from app.store import open_store
from tests.api.builders import Registry
from tests.workers import running, until

API = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--log-level", "warning"]
CLIENTS = Path(__file__).parents[2] / ".venv-clients" / "bin"


class Server(NamedTuple):
    """Say where it listens, and where its log is."""

    url: str
    settings: Settings

    @property
    def log(self) -> str:
        """Return what the process has written."""
        return "".join(path.read_text(errors="replace") for path in self.settings.home.glob("api-*.log"))


@contextmanager
def serving(folder: Path, sqlite_template: Path) -> Iterator[Server]:
    """Fill a registry as workers do, serve it, and end the process by its pid."""
    database = shutil.copyfile(sqlite_template, folder / "leanfuse.db")
    settings = Settings(home=folder / "home", database_url=f"sqlite:///{database}", log_format="json")
    fill(settings)
    url = f"http://127.0.0.1:{(port := free_port())}"
    with running([*API, "--port", str(port)], settings, name="api") as process:
        until(lambda: _is_ready(url) or process.poll() is not None)
        assert process.poll() is None, "the server ended before it was ready"
        yield Server(url, settings)


def fill(settings: Settings) -> None:
    """Register `pets`, a network and an ensemble of it, and a regression with its rows."""
    engine = create_engine_for(settings.database_url)
    known = Registry(make_sessions(engine), open_store(settings.store_url))
    known.add_dataset()
    known.add_network("pets-mlp", {"type": "mlp", "hidden": [8, 6]})
    known.add_ensemble()
    known.add_dataset("prices", task="regression", classes=())
    known.add_model("prices-mlp", dataset="prices")
    with known.sessions.begin() as session:
        registry.set_alias(session, "pets-duo", "champion", 1)
    engine.dispose()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False
