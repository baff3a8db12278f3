"""A soup over HTTP: its members are fine-tuned as jobs of their own, and the mean of their weights answers."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.cli.demo import running_service
from app.client import Client
from app.domain.errors import InvalidEnsembleError

TRAINING = {"epochs": 4, "batch_size": 64, "optimizer": {"type": "adam", "learning_rate": 0.005}}
MLP = {"type": "mlp", "hidden": [16], "dropout": 0.0}


def trained(name: str, seed: int) -> dict[str, Any]:
    spec = {"kind": "train", "name": name, "dataset": "digits", "architecture": MLP, "training": TRAINING}
    return {**spec, "seed": seed}


def soup(*members: dict[str, Any]) -> dict[str, Any]:
    method = {"method": "soup", "ancestor": "stock", "recipe": "uniform", "members": list(members)}
    return {"kind": "ensemble", "name": "broth", "dataset": "digits", "method": method, "training": TRAINING}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("service") / "home"
    with running_service("embedded", home=home) as url, Client(url) as client:
        client.datasets.add_builtin("digits")
        for name, seed in (("stock", 0), ("stranger", 1)):
            finish(client, trained(name, seed))
        yield client


def finish(client: Client, spec: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = client.jobs.wait(client.jobs.submit(spec)["id"], timeout_seconds=250)
    assert done["state"] == "succeeded", done["error"]
    return done


def test_a_soup_waits_for_its_fine_tunes_and_becomes_one_model_that_descends_from_its_ancestor(client: Client) -> None:
    finish(client, soup({"seed": 0}, {"seed": 1}, {"model": "stock"}))
    made = client.models.version("broth", 1)
    assert (made["kind"], made["method"]) == ("single", "soup")
    told = client.models.report("broth", 1)["method"]
    assert [member["model"] for member in told["members"]] == ["broth-m0/1", "broth-m1/1", "stock/1"]
    assert told["ancestor"] == "stock/1"
    figures = [member["selection_accuracy"] for member in told["members"]]
    assert min(figures[:2]) > figures[2], "the fine-tunes have learned on"
    # What the soup made descends from its ancestor, so it may be a member of the next one.
    again = client.jobs.validate(soup({"model": "broth-m0"}, {"model": "broth-m1"}))
    assert again["spec"]["method"]["members"] == [{"model": "broth-m0/1"}, {"model": "broth-m1/1"}]


def test_trap_26_a_network_from_another_start_is_refused(client: Client) -> None:
    with pytest.raises(InvalidEnsembleError, match="does not descend from stock/1") as refused:
        client.jobs.validate(soup({"seed": 0}, {"model": "stranger"}))
    assert refused.value.errors[0].pointer == "/method/members/1/model"
