"""Soups, snapshots and fine-tunings over HTTP: the jobs that they become, and what is refused with its place."""

# ruff: noqa: E501 - the table reads best with one case a line

from typing import Any

import pytest
from starlette.testclient import TestClient

from app.domain.models import Link
from tests.api.builders import Registry, assert_problem
from tests.api.conftest import Refusing

MLP = {"type": "mlp", "hidden": [8, 6]}
TRAINING = {"epochs": 2, "batch_size": 4}


def soup(*members: dict[str, Any], ancestor: str = "pets-mlp", **changes: Any) -> dict[str, Any]:
    method = {"method": "soup", "ancestor": ancestor, "members": list(members)}
    return {"kind": "ensemble", "name": "broth", "dataset": "pets", "method": method, "training": TRAINING, **changes}


def snapshot(training: dict[str, Any] | None = None, **method: Any) -> dict[str, Any]:
    chosen = {"method": "snapshot", "architecture": MLP, **method}
    given = TRAINING | (training or {})
    return {"kind": "ensemble", "name": "album", "dataset": "pets", "method": chosen, "training": given}


def fine_tune(parent: str = "pets-mlp", **method: Any) -> dict[str, Any]:
    chosen = {"method": "fine_tune", "parent": parent, **method}
    return {"kind": "optimize", "name": "longer", "dataset": "pets", "method": chosen, "training": TRAINING}


def add_fine_tunes(registry: Registry, ancestor_id: str) -> None:
    """Register a fine-tune of the ancestor, and one of that."""
    parent = ancestor_id
    for name in ("pets-tuned", "pets-tuned-again"):
        links = (Link(role="parent", version_id=parent),)
        parent = registry.add_network(name, MLP, method="fine_tune", links=links)


@pytest.fixture
def pets(client: TestClient, registry: Registry) -> TestClient:
    registry.add_dataset()
    add_fine_tunes(registry, registry.add_network("pets-mlp", MLP))
    return client


def test_new_members_of_a_soup_become_fine_tunings_of_the_ancestor_as_it_is_now(pets: TestClient) -> None:
    own = {"epochs": 1, "batch_size": 4}
    spec = soup({"seed": 3}, {"model": "pets-tuned"}, {"seed": 4, "training": own}, {"model": "pets-tuned-again"})
    job = pets.post("/v1/jobs", json=spec).json()
    assert job["spec"]["method"]["ancestor"] == "pets-mlp/1"
    children = {found["name"]: found for found in pets.get(f"/v1/jobs?parent_id={job['id']}").json()["jobs"]}
    assert set(children) == {"broth-m0", "broth-m2"}
    for name, seed, epochs in (("broth-m0", 3, 2), ("broth-m2", 4, 1)):
        told = children[name]["spec"]
        assert told["method"]["method"] == "fine_tune"
        assert (told["method"]["parent"], told["method"]["max_drop"]) == ("pets-mlp/1", None)
        assert (told["seed"], told["training"]["epochs"]) == (seed, epochs)


def test_the_estimate_counts_what_is_trained(pets: TestClient) -> None:
    def estimated(spec: dict[str, Any]) -> tuple[int, int]:
        told = pets.post("/v1/jobs?validate_only=true", json=spec).json()["estimate"]
        return told["trainings"], told["optimizer_steps"]

    assert estimated(soup({"seed": 0}, {"seed": 1}, {"model": "pets-mlp"})) == (2, 12)
    assert estimated(soup({"model": "pets-mlp"}, {"model": "pets-tuned"})) == (0, 0)
    assert estimated(snapshot(cycles=4)) == (4, 24)
    assert estimated({**snapshot(cycles=4), "seeds": 2}) == (8, 48)
    assert estimated(fine_tune()) == (1, 6)


def test_a_soup_may_be_the_next_version_of_its_ancestor(pets: TestClient) -> None:
    spec = {**soup({"seed": 0}, {"seed": 1}), "name": "pets-mlp"}
    assert pets.post("/v1/jobs?validate_only=true", json=spec).status_code == 200


def test_equal_snapshots_are_one_recipe_and_a_kept_epoch_is_another(pets: TestClient) -> None:
    plain = pets.post("/v1/jobs?validate_only=true", json=snapshot()).json()["spec"]
    assert "keep" not in plain["training"]
    last = pets.post("/v1/jobs?validate_only=true", json=snapshot({"keep": "last"})).json()["spec"]
    assert last["training"]["keep"] == "last"


NEW = {"seed": 0}
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("trap 26: a member from another start", soup(NEW, {"model": "pets-stranger"}), "invalid-ensemble", "/method/members/1/model"),
    ("a member with other layers", soup(NEW, {"model": "pets-deep"}), "invalid-ensemble", "/method/members/1/model"),
    ("a member without layers", soup(NEW, {"model": "pets-cnn"}), "invalid-ensemble", "/method/members/1/model"),
    ("a member that is an ensemble", soup({"model": "pets-duo"}, NEW), "invalid-ensemble", "/method/members/0/model"),
    ("a member that is no model", soup(NEW, {"model": "nobody"}), "reference-not-found", "/method/members/1/model"),
    ("a member of itself", soup(NEW, {"model": "broth"}), "invalid-ensemble", "/method/members/1/model"),
    ("a member with an architecture", soup(NEW, {"architecture": MLP}), "unknown-field", "/method/members/1/architecture"),
    ("one member", soup(NEW), "invalid-ensemble", "/method/members"),
    ("an unknown ancestor", soup(NEW, NEW, ancestor="nobody"), "reference-not-found", "/method/ancestor"),
    ("an ancestor of another shape", soup(NEW, NEW, ancestor="mini-cnn"), "shape-mismatch", "/method/ancestor"),
    ("an ancestor that is an ensemble", soup(NEW, NEW, ancestor="pets-duo"), "method-not-applicable", "/method/ancestor"),
    ("a quantized ancestor", soup(NEW, NEW, ancestor="pets-int8"), "method-not-applicable", "/method/ancestor"),
    ("an unknown recipe", {**soup(NEW, NEW), "method": {"method": "soup", "ancestor": "pets-mlp", "recipe": "best", "members": [NEW, NEW]}}, "unknown-component", "/method/recipe"),
    ("a member's batch beyond the rows", soup(NEW, {"training": {"batch_size": 13}}), "out-of-range", "/method/members/1/training/batch_size"),
    ("a member's training that does not fit", soup(NEW, {"training": {"batch_size": 4, "augmentation": {"byte_dropout": 0.1}}}), "shape-mismatch", "/method/members/1/training/augmentation/byte_dropout"),
    ("the soup's batch beyond the rows", soup(NEW, NEW, training={"batch_size": 13}), "out-of-range", "/training/batch_size"),
    ("repeats of a soup", soup(NEW, NEW, seeds=3), "method-not-applicable", "/seeds"),
    ("cycles that do not come to rest", snapshot({"schedule": {"type": "constant"}}), "invalid-ensemble", "/training/schedule"),
    ("a restart that is none", snapshot({"schedule": {"type": "cosine", "warmup_fraction": 0.1}}), "invalid-ensemble", "/training/schedule/warmup_fraction"),
    ("cycles that stop early", snapshot({"early_stopping": {}}), "invalid-ensemble", "/training/early_stopping"),
    ("one cycle", snapshot(cycles=1), "out-of-range", "/method/cycles"),
    ("21 cycles", snapshot(cycles=21), "out-of-range", "/method/cycles"),
    ("layers that do not fit", snapshot(architecture={"type": "textcnn"}), "shape-mismatch", "/method/architecture"),
    ("a batch beyond the rows", snapshot({"batch_size": 13}), "out-of-range", "/training/batch_size"),
    ("a name too long for its members", {**snapshot(), "name": "n" * 62}, "invalid-name", "/name"),
    ("an epoch that is not kept", snapshot({"keep": "first"}), "unknown-component", "/training/keep"),
    ("a fine-tuned ensemble", fine_tune("pets-duo"), "method-not-applicable", "/method/parent"),
    ("a fine-tuned quantized version", fine_tune("pets-int8"), "method-not-applicable", "/method/parent"),
    ("a parent of another shape", fine_tune("mini-cnn"), "shape-mismatch", "/method/parent"),
    ("an unknown option", fine_tune(rounds=2), "unknown-field", "/method/rounds"),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def stranger(shared: Refusing) -> None:
    """Register a network of the ancestor's layers that was trained from a start of its own."""
    shared.registry.add_network("pets-stranger", MLP)


@pytest.mark.parametrize(("spec", "slug", "pointer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs?validate_only=true"])
def test_a_wrong_spec_is_refused_with_its_place(
    refusing: TestClient, path: str, spec: dict[str, Any], slug: str, pointer: str
) -> None:
    problem = assert_problem(refusing.post(path, json=spec), 422, slug)
    assert problem["errors"][0]["pointer"] == pointer


def test_trap_26_the_refusal_says_what_to_name_instead(refusing: TestClient) -> None:
    problem = refusing.post("/v1/jobs", json=soup(NEW, {"model": "pets-stranger"})).json()
    assert "pets-stranger/1 does not descend from pets-mlp/1" in problem["detail"]
    assert "`fine_tune`" in problem["hint"]


def test_a_chain_may_fine_tune_before_it_clusters_and_not_after(refusing: TestClient) -> None:
    def chain(*steps: str) -> dict[str, Any]:
        method = {"method": "chain", "parent": "pets-mlp", "steps": [{"method": step} for step in steps]}
        return {"kind": "optimize", "name": "tiny", "dataset": "pets", "method": method, "training": TRAINING}

    ordered = chain("fine_tune", "prune", "fine_tune", "cluster")
    assert refusing.post("/v1/jobs?validate_only=true", json=ordered).status_code == 200
    problem = assert_problem(refusing.post("/v1/jobs", json=chain("cluster", "fine_tune")), 422, "invalid-request")
    assert problem["errors"][0]["pointer"] == "/method/steps/1/method"
    assert "free weights" in problem["detail"]
