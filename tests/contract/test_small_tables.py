"""Data sets, idempotency keys, workers and the clock, on both databases."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from app.db import datasets, idempotency, janitor, workers
from app.db.base import insert_missing, later, new_id, now
from app.db.idempotency import Answer
from app.db.pages import PageRequest
from app.db.session import Sessions, reading
from app.db.tables import Dataset
from app.domain.datasets import DatasetManifest
from app.domain.errors import (
    AlreadyExistsError,
    DatasetNotFoundError,
)
from app.domain.request_errors import IdempotencyInProgressError, IdempotencyKeyReusedError
from tests.factories import dataset_manifest, make_dataset, sha256

ANSWER = Answer(202, {"id": "7", "state": "queued"})


class TestDatasets:
    def test_a_data_set_comes_back_whole(self, sessions: Sessions) -> None:
        dataset_id = make_dataset(sessions)

        with reading(sessions) as session:
            found = datasets.get_dataset(session, "digits")
            assert datasets.dataset_by_id(session, dataset_id) is found
        assert DatasetManifest.model_validate(found.manifest) == dataset_manifest()
        assert found.digest == dataset_manifest().digest

    def test_adding_it_again_is_no_error(self, sessions: Sessions) -> None:
        first = make_dataset(sessions)
        with sessions.begin() as session:
            again, new = datasets.add_dataset(session, "digits", dataset_manifest())

        assert (again.id, new) == (first, False)

    def test_a_name_keeps_its_content(self, sessions: Sessions) -> None:
        make_dataset(sessions)
        with sessions() as session, pytest.raises(AlreadyExistsError, match="digits"):
            datasets.add_dataset(session, "digits", dataset_manifest(seed=1))

    def test_an_unknown_name_is_answered_with_a_close_one(self, sessions: Sessions) -> None:
        make_dataset(sessions)
        with reading(sessions) as session, pytest.raises(DatasetNotFoundError, match="digit") as caught:
            datasets.get_dataset(session, "digit")

        assert "`digits`" in caught.value.hint

    def test_they_are_listed_by_name_page_by_page(self, sessions: Sessions) -> None:
        for name in ("c", "a", "b"):
            make_dataset(sessions, name)
        with reading(sessions) as session:
            first = datasets.list_datasets(session, PageRequest(size=2))
            rest = datasets.list_datasets(session, PageRequest(size=2, after=first.next))

        assert [found.name for found in (*first.items, *rest.items)] == ["a", "b", "c"]


class TestIdempotency:
    def test_the_first_request_works_and_the_second_is_answered_from_memory(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            assert idempotency.claim_key(session, "key", sha256("a")) is None
            idempotency.keep_answer(session, "key", ANSWER)

        with sessions.begin() as session:
            assert idempotency.claim_key(session, "key", sha256("a")) == ANSWER

    def test_another_request_may_not_use_the_key(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            idempotency.claim_key(session, "key", sha256("a"))
            idempotency.keep_answer(session, "key", ANSWER)

        with sessions() as session, pytest.raises(IdempotencyKeyReusedError):
            idempotency.claim_key(session, "key", sha256("b"))

    def test_a_claim_without_an_answer_is_in_progress(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            idempotency.claim_key(session, "key", sha256("a"))

        with sessions() as session, pytest.raises(IdempotencyInProgressError):
            idempotency.claim_key(session, "key", sha256("a"))

    def test_a_failed_request_leaves_the_key_free(self, sessions: Sessions) -> None:
        with sessions() as session:
            idempotency.claim_key(session, "key", sha256("a"))
            session.rollback()

        with sessions.begin() as session:
            assert idempotency.claim_key(session, "key", sha256("b")) is None

    def test_expired_answers_are_forgotten_and_purged(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            for key in ("a", "b"):
                idempotency.claim_key(session, key, sha256("a"), lifetime_seconds=-1)
            assert idempotency.claim_key(session, "a", sha256("other")) is None
            assert (janitor.purge_idempotency(session), janitor.purge_idempotency(session)) == (1, 0)

    def test_of_requests_at_the_same_time_one_works(self, sessions: Sessions) -> None:
        worked: list[bool] = []

        def post() -> None:
            with sessions.begin() as session:
                first = idempotency.claim_key(session, "key", sha256("a")) is None
                if first:
                    time.sleep(0.05)
                    idempotency.keep_answer(session, "key", ANSWER)
                worked.append(first)

        threads = [threading.Thread(target=post) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(worked) == [False] * 5 + [True]


class TestWorkers:
    def test_a_worker_reports_is_seen_drains_and_leaves(self, sessions: Sessions) -> None:
        new = workers.NewWorker(new_id(), "host", 42, 2, 1)
        with sessions.begin() as session:
            workers.register_worker(session, new)
            assert not workers.worker_alive(session, new.id)
            workers.request_drain(session, new.id)
            assert workers.worker_alive(session, new.id)
            assert [found.pid for found in workers.list_workers(session)] == [42]
            assert workers.list_workers(session, seen_within_seconds=-1) == []
            workers.register_worker(session, new)
            assert not workers.worker_alive(session, new.id)
            workers.remove_worker(session, new.id)
            assert workers.list_workers(session) == []

    def test_an_unknown_worker_is_not_asked_to_drain(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            assert not workers.worker_alive(session, "nobody")


class TestClock:
    def test_it_is_that_of_the_database_and_moves(self, sessions: Sessions) -> None:
        with sessions.begin() as session:
            first, soon = session.execute(select(now(), later(10.5))).one()
            time.sleep(0.01)
            second = session.execute(select(now())).scalar_one()

        assert first.tzinfo is UTC
        assert abs(first - datetime.now(UTC)) < timedelta(minutes=5)
        assert second > first
        assert timedelta(seconds=10) < soon - first < timedelta(seconds=11)

    def test_a_time_survives_the_way_there_and_back(self, sessions: Sessions) -> None:
        make_dataset(sessions)
        with reading(sessions) as session:
            found = datasets.get_dataset(session, "digits")
            again = session.scalars(select(Dataset.id).where(Dataset.created_at == found.created_at)).all()

        assert again == [found.id]


def test_rows_that_exist_are_left_as_they_are(sessions: Sessions) -> None:
    row = {"id": new_id(), "name": "a", "digest": sha256("a"), "manifest": {}, "created_at": now()}
    with sessions.begin() as session:
        assert insert_missing(session, Dataset, []) == 0
        assert insert_missing(session, Dataset, [row, row | {"id": new_id(), "name": "b"}]) == 2
        assert insert_missing(session, Dataset, [row | {"digest": sha256("b")}]) == 0
        assert session.get_one(Dataset, row["id"]).digest == sha256("a")


def test_ids_are_unique_and_sorted_by_time() -> None:
    first = [new_id() for _ in range(1000)]
    time.sleep(0.002)

    assert len(set(first)) == 1000
    assert max(first) < new_id()
    assert {(made[14], made[19] in "89ab") for made in first} == {("7", True)}
