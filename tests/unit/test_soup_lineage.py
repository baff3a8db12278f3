"""Whose weights may be averaged: trap 26, networks without a common ancestor, told by links alone."""

import pytest

from app.domain.models import Link, VersionManifest
from app.domain.soup import descends
from tests.factories import version_manifest


class Registered:
    """Versions by id, as links find them."""

    def __init__(self) -> None:
        self.versions: dict[str, VersionManifest] = {}

    def add(self, name: str, *, parent: str | None = None, method: str = "fine_tune", role: str = "parent") -> str:
        links = (Link.model_validate({"role": role, "version_id": parent}),) if parent else ()
        self.versions[name] = version_manifest(name, method=method if parent else "train", links=links)
        return name

    def descends(self, member: str, ancestor: str) -> bool:
        find = lambda link: self.versions.get(link.version_id)  # noqa: E731
        return descends(self.versions[member], self.versions[ancestor], find)


@pytest.fixture
def registered() -> Registered:
    found = Registered()
    found.add("ancestor")
    return found


def test_the_ancestor_and_what_was_fine_tuned_of_it_once_or_often_descend_from_it(registered: Registered) -> None:
    once = registered.add("once", parent="ancestor")
    twice = registered.add("twice", parent=once)
    for member in ("ancestor", once, twice):
        assert registered.descends(member, "ancestor")
    assert not registered.descends("ancestor", once)


def test_trap_26_a_network_trained_from_a_start_of_its_own_does_not_descend(registered: Registered) -> None:
    other = registered.add("other")
    assert not registered.descends(other, "ancestor")
    assert not registered.descends(registered.add("tuned", parent=other), "ancestor")


@pytest.mark.parametrize(("method", "role"), [("distill", "teacher"), ("chain", "parent"), ("convolve", "parent")])
def test_trap_26_what_may_have_started_at_random_does_not_descend(
    registered: Registered, method: str, role: str
) -> None:
    assert not registered.descends(registered.add("made", parent="ancestor", method=method, role=role), "ancestor")


def test_a_member_of_the_ancestor_is_no_descendant(registered: Registered) -> None:
    soup = registered.add("soup", parent="ancestor", method="soup", role="member")
    assert not registered.descends(soup, "ancestor")


def test_an_ancestor_that_another_job_took_over_is_the_same_one(registered: Registered) -> None:
    tuned = registered.add("tuned", parent="ancestor")
    registered.versions["copy"] = registered.versions["ancestor"]
    assert registered.descends(tuned, "copy")


def test_a_lineage_that_is_gone_leads_nowhere(registered: Registered) -> None:
    middle = registered.add("middle", parent="ancestor")
    last = registered.add("last", parent=middle)
    del registered.versions[middle]
    assert not registered.descends(last, "ancestor")
