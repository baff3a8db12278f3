import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import uvicorn
from fastapi import FastAPI

from app.cli.demo import running_service
from app.client import Client
from app.main import create_app
from app.settings import Settings
from tests.api.builders import Registry


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the whole embedded service and yield its URL."""
    home: Path = tmp_path_factory.mktemp("service") / "home"
    with running_service("embedded", home=home) as url:
        yield url


class Small(NamedTuple):
    """A real API on a loopback port, with small models that nobody had to train."""

    url: str
    client: Client
    registry: Registry


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Small]:
    """Serve two data sets, two versions of a model and an ensemble; the tests of a module share them."""
    folder = tmp_path_factory.mktemp("small")
    database = shutil.copyfile(sqlite_template, folder / "leanfuse.db")
    app = create_app(Settings(home=folder / "home", database_url=f"sqlite:///{database}"))
    with _listening(app) as url, Client(url) as client:
        registry = Registry(app.state.services.sessions, app.state.services.store)
        registry.add_dataset()
        registry.add_dataset("prices", classes=(), task="regression")
        registry.add_model("pets-cnn")
        registry.add_model("pets-cnn", seed=5)
        registry.add_model("prices-mlp", dataset="prices")
        registry.add_ensemble()
        app.state.services.view.refresh()
        client.models.set_alias("pets-cnn", "champion", 2)
        yield Small(url, client, registry)


@contextmanager
def _listening(app: FastAPI) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()
