"""What requests will ask for next is in memory before they can."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from app.db.registry import OpenRollout
from app.domain.errors import ArtifactCorruptedError
from app.serving.view import RegistryIndex
from app.serving.warming import warming


class FakePredictor:
    """Note what is loaded and pinned."""

    def __init__(self, *loaded: str) -> None:
        self.loaded = set(loaded)
        self.pinned: list[str] = []

    def is_loaded(self, version: Any) -> bool:
        return version.id in self.loaded

    def load(self, version: Any) -> None:
        if version.id == "cats/9":
            raise ArtifactCorruptedError("It is damaged.")
        self.loaded.add(version.id)

    def pin(self, versions: list[Any]) -> None:
        self.pinned = [version.id for version in versions]


def state(models: dict[str, list[int]], **aliases: dict[str, int]) -> RegistryIndex:
    rows = {
        name: {
            number: SimpleNamespace(id=f"{name}/{number}", name=name, version=number, state="ready")
            for number in numbers
        }
        for name, numbers in models.items()
    }
    return RegistryIndex(1, rows, aliases)  # type: ignore[arg-type]


BEFORE = state({"cats": [1, 2], "dogs": [1]}, cats={"champion": 1})


def changed(predictor: FakePredictor, after: RegistryIndex, pinned: tuple[str, ...] = ()) -> None:
    warming(predictor, pinned)(BEFORE, after)  # type: ignore[arg-type]


def test_where_an_alias_moves_on_from_a_loaded_version_the_next_is_loaded() -> None:
    predictor = FakePredictor("cats/1")
    changed(predictor, state({"cats": [1, 2, 3], "dogs": [1, 2]}, cats={"champion": 3}))
    assert predictor.loaded == {"cats/1", "cats/3"}


def test_where_a_name_leads_to_a_newer_version_it_is_loaded_if_the_older_was() -> None:
    predictor = FakePredictor("dogs/1")
    changed(predictor, state({"cats": [1, 2, 3], "dogs": [1, 2]}, cats={"champion": 1}))
    assert predictor.loaded == {"dogs/1", "dogs/2"}


def test_what_nobody_asks_for_is_not_loaded() -> None:
    predictor = FakePredictor()
    changed(predictor, state({"cats": [1, 2, 3], "dogs": [1, 2]}, cats={"champion": 2}))
    assert predictor.loaded == set()


def test_a_version_that_cannot_be_loaded_keeps_nobody_from_seeing_the_new_state() -> None:
    predictor = FakePredictor("cats/1", "dogs/1")
    changed(predictor, state({"cats": [1, 2, 9], "dogs": [1, 2]}, cats={"champion": 9}))
    assert predictor.loaded == {"cats/1", "dogs/1", "dogs/2"}


def test_a_candidate_is_loaded_where_a_loaded_version_answers() -> None:
    predictor = FakePredictor("cats/1")
    after = state({"cats": [1, 2], "dogs": [1, 2]}, cats={"champion": 1}, dogs={"champion": 1})
    rollouts = {("cats", "champion"): candidate("cats/2"), ("dogs", "champion"): candidate("dogs/2")}
    changed(predictor, replace(after, by_id=by_id(after), rollouts=rollouts))
    assert predictor.loaded == {"cats/1", "cats/2"}


def candidate(version_id: str) -> OpenRollout:
    return OpenRollout("rollout", version_id, "split", 10)


def by_id(index: RegistryIndex) -> dict[str, Any]:
    return {row.id: row for versions in index.models.values() for row in versions.values()}


def test_pinned_models_follow_the_registry() -> None:
    predictor = FakePredictor()
    changed(predictor, state({"cats": [1, 2]}, cats={"champion": 2}), ("cats@champion", "cats/1", "nobody"))
    assert predictor.pinned == ["cats/2", "cats/1"]
