"""What is said of models and versions, and how they are searched, on SQLite and on PostgreSQL."""

import threading

import pytest

from app.db import labels, mlflow, registering, registry
from app.db.labels import Notes
from app.db.mlflow import Condition, Order
from app.db.session import Sessions, reading
from app.domain.errors import AlreadyExistsError, ModelNotFoundError, StillReferencedError
from app.domain.models import Link
from app.domain.names import Reference
from tests import factories


@pytest.fixture
def dataset_id(sessions: Sessions) -> str:
    return factories.make_dataset(sessions)


def make(sessions: Sessions, name: str, **tags: str) -> None:
    with sessions.begin() as session:
        labels.create_model(session, name, {key: value.replace("/", ".") for key, value in tags.items()}, "")


def models(sessions: Sessions, *conditions: Condition, order: tuple[Order, ...] = ()) -> list[str]:
    with reading(sessions) as session:
        found = mlflow.search_models(session, conditions, order, size=100, after=0)
    return [entry.name for entry in found.items]


def test_like_minds_case_and_ilike_does_not(sessions: Sessions) -> None:
    make(sessions, "a", team="Vision")
    make(sessions, "b", team="vision")
    make(sessions, "c", team="v*s?[on")
    make(sessions, "d", team="back\\slash%")
    make(sessions, "e")
    expected = {
        ("LIKE", "Vis%"): ["a"],
        ("LIKE", "_ision"): ["a", "b"],
        ("ILIKE", "VIS%"): ["a", "b"],
        ("LIKE", "v*s?[%"): ["c"],
        ("LIKE", "v*n"): [],
        ("LIKE", "back\\s%"): ["d"],
        ("ILIKE", "BACK\\S%"): ["d"],
        ("=", "vision"): ["b"],
        ("!=", "vision"): ["a", "c", "d"],
    }
    for (operator, value), names in expected.items():
        found = models(sessions, Condition(True, "team", operator, value))  # type: ignore[arg-type]
        assert found == names, (operator, value)


def test_what_has_no_prompt_tag_is_no_prompt(sessions: Sessions) -> None:
    make(sessions, "plain")
    with sessions.begin() as session:
        labels.create_model(session, "prompt", {mlflow.PROMPT_TAG: "true"}, "")
        labels.create_model(session, "told", {mlflow.PROMPT_TAG: "false"}, "")
    assert models(sessions, Condition(True, mlflow.PROMPT_TAG, "!=", "true")) == ["plain", "told"]
    assert models(sessions, Condition(True, mlflow.PROMPT_TAG, "=", "false")) == ["plain", "told"]
    assert models(sessions, Condition(True, mlflow.PROMPT_TAG, "=", "true")) == ["prompt"]


def test_models_are_ordered_and_named_by_lists(sessions: Sessions) -> None:
    for name in ("c", "a", "b"):
        make(sessions, name)
    assert models(sessions, order=(Order("name", descending=True),)) == ["c", "b", "a"]
    assert models(sessions, order=(Order("creation_timestamp"),)) == ["c", "a", "b"]
    assert models(sessions, Condition(False, "name", "IN", ("a", "c", "z"))) == ["a", "c"]
    assert models(sessions, Condition(False, "name", "NOT IN", ("a", "c"))) == ["b"]


def test_versions_are_searched_by_what_is_said_of_them(sessions: Sessions, dataset_id: str) -> None:
    for _ in range(3):
        factories.train(sessions, dataset_id)
    with sessions.begin() as session:
        twin = registry.resolve(session, "digits-cnn/1")
        copy = registering.register_copy(session, "copy", twin)
        labels.note_version(session, copy, Notes("Again.", "models:/digits-cnn/1", "run-1", "http://run"))
        labels.set_version_tag(session, Reference("copy", 1), "team", "vision")
    expected = {
        Condition(False, "run_id", "=", "run-1"): [("copy", 1)],
        Condition(False, "run_id", "IN", ("run-1", "run-2")): [("copy", 1)],
        Condition(False, "source_path", "LIKE", "models:%"): [("copy", 1)],
        Condition(False, "source_path", "=", "mlflow-artifacts:/digits-cnn/2"): [("digits-cnn", 2)],
        Condition(False, "version_number", ">=", 2): [("digits-cnn", 3), ("digits-cnn", 2)],
        Condition(True, "team", "=", "vision"): [("copy", 1)],
    }
    for condition, names in expected.items():
        with reading(sessions) as session:
            found = mlflow.search_versions(session, [condition], (), size=10, after=0)
        assert [(entry.name, entry.version) for entry in found.items] == names, condition


def test_a_copy_has_the_manifest_and_answers_for_no_recipe(sessions: Sessions, dataset_id: str) -> None:
    job_id, version_id = factories.train(sessions, dataset_id)
    with sessions.begin() as session:
        twin = registry.resolve(session, "digits-cnn")
        ids = [registering.register_copy(session, "digits-cnn", twin) for _ in range(2)]
        copies = registry.versions_by_id(session, ids)
        found = registry.find_by_recipe(session, str(twin.recipe_digest))
    assert [copies[version_id].version for version_id in ids] == [2, 3]
    assert all((copy.digest, copy.job_id) == (twin.digest, job_id) for copy in copies.values())
    assert found is not None
    assert found.id == version_id


def test_a_renamed_model_keeps_its_versions_and_all_of_them_have_changed(sessions: Sessions, dataset_id: str) -> None:
    factories.train(sessions, dataset_id, spec={"alias": "champion"})
    with reading(sessions) as session:
        before = mlflow.get_version(session, "digits-cnn", 1)
    with sessions.begin() as session:
        labels.rename_model(session, "digits-cnn", "digits")
    with reading(sessions) as session:
        after = mlflow.get_version(session, "digits", 1)
        assert registry.resolve(session, "digits@champion").id == before.id
        with pytest.raises(ModelNotFoundError):
            mlflow.get_model(session, "digits-cnn")
    assert (after.id, after.aliases, after.created_at) == (before.id, ("champion",), before.created_at)
    assert after.updated_at > before.updated_at
    factories.train(sessions, dataset_id)
    with reading(sessions) as session:
        assert registry.resolve(session, "digits-cnn").version == 1, "a job registers under the name that it was given"


def test_a_deleted_model_may_be_made_anew_but_no_number_is_used_again(sessions: Sessions, dataset_id: str) -> None:
    factories.train(sessions, dataset_id, spec={"alias": "champion"})
    with sessions.begin() as session:
        labels.set_model_tag(session, "digits-cnn", "team", "vision")
        labels.delete_model(session, "digits-cnn")
    with reading(sessions) as session, pytest.raises(ModelNotFoundError):
        mlflow.get_model(session, "digits-cnn")
    make(sessions, "other")
    with sessions.begin() as session, pytest.raises(AlreadyExistsError):
        labels.rename_model(session, "other", "digits-cnn")
    make(sessions, "digits-cnn")
    factories.train(sessions, dataset_id)
    with reading(sessions) as session:
        model = mlflow.get_model(session, "digits-cnn")
    assert model.newest is not None
    assert (model.newest.version, model.tags, model.aliases) == (2, {}, {})


def test_a_job_brings_a_deleted_model_back(sessions: Sessions, dataset_id: str) -> None:
    factories.train(sessions, dataset_id)
    with sessions.begin() as session:
        labels.delete_model(session, "digits-cnn")
    factories.train(sessions, dataset_id)
    assert models(sessions) == ["digits-cnn"]


def test_nothing_is_half_deleted_when_one_version_is_in_use(sessions: Sessions, dataset_id: str) -> None:
    _, first = factories.train(sessions, dataset_id)
    factories.train(sessions, dataset_id, spec={"alias": "champion"})
    job_id = factories.submit_job(sessions, dataset_id, name="trio")
    manifest = factories.version_manifest("trio", kind="ensemble", links=[Link(role="member", version_id=first)])
    factories.finish_job(sessions, factories.claim_job(sessions).lease, factories.NewVersion("trio", manifest))
    assert factories.get_row(sessions, job_id).state == "succeeded"
    with pytest.raises(StillReferencedError), sessions.begin() as session:
        labels.delete_model(session, "digits-cnn")
    with reading(sessions) as session:
        assert registry.resolve(session, "digits-cnn@champion").version == 2


def test_of_many_who_make_one_model_at_once_one_does(sessions: Sessions) -> None:
    outcomes: list[str] = []

    def make_it() -> None:
        try:
            make(sessions, "one")
        except AlreadyExistsError:
            outcomes.append("taken")
        else:
            outcomes.append("made")

    threads = [threading.Thread(target=make_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", *["taken"] * 5]


def test_every_write_raises_the_revision(sessions: Sessions, dataset_id: str) -> None:
    factories.train(sessions, dataset_id)
    version = Reference("digits-cnn", 1)
    writes = [
        lambda session: labels.describe_model(session, "digits-cnn", "x"),
        lambda session: labels.set_model_tag(session, "digits-cnn", "a", "b"),
        lambda session: labels.set_model_tag(session, "digits-cnn", "a", "c"),
        lambda session: labels.delete_model_tag(session, "digits-cnn", "a"),
        lambda session: labels.describe_version(session, version, "x"),
        lambda session: labels.set_version_tag(session, version, "a", "b"),
        lambda session: labels.delete_version_tag(session, version, "a"),
        lambda session: labels.rename_model(session, "digits-cnn", "other"),
        lambda session: labels.delete_version(session, "other", 1),
        lambda session: labels.delete_model(session, "other"),
    ]
    for write in writes:
        with reading(sessions) as session:
            before = registry.revision(session)
        with sessions.begin() as session:
            write(session)
            assert registry.revision(session) > before
