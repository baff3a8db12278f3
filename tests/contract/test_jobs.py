"""Jobs as their users see them, on both databases."""

import pytest

from app.db import events, jobs
from app.db.attempts import claim
from app.db.jobs import JobFilter
from app.db.pages import PageRequest
from app.db.session import Sessions, reading
from app.domain.errors import JobAlreadyFinishedError, JobNotFoundError
from tests.factories import (
    TIMING,
    claim_job,
    counted_queries,
    ensemble_job,
    finish_job,
    get_row,
    new_job,
    submit_job,
    train,
)


def submit_ensemble(sessions: Sessions, dataset_id: str, members: int = 2) -> tuple[str, list[str]]:
    with sessions.begin() as session:
        parent_id = jobs.submit(session, ensemble_job(dataset_id, members)).id
        return parent_id, [row.job_id for row in jobs.dependencies(session, parent_id)]


def states(sessions: Sessions, *job_ids: str) -> list[str]:
    return [get_row(sessions, job_id).state for job_id in job_ids]


def told(sessions: Sessions, job_id: str) -> list[tuple[str, object]]:
    with reading(sessions) as session:
        return [(event.type, event.data.get("state")) for event in events.list_events(session, job_id)]


def cancel(sessions: Sessions, job_id: str) -> str:
    with sessions.begin() as session:
        return jobs.cancel(session, job_id).state


class TestSubmit:
    def test_a_new_job_waits_with_its_event(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)

        with reading(sessions) as session:
            row = jobs.get_job(session, job_id)
        assert (row.job.state, row.job.token, row.dataset, row.result_version) == ("queued", 0, "digits", None)
        assert told(sessions, job_id) == [("state", "queued")]

    def test_nothing_is_left_of_a_submit_that_is_rolled_back(self, sessions: Sessions, dataset_id: str) -> None:
        with sessions() as session:
            job_id = jobs.submit(session, ensemble_job(dataset_id)).id
            session.rollback()

        with reading(sessions) as session, pytest.raises(JobNotFoundError):
            jobs.get_job(session, job_id)
        assert claim(sessions, "worker-1", timing=TIMING) is None

    def test_the_spec_comes_back_as_it_was_written(self, sessions: Sessions, dataset_id: str) -> None:
        spec = {"kind": "train", "tags": {"größe": "ünïcode \\u0000 \\"}, "numbers": [1, 2.5, None, True]}
        job_id = submit_job(sessions, dataset_id, spec=spec)

        assert get_row(sessions, job_id).spec == spec

    def test_what_databases_refuse_in_json_is_left_out(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id, spec={"log": "a\x00b\\\x00", "loss": float("nan")})

        assert get_row(sessions, job_id).spec == {"log": "ab\\", "loss": None}


class TestList:
    def test_the_newest_comes_first_page_by_page(self, sessions: Sessions, dataset_id: str) -> None:
        submitted = [submit_job(sessions, dataset_id) for _ in range(5)]
        seen, after = [], None
        with reading(sessions) as session:
            while True:
                page = jobs.list_jobs(session, PageRequest(size=2, after=after))
                seen += [row.job.id for row in page.items]
                after = page.next
                if after is None:
                    break

        assert sorted(seen) == sorted(submitted)
        assert seen == sorted(seen, reverse=True)

    def test_it_is_one_query_with_the_name_of_every_result(self, sessions: Sessions, dataset_id: str) -> None:
        for number in range(3):
            train(sessions, dataset_id, name=f"model-{number}")

        with reading(sessions) as session, counted_queries(sessions.kw["bind"]) as statements:
            page = jobs.list_jobs(session, PageRequest())
        assert {(row.result_name, row.result_version) for row in page.items} == {(f"model-{n}", 1) for n in range(3)}
        assert len(statements) == 1

    def test_filters_choose(self, sessions: Sessions, dataset_id: str) -> None:
        wanted = submit_job(sessions, dataset_id, name="wanted", kind="optimize")
        submit_job(sessions, dataset_id)

        with reading(sessions) as session:
            for chosen in (
                JobFilter(name="wanted"),
                JobFilter(kind="optimize"),
                JobFilter(state="queued", name="wanted"),
            ):
                assert [row.job.id for row in jobs.list_jobs(session, PageRequest(), chosen).items] == [wanted]
            assert jobs.list_jobs(session, PageRequest(), JobFilter(state="failed")).items == []

    def test_children_are_listed_only_when_asked_for(self, sessions: Sessions, dataset_id: str) -> None:
        parent_id, children = submit_ensemble(sessions, dataset_id)

        with reading(sessions) as session:
            assert [row.job.id for row in jobs.list_jobs(session, PageRequest()).items] == [parent_id]
            of_parent = jobs.list_jobs(session, PageRequest(), JobFilter(parent_id=parent_id))
            assert {row.job.id for row in of_parent.items} == set(children)
            assert len(jobs.list_jobs(session, PageRequest(), JobFilter(children=True)).items) == 3

    def test_jobs_are_counted_by_state_and_kind(self, sessions: Sessions, dataset_id: str) -> None:
        submit_ensemble(sessions, dataset_id)
        train(sessions, dataset_id, priority=5)

        with reading(sessions) as session:
            assert jobs.count_jobs(session) == {
                ("queued", "ensemble"): 1,
                ("queued", "train"): 2,
                ("succeeded", "train"): 1,
            }


class TestDependencies:
    def test_a_parent_starts_after_all_its_children_and_gets_their_results(
        self, sessions: Sessions, dataset_id: str
    ) -> None:
        parent_id, children = submit_ensemble(sessions, dataset_id)
        versions = {}
        for _ in children:
            claimed = claim_job(sessions)
            assert claimed.lease.job_id in children
            versions[claimed.lease.job_id] = finish_job(sessions, claimed.lease).version_ids[0]

        claimed = claim_job(sessions)

        assert claimed.lease.job_id == parent_id
        assert [(need.role, need.position, need.version_id) for need in claimed.dependencies] == [
            ("member", place, versions[child]) for place, child in enumerate(children)
        ]

    def test_many_dependencies_are_read_in_one_query(self, sessions: Sessions, dataset_id: str) -> None:
        parents = [submit_ensemble(sessions, dataset_id)[0] for _ in range(3)]

        with reading(sessions) as session, counted_queries(sessions.kw["bind"]) as statements:
            found = jobs.dependencies_of(session, parents)
        assert [len(found[parent_id]) for parent_id in parents] == [2, 2, 2]
        assert len(statements) == 1


class TestCancel:
    def test_a_queued_job_is_cancelled_at_once(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)

        assert cancel(sessions, job_id) == "cancelled"
        assert claim(sessions, "worker-1", timing=TIMING) is None
        assert told(sessions, job_id)[-2:] == [("state", "cancelled"), ("done", "cancelled")]

    def test_a_running_job_is_asked_to_stop(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        claim_job(sessions)

        assert (cancel(sessions, job_id), cancel(sessions, job_id)) == ("running", "running")
        row = get_row(sessions, job_id)
        assert (row.phase, row.cancel_requested_at is not None) == ("cancelling", True)

    def test_a_finished_job_stays_as_it_is(self, sessions: Sessions, dataset_id: str) -> None:
        job_id, _ = train(sessions, dataset_id)

        with pytest.raises(JobAlreadyFinishedError, match="succeeded"):
            cancel(sessions, job_id)
        assert states(sessions, job_id) == ["succeeded"]

    def test_an_unknown_job_is_not_found(self, sessions: Sessions) -> None:
        with pytest.raises(JobNotFoundError, match="nonsense"):
            cancel(sessions, "nonsense")

    def test_it_reaches_every_child(self, sessions: Sessions, dataset_id: str) -> None:
        parent_id, children = submit_ensemble(sessions, dataset_id)
        running = claim_job(sessions).lease.job_id
        waiting = next(child for child in children if child != running)

        assert cancel(sessions, parent_id) == "cancelled"
        assert states(sessions, waiting, running) == ["cancelled", "running"]
        assert get_row(sessions, running).cancel_requested_at is not None

    def test_who_waits_for_a_cancelled_job_fails_and_frees_its_other_children(
        self, sessions: Sessions, dataset_id: str
    ) -> None:
        parent_id, children = submit_ensemble(sessions, dataset_id, members=3)

        cancel(sessions, children[0])

        assert states(sessions, parent_id, *children) == ["failed", "cancelled", "cancelled", "cancelled"]
        error = get_row(sessions, parent_id).error
        assert error is not None
        assert error["type"] == "dependency-failed"
        assert told(sessions, parent_id)[-1] == ("done", "failed")


class TestReuse:
    def test_a_known_recipe_succeeds_at_once_under_its_own_name(self, sessions: Sessions, dataset_id: str) -> None:
        _, version_id = train(sessions, dataset_id, recipe="same")
        again = submit_job(sessions, dataset_id, recipe="same", name="other")

        with reading(sessions) as session:
            row = jobs.get_job(session, again)
        assert (row.job.state, row.result_name, row.result_version) == ("succeeded", "other", 1)
        assert row.job.result_version_id != version_id
        assert told(sessions, again)[-1] == ("done", "succeeded")

    def test_a_job_tells_what_it_took_and_from_whom(self, sessions: Sessions, dataset_id: str) -> None:
        first, _ = train(sessions, dataset_id, recipe="same")
        again = submit_job(sessions, dataset_id, recipe="same", name="other")

        with reading(sessions) as session:
            rows = [jobs.get_job(session, job_id) for job_id in (first, again)]
            listed = {row.job.id: row for row in jobs.list_jobs(session, PageRequest()).items}
        took = [(row.reused_name, row.reused_version, row.reused_state, row.reused_job_id) for row in rows]
        assert took == [(None, None, None, None), ("digits-cnn", 1, "ready", first)]
        assert listed[again].reused_job_id == first

    def test_the_same_name_keeps_its_newest_version_when_that_is_equal(
        self, sessions: Sessions, dataset_id: str
    ) -> None:
        _, version_id = train(sessions, dataset_id, recipe="same")
        again = submit_job(sessions, dataset_id, recipe="same")

        assert get_row(sessions, again).result_version_id == version_id

    def test_a_child_takes_the_version_itself(self, sessions: Sessions, dataset_id: str) -> None:
        _, version_id = train(sessions, dataset_id, recipe="same")
        child = jobs.Child(new_job(dataset_id, "trio.member-0", recipe="same"), positions=(0,))
        with sessions.begin() as session:
            parent_id = jobs.submit(session, new_job(dataset_id, "trio", kind="ensemble", children=[child])).id

        claimed = claim_job(sessions)
        assert claimed.lease.job_id == parent_id
        assert [need.version_id for need in claimed.dependencies] == [version_id]

    def test_a_known_ensemble_trains_no_members(self, sessions: Sessions, dataset_id: str) -> None:
        train(sessions, dataset_id, recipe="whole")
        with sessions.begin() as session:
            parent = jobs.submit(session, ensemble_job(dataset_id, recipe="whole"))
            assert (parent.state, jobs.dependencies(session, parent.id)) == ("succeeded", [])

    def test_it_trains_anew_when_told_not_to_reuse(self, sessions: Sessions, dataset_id: str) -> None:
        train(sessions, dataset_id, recipe="same")
        again = submit_job(sessions, dataset_id, recipe="same", reuse=False)

        assert states(sessions, again) == ["queued"]
        assert claim_job(sessions).lease.job_id == again

    def test_a_twin_waits_while_the_first_runs_and_takes_its_result(self, sessions: Sessions, dataset_id: str) -> None:
        submit_job(sessions, dataset_id, recipe="same")
        twin = submit_job(sessions, dataset_id, recipe="same", name="other")
        first = claim_job(sessions)
        assert claim(sessions, "worker-2", timing=TIMING) is None

        finish_job(sessions, first.lease)

        assert states(sessions, twin) == ["succeeded"]

    def test_a_twin_trains_when_the_first_is_cancelled(self, sessions: Sessions, dataset_id: str) -> None:
        first = submit_job(sessions, dataset_id, recipe="same")
        twin = submit_job(sessions, dataset_id, recipe="same")
        cancel(sessions, first)

        assert claim_job(sessions).lease.job_id == twin

    def test_alias_and_tags_of_a_reused_job_are_set(self, sessions: Sessions, dataset_id: str) -> None:
        train(sessions, dataset_id, recipe="same")
        spec = {"alias": "champion", "tags": {"team": "vision"}}
        submit_job(sessions, dataset_id, recipe="same", spec=spec)

        with reading(sessions) as session:
            version = jobs.registry.resolve(session, "digits-cnn@champion")
        assert (version.version, version.tags) == (1, {"team": "vision"})
