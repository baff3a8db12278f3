"""A search tries points one by one, keeps what it tried, and makes versions of those that none beats."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from app.domain.jobs import PROTOCOL
from app.domain.models import recipe_digest
from app.domain.specs import TrainSpec, job_spec_adapter
from tests.worker.methods.jobs import Job, Workshop, digits, report_of, wave
from worker.context import Stopped

TINY = {"type": "mlp", "hidden": [8], "dropout": 0.1}
TRAINING = {"epochs": 2, "batch_size": 50, "optimizer": {"type": "adam", "learning_rate": 0.003}}
WIDTHS = {"/architecture/hidden": {"choices": [[4], [8], [16], [8, 8]]}}
RATES = {"/training/optimizer/learning_rate": {"low": 1e-4, "high": 0.1, "log": True}}
STEPS = 8


def search_of(**changes):
    return {
        "kind": "search",
        "name": "found",
        "architecture": TINY,
        "training": TRAINING,
        "space": WIDTHS | RATES,
        "objectives": ["accuracy", "bytes", "macs"],
        "trials": 5,
        **changes,
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("search")
    return Workshop(root / "jobs", digits(root / "digits", train=200))


@pytest.fixture(scope="module")
def found(small) -> Job:
    return small.run(search_of())


def table(job: Job) -> list[dict]:
    return job.report["method"]["trials"]


def told(job: Job) -> list[dict]:
    """Return the trials without their latencies, which no two runs measure alike."""
    rows = table(job)
    return [row | {"figures": {k: v for k, v in row["figures"].items() if k != "latency_ms"}} for row in rows]


def test_every_point_of_the_front_becomes_a_version_and_the_most_accurate_is_last(found):
    trials = table(found)
    front = [row for row in trials if row["front"]]
    assert len(trials) == 5
    assert len(found.products) == len(front) >= 2
    assert {product.name_hint for product in found.products} == {"found"}
    notes = [report_of(product)["method"] for product in found.products]
    assert sorted(note["trial"] for note in notes) == sorted(row["trial"] for row in front)
    selection = [note["selection"]["selection_accuracy"] for note in notes]
    assert selection == sorted(selection)
    assert [note["front"]["place"] for note in notes] == list(range(1, len(front) + 1))
    assert all("trials" not in note for note in notes[:-1])
