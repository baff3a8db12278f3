"""Real hosts on real databases; what they train is scripted unless a test says otherwise."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.db.session import create_engine_for, make_sessions
from app.domain.jobs import Timing
from app.store import store_from
from tests.workers import add_blobs_dataset, script, submit_job, worker_settings


class Service:
    """A database, a store and a data set that hosts share; the API's side of the job protocol."""

    def __init__(self, directory: Path, url: str, timing: Timing, **overrides: Any) -> None:
        self.directory = directory
        self.settings = worker_settings(directory / "home", url, timing, **overrides)
        self.engine = create_engine_for(url)
        self.sessions = make_sessions(self.engine)
        store = store_from(self.settings)
        self.dataset_id = add_blobs_dataset(self.sessions, store, directory)

    def submit(self, *, name: str = "scripted", spec: dict[str, Any] | None = None, **tags: object) -> str:
        return submit_job(self.sessions, self.dataset_id, name, tags=script(**tags), **(spec or {}))


@pytest.fixture
def make_service(tmp_path: Path, timing: Timing) -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def make(url: str, **overrides: Any) -> Service:
        made.append(Service(tmp_path, url, overrides.pop("timing", timing), **overrides))
        return made[-1]

    yield make
    for service in made:
        service.engine.dispose()


@pytest.fixture
def service(make_service: Callable[..., Service], sqlite_url: str) -> Service:
    """Give the embedded form: SQLite, no broker."""
    return make_service(sqlite_url)
