"""The view follows the registry change by change, and ends where reading everything would, on both databases."""

import random
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from app.db import registry, retiring
from app.db.session import Sessions, reading
from app.domain.names import parse_reference
from app.serving.view import RegistryView
from tests.factories import counted_queries, train

NAMES = ("cats", "digits-cnn", "zebras")


@pytest.fixture
def view(sessions: Sessions, dataset_id: str) -> RegistryView:
    """Read a registry of two versions of each of two models."""
    for name in (*NAMES[1:], *NAMES[1:]):
        train(sessions, dataset_id, name=name)
    view = RegistryView(sessions)
    view.refresh()
    return view


def whole(view: RegistryView) -> list[registry.VersionRow]:
    return list(view.every_version())


def fresh(sessions: Sessions) -> RegistryView:
    view = RegistryView(sessions)
    view.refresh()
    return view


def write(sessions: Sessions, change: Callable[[Session], object]) -> None:
    with sessions.begin() as session:
        change(session)


def tag(session: Session, **tags: str) -> None:
    registry.set_tags(session, registry.resolve(session, "digits-cnn/1").id, tags)


CHANGES: dict[str, Callable[[Session], object]] = {
    "alias set": lambda session: registry.set_alias(session, "digits-cnn", "champion", 1),
    "two aliases of one version": lambda session: [
        registry.set_alias(session, "digits-cnn", alias, 2) for alias in ("zeta", "alpha")
    ],
    "tags set": lambda session: tag(session, team="vision", cost="low"),
    "version deleted": lambda session: retiring.delete_version(session, "zebras", 2),
    "description changed": lambda session: retiring.describe_model(session, "zebras", "Stripes"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_as_if_everything_was_read(sessions: Sessions, view: RegistryView, change: str) -> None:
    write(sessions, CHANGES[change])
    view.refresh()
    assert whole(view) == whole(fresh(sessions))


def test_what_was_taken_away_is_gone(sessions: Sessions, view: RegistryView) -> None:
    write(sessions, CHANGES["alias set"])
    write(sessions, CHANGES["tags set"])
    view.refresh()
    write(sessions, lambda session: registry.delete_alias(session, "digits-cnn", "champion"))
    write(sessions, tag)
    view.refresh()
    found = view.resolve(parse_reference("digits-cnn/1"))
    assert (found.aliases, dict(found.tags)) == ((), {})


def test_new_versions_take_their_place_among_the_others(
    sessions: Sessions, view: RegistryView, dataset_id: str
) -> None:
    for name in (NAMES[0], NAMES[1]):
        train(sessions, dataset_id, name=name)
    view.refresh()
    assert [(row.name, row.version) for row in view.every_version()] == [
        *[("cats", 1), ("digits-cnn", 1), ("digits-cnn", 2), ("digits-cnn", 3)],
        *[("zebras", 1), ("zebras", 2)],
    ]
    assert whole(view) == whole(fresh(sessions))


def test_versions_that_did_not_change_are_not_read_again(sessions: Sessions, view: RegistryView) -> None:
    before = {row.id: row for row in view.every_version()}
    write(sessions, CHANGES["alias set"])
    with counted_queries(sessions.kw["bind"]) as statements:
        view.refresh()
    after = {row.id: row for row in view.every_version()}
    assert sorted(row.version for row in after.values() if row is not before[row.id]) == [1]
    assert not [statement for statement in statements if "manifest" in statement]


def test_more_new_versions_than_a_statement_should_name_are_read_too(
    sessions: Sessions, view: RegistryView, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_MOST_ADDED", 1)
    for _ in range(2):
        train(sessions, dataset_id, name="cats")
    view.refresh()
    assert whole(view) == whole(fresh(sessions))


@pytest.mark.parametrize("seed", range(3))
def test_any_sequence_of_changes_ends_where_reading_everything_does(
    sessions: Sessions, view: RegistryView, dataset_id: str, seed: int
) -> None:
    choose = random.Random(seed)
    for _ in range(8):
        name, number = choose.choice(NAMES[1:]), choose.randint(1, 2)
        kind = choose.choice(("alias", "tags", "new", "deprecate"))
        if kind == "new":
            train(sessions, dataset_id, name=choose.choice(NAMES))
        else:
            with sessions.begin() as session:
                row = registry.resolve(session, f"{name}/{number}")
                if kind == "alias":
                    registry.set_alias(session, name, choose.choice(("a", "b")), number)
                elif kind == "tags":
                    registry.set_tags(session, row.id, {"key": str(choose.random())})
                else:
                    registry.begin_write(session)
                    version = session.get_one(registry.ModelVersion, row.id)
                    version.state = choose.choice(("deprecated", "ready"))
        if choose.random() < 0.6:
            view.refresh()
            assert whole(view) == whole(fresh(sessions))
    view.refresh()
    assert whole(view) == whole(fresh(sessions))


def test_a_manifest_is_read_once_and_is_what_was_registered(sessions: Sessions, view: RegistryView) -> None:
    row = view.resolve(parse_reference("zebras"))
    assert row.manifest is row.manifest
    assert row.manifest.digest == row.digest
    with reading(sessions) as session:
        assert registry.resolve(session, "zebras").manifest == row.manifest
