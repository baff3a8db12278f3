"""Streams of one job: what one sees all see, and a thousand ask the database no more often than one."""

import asyncio

import pytest
from sqlalchemy import update

from app.api import watching
from app.api.watching import EventWatch
from app.db.events import NewEvent, write_events
from app.db.session import Sessions
from app.db.tables import Job
from app.domain.errors import DatabaseUnavailableError
from tests.factories import counted_queries, make_dataset, submit_job


@pytest.fixture
def job_id(sqlite_sessions: Sessions) -> str:
    return submit_job(sqlite_sessions, make_dataset(sqlite_sessions))


def tell(sessions: Sessions, job_id: str, text: str) -> None:
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(step=1))
        write_events(session, job_id, [NewEvent("log", {"text": text})])


async def follow(watch: EventWatch, job_id: str, until: str) -> list[str]:
    """Follow a job until some text; return all texts."""
    texts, after = list[str](), 0
    while until not in texts:
        for event in await watch.events_after(job_id, after):
            after = event.id
            texts.append(event.data.get("text", event.type))
    return texts


def test_many_streams_ask_as_often_as_one_and_all_see_the_same(sqlite_sessions: Sessions, job_id: str) -> None:
    async def run() -> list[list[str]]:
        watch = EventWatch(sqlite_sessions)
        streams = [asyncio.create_task(follow(watch, job_id, "two")) for _ in range(200)]
        await asyncio.sleep(0.1)
        tell(sqlite_sessions, job_id, "one")
        await asyncio.sleep(0.3)
        tell(sqlite_sessions, job_id, "two")
        return await asyncio.gather(*streams)

    with counted_queries(sqlite_sessions.kw["bind"]) as statements:
        seen = asyncio.run(run())
    assert seen == [["state", "one", "two"]] * 200
    assert len([statement for statement in statements if "FROM job_events" in statement]) < 20


def test_a_stream_that_is_closed_does_not_end_the_others(sqlite_sessions: Sessions, job_id: str) -> None:
    async def run() -> list[str]:
        watch = EventWatch(sqlite_sessions)
        closed, other = (asyncio.create_task(follow(watch, job_id, "news")) for _ in range(2))
        await asyncio.sleep(0.05)
        closed.cancel()
        tell(sqlite_sessions, job_id, "news")
        return await other

    assert asyncio.run(run())[-1] == "news"


def test_an_outage_is_told_to_every_stream_and_the_next_look_tries_again(
    sqlite_sessions: Sessions, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailableError("Away.")

    async def run() -> None:
        watch = EventWatch(sqlite_sessions)
        with monkeypatch.context() as outage:
            outage.setattr(watching.events, "list_events", away)
            told = await asyncio.gather(*(watch.events_after(job_id, 0) for _ in range(3)), return_exceptions=True)
            assert [type(error) for error in told] == [DatabaseUnavailableError] * 3
        assert [event.type for event in await watch.events_after(job_id, 0)] == ["state"]

    asyncio.run(run())
