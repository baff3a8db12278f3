"""Finishing, versions, aliases, tags and lineage, on both databases."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.db import events, jobs, registry, retiring
from app.db.attempts import cancelled
from app.db.finish import NewVersion
from app.db.pages import PageRequest
from app.db.session import Sessions, reading
from app.db.tables import Blob
from app.domain.errors import ModelNotFoundError, PreconditionFailedError, VersionRejectedError
from app.domain.models import Link
from tests.factories import (
    END,
    claim_job,
    counted_queries,
    file_ref,
    finish_job,
    get_row,
    new_job,
    sha256,
    submit_job,
    train,
    version_manifest,
)


def resolve(sessions: Sessions, reference: str) -> registry.VersionRow:
    with reading(sessions) as session:
        return registry.resolve(session, reference)


def finish_version(sessions: Sessions, dataset_id: str, *, rejected: str | None, **given: Any) -> str:
    """Let a job register a version that passed its gate or did not; return the job's id."""
    job_id = submit_job(sessions, dataset_id, **given)
    row = get_row(sessions, job_id)
    manifest = version_manifest(job_id, recipe_digest=row.recipe_digest, rejected=rejected)
    finish_job(sessions, claim_job(sessions).lease, NewVersion(row.name, manifest))
    return job_id


def revision(sessions: Sessions) -> int:
    with reading(sessions) as session:
        return registry.revision(session)


class TestFinish:
    def test_job_version_and_files_appear_together(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id, recipe="one", spec={"alias": "champion", "tags": {"team": "vision"}})
        before = revision(sessions)
        manifest = version_manifest("one")
        finished = finish_job(sessions, claim_job(sessions).lease, NewVersion("digits-cnn", manifest))

        assert finished.outcome == "succeeded"
        found = resolve(sessions, "digits-cnn@champion")
        assert (found.id, found.version, found.job_id) == (finished.version_ids[0], 1, job_id)
        assert (found.manifest, found.digest, found.recipe_digest) == (manifest, manifest.digest, sha256("one"))
        assert (found.aliases, found.tags) == (("champion",), {"team": "vision"})
        assert revision(sessions) > before
        with reading(sessions) as session:
            assert session.get_one(Blob, manifest.files["model.onnx"].sha256).size_bytes > 0
            row = jobs.get_job(session, job_id)
            assert (row.job.state, row.result_name, row.result_version) == ("succeeded", "digits-cnn", 1)
            assert [event.type for event in events.list_events(session, job_id)][-1] == "done"

    def test_finishing_again_answers_the_same(self, sessions: Sessions, dataset_id: str) -> None:
        submit_job(sessions, dataset_id)
        lease = claim_job(sessions).lease
        first = finish_job(sessions, lease)

        assert finish_job(sessions, lease) == first
        with reading(sessions) as session:
            assert len(registry.list_versions(session, "digits-cnn", PageRequest()).items) == 1

    def test_a_cancel_that_came_first_wins(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        lease = claim_job(sessions).lease
        with sessions.begin() as session:
            jobs.cancel(session, job_id)

        assert finish_job(sessions, lease).outcome == "cancelled"
        with sessions.begin() as session:
            assert cancelled(session, lease, end=END) == "cancelled"
        with reading(sessions) as session, pytest.raises(ModelNotFoundError):
            registry.get_model(session, "digits-cnn")

    def test_nothing_is_registered_when_a_link_leads_nowhere(self, sessions: Sessions, dataset_id: str) -> None:
        job_id = submit_job(sessions, dataset_id)
        lease = claim_job(sessions).lease
        lost = version_manifest(links=[Link(role="parent", version_id="nowhere")])

        with pytest.raises(IntegrityError):
            finish_job(sessions, lease, NewVersion("digits-cnn", lost))
        assert get_row(sessions, job_id).state == "running"
        assert finish_job(sessions, lease).outcome == "succeeded"

    def test_a_job_may_register_several_versions_that_refer_to_each_other(
        self, sessions: Sessions, dataset_id: str
    ) -> None:
        submit_job(sessions, dataset_id, name="chain", recipe="whole", spec={"alias": "champion"})
        members = [NewVersion(f"chain.member-{place}", version_manifest("whole", seed=place)) for place in range(2)]
        links = [Link(role="member", version_id=f"#{place}", position=place, weight=0.5) for place in range(2)]
        whole = NewVersion("chain", version_manifest("whole", kind="ensemble", method="serial", links=links))

        ids = finish_job(sessions, claim_job(sessions).lease, *members, whole).version_ids

        with reading(sessions) as session:
            made_from, used_by = registry.lineage(session, ids[2])
            assert [(link.version_id, link.position, link.weight, link.name) for link in made_from] == [
                (ids[0], 0, 0.5, "chain.member-0"),
                (ids[1], 1, 0.5, "chain.member-1"),
            ]
            assert used_by == []
            assert [link.version_id for link in registry.lineage(session, ids[0]).used_by] == [ids[2]]
            # A member must not answer for the whole job's recipe.
            twin = registry.find_by_recipe(session, sha256("whole"))
            assert twin is not None
            assert (twin.id, twin.aliases) == (ids[2], ("champion",))


class TestResolve:
    def test_versions_are_counted_by_name(self, sessions: Sessions, dataset_id: str) -> None:
        for _ in range(3):
            train(sessions, dataset_id)
        train(sessions, dataset_id, name="other")

        assert [resolve(sessions, name).version for name in ("digits-cnn", "digits-cnn/2", "other")] == [3, 2, 1]

    @pytest.mark.parametrize("reference", ["missing", "digits-cnn/2", "digits-cnn@champion"])
    def test_what_does_not_exist_is_named(self, sessions: Sessions, dataset_id: str, reference: str) -> None:
        train(sessions, dataset_id)

        with pytest.raises(ModelNotFoundError, match=reference):
            resolve(sessions, reference)


class TestAliases:
    def test_an_alias_moves_and_remembers(self, sessions: Sessions, dataset_id: str) -> None:
        ids = [train(sessions, dataset_id)[1] for _ in range(2)]
        with sessions.begin() as session:
            registry.set_alias(session, "digits-cnn", "champion", 1)
            moved = registry.set_alias(session, "digits-cnn", "champion", 2)
            registry.set_alias(session, "digits-cnn", "champion", 2)
            registry.delete_alias(session, "digits-cnn", "champion")
            history = registry.alias_history(session, "digits-cnn", "champion")

        assert (moved.id, moved.aliases) == (ids[1], ("champion",))
        assert [(change.previous_version_id, change.version_id) for change in history] == [
            (ids[1], None),
            (ids[0], ids[1]),
            (None, ids[0]),
        ]

    def test_it_moves_only_from_where_the_caller_saw_it(self, sessions: Sessions, dataset_id: str) -> None:
        train(sessions, dataset_id)
        train(sessions, dataset_id)
        first = resolve(sessions, "digits-cnn/1")
        with sessions.begin() as session:
            registry.set_alias(session, "digits-cnn", "champion", 1)
            registry.set_alias(session, "digits-cnn", "champion", 2, if_match=first.digest)
        for change in (
            lambda session: registry.set_alias(session, "digits-cnn", "champion", 1, if_match=first.digest),
            lambda session: registry.delete_alias(session, "digits-cnn", "champion", if_match=first.digest),
            lambda session: registry.set_alias(session, "digits-cnn", "new", 1, if_match=first.digest),
        ):
            with sessions() as session, pytest.raises(PreconditionFailedError):
                change(session)

        assert resolve(sessions, "digits-cnn@champion").version == 2

    def test_an_unknown_version_or_alias_is_not_found(self, sessions: Sessions, dataset_id: str) -> None:
        train(sessions, dataset_id)
        with sessions() as session, pytest.raises(ModelNotFoundError):
            registry.set_alias(session, "digits-cnn", "champion", 9)
        with sessions() as session, pytest.raises(ModelNotFoundError, match="no alias"):
            registry.delete_alias(session, "digits-cnn", "champion")


class TestRejected:
    def test_a_name_leads_past_it_and_its_number_to_it(self, sessions: Sessions, dataset_id: str) -> None:
        for rejected in (None, None, "2 points worse"):
            finish_version(sessions, dataset_id, rejected=rejected)

        assert resolve(sessions, "digits-cnn").version == 2
        found = resolve(sessions, "digits-cnn/3")
        assert (found.state, found.manifest.rejected) == ("rejected", "2 points worse")
        with reading(sessions) as session:
            listed = registry.list_versions(session, "digits-cnn", PageRequest()).items
            assert [(row.version, row.state) for row in listed] == [(3, "rejected"), (2, "ready"), (1, "ready")]
            assert registry.get_model(session, "digits-cnn").newest.version == 2
            assert [row.version for row in registry.snapshot(session).versions] == [1, 2, 3]

    def test_a_model_with_rejected_versions_alone_says_why(self, sessions: Sessions, dataset_id: str) -> None:
        for points in (2, 3):
            finish_version(sessions, dataset_id, rejected=f"{points} points worse")

        with pytest.raises(VersionRejectedError, match=r"digits-cnn/2: 3 points worse digits-cnn/1: 2 points worse"):
            resolve(sessions, "digits-cnn")
        with reading(sessions) as session:
            assert [model.newest.version for model in registry.list_models(session, PageRequest()).items] == [2]

    def test_an_alias_names_it_only_by_force(self, sessions: Sessions, dataset_id: str) -> None:
        finish_version(sessions, dataset_id, rejected="2 points worse")
        with sessions() as session, pytest.raises(VersionRejectedError, match="2 points worse"):
            registry.set_alias(session, "digits-cnn", "champion", 1)

        with sessions.begin() as session:
            registry.set_alias(session, "digits-cnn", "champion", 1, force=True)

        assert resolve(sessions, "digits-cnn@champion").state == "rejected"

    def test_the_jobs_own_alias_stays_where_it_was(self, sessions: Sessions, dataset_id: str) -> None:
        train(sessions, dataset_id, spec={"alias": "champion"})
        job_id = finish_version(sessions, dataset_id, rejected="2 points worse", spec={"alias": "champion"})

        assert resolve(sessions, "digits-cnn@champion").version == 1
        assert get_row(sessions, job_id).state == "succeeded"
        with reading(sessions) as session:
            told = [event for event in events.list_events(session, job_id) if event.type in ("log", "done")]
        assert [event.type for event in told] == ["log", "done"]
        assert "2 points worse" in told[0].data["text"]

    def test_an_equal_job_takes_it_over_with_its_state(self, sessions: Sessions, dataset_id: str) -> None:
        finish_version(sessions, dataset_id, rejected="2 points worse", recipe="same")
        with sessions.begin() as session:
            jobs.submit(session, new_job(dataset_id, "other", recipe="same"))
            again = jobs.submit(session, new_job(dataset_id, recipe="same")).result_version_id

        assert resolve(sessions, "other/1").state == "rejected"
        assert again == resolve(sessions, "digits-cnn/1").id

    def test_it_can_be_deleted(self, sessions: Sessions, dataset_id: str) -> None:
        finish_version(sessions, dataset_id, rejected="2 points worse")
        with sessions.begin() as session:
            retiring.delete_version(session, "digits-cnn", 1)

        with pytest.raises(ModelNotFoundError):
            resolve(sessions, "digits-cnn/1")


class TestSeveralVersionsOfOneModel:
    def test_a_search_numbers_them_and_labels_the_last(self, sessions: Sessions, dataset_id: str) -> None:
        train(sessions, dataset_id)
        spec = {"alias": "champion", "tags": {"team": "vision"}}
        job_id = submit_job(sessions, dataset_id, kind="search", recipe="search", spec=spec)
        front = [NewVersion("digits-cnn", version_manifest("search", seed=seed)) for seed in range(3)]

        ids = finish_job(sessions, claim_job(sessions).lease, *front).version_ids

        with reading(sessions) as session:
            rows = registry.list_versions(session, "digits-cnn", PageRequest()).items
            twin = registry.find_by_recipe(session, sha256("search"))
            result = jobs.get_job(session, job_id)
        assert [(row.version, row.id) for row in rows[:3]] == [(4, ids[2]), (3, ids[1]), (2, ids[0])]
        assert [(row.aliases, dict(row.tags)) for row in rows[:3]] == [
            (("champion",), spec["tags"]),
            ((), {}),
            ((), {}),
        ]
        assert (result.result_version, twin.id if twin else None) == (4, ids[2])

    def test_an_equal_search_of_another_name_gets_the_whole_front(self, sessions: Sessions, dataset_id: str) -> None:
        submit_job(sessions, dataset_id, kind="search", recipe="search")
        recipes = ("one", "two", "search")
        front = [NewVersion("digits-cnn", version_manifest(recipe, seed=seed)) for seed, recipe in enumerate(recipes)]
        finish_job(sessions, claim_job(sessions).lease, *front)

        for _ in range(2):  # the second time everything is there
            again = submit_job(sessions, dataset_id, kind="search", recipe="search", name="other")
            with reading(sessions) as session:
                rows = registry.list_versions(session, "other", PageRequest()).items
                result = jobs.get_job(session, again)
            assert [row.manifest.seed for row in rows] == [2, 1, 0]
            assert [row.recipe_digest for row in rows] == [sha256(recipe) for recipe in reversed(recipes)]
            assert result.result_version == 3

        third = submit_job(sessions, dataset_id, kind="search", recipe="search", name="third")  # a copy of a copy
        with reading(sessions) as session:
            assert len(registry.list_versions(session, "third", PageRequest()).items) == 3
            assert jobs.get_job(session, third).reused_name == "other"

    def test_a_train_job_of_a_point_gets_that_point_alone(self, sessions: Sessions, dataset_id: str) -> None:
        submit_job(sessions, dataset_id, kind="search", recipe="search")
        front = [NewVersion("digits-cnn", version_manifest(recipe)) for recipe in ("one", "two", "search")]
        finish_job(sessions, claim_job(sessions).lease, *front)

        submit_job(sessions, dataset_id, recipe="two", name="point")
        with reading(sessions) as session:
            rows = registry.list_versions(session, "point", PageRequest()).items
        assert [row.recipe_digest for row in rows] == [sha256("two")]


class TestLists:
    def test_models_come_by_name_with_newest_version_and_aliases(self, sessions: Sessions, dataset_id: str) -> None:
        for name in ("c", "a", "b", "a"):
            train(sessions, dataset_id, name=name)
        with sessions.begin() as session:
            registry.set_alias(session, "a", "champion", 1)

        with reading(sessions) as session:
            first = registry.list_models(session, PageRequest(size=2))
            rest = registry.list_models(session, PageRequest(size=2, after=first.next))
        assert [(model.name, model.newest.version, model.aliases) for model in (*first.items, *rest.items)] == [
            ("a", 2, {"champion": 1}),
            ("b", 1, {}),
            ("c", 1, {}),
        ]
        assert rest.next is None

    def test_ensembles_are_told_from_single_models(self, sessions: Sessions, dataset_id: str) -> None:
        train(sessions, dataset_id)
        submit_job(sessions, dataset_id, name="trio")
        fused = version_manifest(kind="ensemble", method="parallel")
        finish_job(sessions, claim_job(sessions).lease, NewVersion("trio", fused))

        with reading(sessions) as session:
            found = registry.list_models(session, PageRequest(), kind="ensemble")
        assert [model.name for model in found.items] == ["trio"]

    @pytest.mark.parametrize(("listing", "most"), [("list_models", 5), ("list_versions", 3), ("snapshot", 5)])
    def test_the_number_of_queries_is_that_of_one_row(
        self, sessions: Sessions, dataset_id: str, listing: str, most: int
    ) -> None:
        arguments: dict[str, tuple[Any, ...]] = {
            "list_models": (PageRequest(),),
            "list_versions": ("model-0", PageRequest()),
            "snapshot": (),
        }
        for number in (0, 0, 0, 1, 2):
            train(sessions, dataset_id, name=f"model-{number}", spec={"alias": "newest", "tags": {"a": "b"}})

        with reading(sessions) as session, counted_queries(sessions.kw["bind"]) as statements:
            getattr(registry, listing)(session, *arguments[listing])
        assert len(statements) <= most

    def test_versions_come_newest_first_page_by_page(self, sessions: Sessions, dataset_id: str) -> None:
        for _ in range(3):
            train(sessions, dataset_id)

        with reading(sessions) as session:
            first = registry.list_versions(session, "digits-cnn", PageRequest(size=2))
            rest = registry.list_versions(session, "digits-cnn", PageRequest(size=2, after=first.next))
            with pytest.raises(ModelNotFoundError):
                registry.list_versions(session, "missing", PageRequest())
        assert [row.version for row in (*first.items, *rest.items)] == [3, 2, 1]

    def test_versions_are_found_by_id_with_the_spec_that_made_them(self, sessions: Sessions, dataset_id: str) -> None:
        ids = [train(sessions, dataset_id, spec={"seed": seed})[1] for seed in range(2)]

        with reading(sessions) as session:
            assert set(registry.versions_by_id(session, ids)) == set(ids)
            assert registry.specs_by_version(session, ids) == {ids[0]: {"seed": 0}, ids[1]: {"seed": 1}}
            assert registry.versions_by_id(session, []) == {}


class TestSnapshot:
    def test_it_holds_what_can_serve(self, sessions: Sessions, dataset_id: str) -> None:
        train(sessions, dataset_id, spec={"alias": "champion"})
        train(sessions, dataset_id)

        with reading(sessions) as session:
            found = registry.snapshot(session)
        assert (found.revision, found.aliases) == (revision(sessions), {"digits-cnn": {"champion": 1}})
        assert [row.version for row in found.versions] == [1, 2]

    def test_every_registry_write_is_seen_in_the_revision(self, sessions: Sessions, dataset_id: str) -> None:
        numbers = [revision(sessions)]
        _, version_id = train(sessions, dataset_id, recipe="same")
        for write in (
            lambda session: registry.set_alias(session, "digits-cnn", "champion", 1),
            lambda session: registry.set_tags(session, version_id, {"a": "b"}),
            lambda session: registry.delete_alias(session, "digits-cnn", "champion"),
            lambda session: jobs.submit(session, new_job(dataset_id, "other", recipe="same")),
        ):
            numbers.append(revision(sessions))
            with sessions.begin() as session:
                write(session)
        numbers.append(revision(sessions))

        assert len(set(numbers)) == 6

    def test_tags_are_replaced(self, sessions: Sessions, dataset_id: str) -> None:
        _, version_id = train(sessions, dataset_id, spec={"tags": {"a": "1", "b": "2"}})
        with sessions.begin() as session:
            registry.set_tags(session, version_id, {"c": "3"})

        assert resolve(sessions, "digits-cnn").tags == {"c": "3"}


def test_files_that_two_versions_share_are_noted_once(sessions: Sessions, dataset_id: str) -> None:
    shared = {"model.onnx": file_ref("shared"), "copy.onnx": file_ref("shared")}
    for seed in range(2):
        submit_job(sessions, dataset_id)
        manifest = version_manifest(seed=seed, files=shared)
        finish_job(sessions, claim_job(sessions).lease, NewVersion("digits-cnn", manifest))

    with reading(sessions) as session:
        assert session.scalars(select(Blob.sha256).where(Blob.sha256 == sha256("shared"))).all() == [sha256("shared")]
