"""Shadows leave room for live requests, and lose no counts while the database is away."""

import asyncio
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.db import rollouts
from app.domain.errors import DatabaseUnavailableError
from app.serving.shadow import Shadows
from app.serving.view import Route

ROUTE = Route(SimpleNamespace(), SimpleNamespace(name="pets", version=2), "rollout")  # type: ignore[arg-type]
ANSWER = np.array([[0.9, 0.1]], np.float32)


class Database:
    """Take what is added, unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.added: list[dict[str, Any]] = []

    @contextmanager
    def begin(self) -> Any:
        if self.away:
            raise DatabaseUnavailableError("The database does not answer.")
        yield self


class Slow:
    """Answer once it is let go."""

    def __init__(self) -> None:
        self.free = asyncio.Event()

    async def predict(self, version: Any, rows: Any, outputs: Any) -> list[Any]:
        await self.free.wait()
        return [np.repeat(ANSWER, len(rows), axis=0)]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    found = Database()
    monkeypatch.setattr(rollouts, "add_tallies", lambda session, counted: session.added.append(counted["rollout"]))
    return found


async def mirrored(database: Database, requests: int, *, rows: int, most_rows: int) -> Shadows:
    predictor = Slow()
    shadows = Shadows(predictor, database, most_rows=most_rows)  # type: ignore[arg-type]
    for _ in range(requests):
        inputs, answers = np.zeros((rows, 2)), np.repeat(ANSWER, rows, axis=0)
        shadows.mirror(ROUTE, inputs, answers, seconds=0.001, output="probabilities")
    predictor.free.set()
    await asyncio.sleep(0.05)
    return shadows


@pytest.mark.parametrize(
    ("requests", "rows", "most_rows", "answered"), [(100, 1, 4096, 64), (10, 30, 100, 3), (3, 1, 9, 3)]
)
def test_what_a_shadow_cannot_take_is_dropped_and_counted(
    database: Database, requests: int, rows: int, most_rows: int, answered: int
) -> None:
    shadows = asyncio.run(mirrored(database, requests, rows=rows, most_rows=most_rows))
    shadows.flush()
    (counted,) = database.added
    assert (counted["requests"], counted["dropped"]) == (answered, requests - answered)


def test_counts_are_kept_while_the_database_is_away(database: Database) -> None:
    shadows = asyncio.run(mirrored(database, 5, rows=2, most_rows=100))
    database.away = True
    shadows.flush()
    shadows.flush()
    database.away = False
    shadows.flush()
    shadows.flush()
    (counted,) = database.added
    assert (counted["requests"], counted["rows"], counted["agreeing_rows"]) == (5, 10, 10)
