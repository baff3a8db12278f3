"""The application on a real database and store, with real graphs registered as a worker registers them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.api.deps import Services
from app.main import create_app
from app.settings import Limits, Settings
from tests.api.builders import Registry, files_under
from tests.api.contract import held_client

LIMITS = Limits(body_bytes=1_000_000, upload_bytes=2_000_000)


@pytest.fixture
def settings(tmp_path: Path, sqlite_url: str) -> Settings:
    """Set up on SQLite, with a small body limit."""
    return Settings(home=tmp_path / "home", database_url=sqlite_url, limits=LIMITS)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with held_client(app) as client:
        yield client


@pytest.fixture
def services(app: FastAPI, client: TestClient) -> Services:
    """Give what the running application is made of."""
    found: Services = app.state.services
    return found


@pytest.fixture
def registry(services: Services) -> Registry:
    """Register data sets and models as workers do."""
    return Registry(services.sessions, services.store)


class Refusing(NamedTuple):
    """An application that serves many tests, because none of them changes it."""

    client: TestClient
    registry: Registry
    settings: Settings


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Refusing]:
    """Serve one data set, one model and one ensemble to a whole module."""
    folder = tmp_path_factory.mktemp("shared")
    database = shutil.copyfile(sqlite_template, folder / "leanfuse.db")
    settings = Settings(home=folder / "home", database_url=f"sqlite:///{database}", limits=LIMITS)
    app = create_app(settings)
    with held_client(app) as client:
        services: Services = app.state.services
        registry = Registry(services.sessions, services.store)
        registry.add_dataset()
        registry.add_dataset("mini", shape=(3, 3, 1))
        registry.add_model("pets-cnn")
        registry.add_model("mini-cnn", dataset="mini")
        registry.add_ensemble()
        registry.add_network("pets-mlp", {"type": "mlp", "hidden": [8, 6]})
        registry.add_network("pets-deep", {"type": "mlp", "hidden": [8, 8, 8]})
        registry.add_model("pets-int8", method="quantize")
        services.view.refresh()
        yield Refusing(client, registry, settings)


@pytest.fixture
def refusing(shared: Refusing) -> Iterator[TestClient]:
    """Give a client, and check that the refused request has left no row and no file behind."""
    rows, files = shared.registry.counts(), files_under(shared.settings.home)
    yield shared.client
    assert shared.registry.counts() == rows
    assert files_under(shared.settings.home) == files
