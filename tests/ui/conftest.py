"""Pages over real data sets of every kind and versions registered as workers register them."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.api.deps import Services
from app.cli.demo import running_service
from app.cli.stack import free_port
from app.db.datasets import add_dataset
from app.domain.datasets import DatasetManifest, DatasetSchema, FileRef
from app.domain.models import Metrics
from app.main import create_app
from app.settings import Settings
from tests.api.builders import Registry
from tests.workers import is_ready, running, until

REPORT = Path(__file__).parents[2] / "benchmarks" / "scale" / "report.json"
METRICS = Metrics(
    accuracy=0.94,
    accuracy_interval=(0.91, 0.96),
    nll=0.22,
    brier=0.1,
    ece=0.05,
    parameters=28_510,
    macs=256_928,
    served_bytes=125_390,
    weights_bytes=118_216,
    latency_ms_batch_1=0.067,
    latency_ms_batch_32=0.46,
)
ROWS = {
    "sounds": {"features": "signal", "shape": (40, 1), "dtype": "int16", "sample_rate": 8000},
    "letters": {"features": "text", "shape": (32,), "dtype": "uint8"},
    "flowers": {"features": "table", "shape": (3,), "dtype": "float32", "columns": ("length", "width", "height")},
}
NASTY = '<script>alert("x")</script>'


PAGES = (
    *("/", "/ui/jobs", "/ui/jobs/new", "/ui/datasets", "/ui/models", "/ui/ensembles", "/ui/compare", "/ui/try"),
    *(
        "/ui/problems",
        "/ui/problems/out-of-range",
        "/ui/serving",
        "/ui/datasets/pets",
        "/ui/datasets/sounds",
        "/ui/datasets/letters",
        "/ui/datasets/flowers",
    ),
    *("/ui/datasets/prices", "/ui/models/pets-cnn", "/ui/models/pets-cnn/versions/1", "/ui/try?model=pets-duo"),
    *("/ui/ensembles/pets-duo/versions/1", "/ui/compare?dataset=pets&x=bytes&versions=all", "/ui/jobs?state=failed"),
)


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[TestClient]:
    """Serve a registry that has something for every page; no test changes it."""
    with _furnished(tmp_path_factory.mktemp("pages"), sqlite_template) as (client, _):
        yield client


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[str]:
    """Serve the same to a browser, and yield its URL."""
    with _furnished(tmp_path_factory.mktemp("furnished"), sqlite_template) as (_, settings):
        pass
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--log-level", "warning"]
    with running([*command, "--port", str(port)], settings, name="api"):
        until(lambda: is_ready(f"http://127.0.0.1:{port}"))
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _furnished(folder: Path, sqlite_template: Path) -> Iterator[tuple[TestClient, Settings]]:
    database = shutil.copyfile(sqlite_template, folder / "leanfuse.db")
    settings = Settings(home=folder / "home", database_url=f"sqlite:///{database}")
    app = create_app(settings)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        services: Services = app.state.services
        registry = Registry(services.sessions, services.store)
        registry.add_dataset(classes=("cat", "dog", NASTY))
        report = {"report.json": registry.put_bytes(REPORT.read_bytes())}
        registry.add_model("pets-cnn", files=report, metrics=METRICS)
        registry.add_ensemble()
        for name, given in ROWS.items():
            _add_rows(registry, name, given)
        registry.add_dataset("prices", classes=(), task="regression")
        registry.add_model("prices-line", dataset="prices")
        for seed in (1, 2):
            registry.add_model("pets-twice", seed=seed)
        registry.add_model("sounds-line", dataset="sounds")
        registry.add_model("letters-line", dataset="letters", dtype="uint8")
        registry.add_model("flowers-line", dataset="flowers")
        services.view.refresh()
        client.patch("/v1/models/pets-cnn", json={"description": NASTY}).raise_for_status()
        client.put("/v1/models/pets-cnn/aliases/champion", json={"version": 1}).raise_for_status()
        yield client, settings


def _add_rows(registry: Registry, name: str, given: dict[str, Any]) -> None:
    counts = {"train": 6, "selection": 2, "report": 4}
    schema = DatasetSchema(classes=("no", "yes"), rows=counts, **given)  # type: ignore[arg-type]
    files: dict[str, FileRef] = {}
    for row_set, count in counts.items():
        files[f"{row_set}_x"] = registry.put_array(_inputs(given, count))
        files[f"{row_set}_y"] = registry.put_array(np.arange(count, dtype=np.int64) % 2)
        files[f"{row_set}_hash"] = registry.put_array(np.zeros((count, 16), dtype=np.uint8))
    with registry.sessions.begin() as session:
        add_dataset(session, name, DatasetManifest(dataset_schema=schema, files=files))


def _inputs(given: dict[str, Any], count: int) -> np.ndarray:
    shape = (count, *given["shape"])
    if given["features"] == "text":
        text = f"free money {NASTY}".encode()[: shape[1]].ljust(shape[1], b"\0")
        return np.tile(np.frombuffer(text, dtype=np.uint8), (count, 1))
    return np.linspace(-100, 100, int(np.prod(shape))).reshape(shape).astype(given["dtype"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the whole embedded service, with a worker that trains, and yield its URL."""
    with running_service("embedded", home=tmp_path_factory.mktemp("service") / "home") as url:
        yield url
