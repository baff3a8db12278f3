"""Every job file of the method pages, run by a real worker on real digits, as a reader would paste it."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.client import Client
from benchmarks.methods.files import read_jobs

# A reader's run takes minutes. Nothing but the number of epochs is changed here; pruning needs one for each round.
MOST_EPOCHS = 3


@pytest.fixture(scope="module")
def client(service: str) -> Iterator[Client]:
    with Client(service) as client:
        client.datasets.add_builtin("digits")
        yield client


def shortened(value: Any) -> Any:
    """Return a spec of which every training has at most three epochs."""
    if isinstance(value, list):
        return [shortened(part) for part in value]
    if not isinstance(value, dict):
        return value
    parts = {key: shortened(part) for key, part in value.items()}
    return parts | ({"epochs": min(parts["epochs"], MOST_EPOCHS)} if "epochs" in parts else {})


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_job_file_of_the_pages_runs_to_its_end(client: Client) -> None:
    for name, spec in read_jobs().items():
        job = client.jobs.wait(client.jobs.submit(shortened(spec))["id"], timeout_seconds=300)
        assert job["state"] == "succeeded", f"{name}: {job['error']}"
        if spec["kind"] == "predict":
            assert job["result"]["rows"] == client.datasets.get("digits")["schema"]["rows"][spec["set"]]
            continue
        made = client.models.version(spec["name"], job["result"]["version"])
        asked = spec.get("method", {"method": spec["kind"]})["method"]
        assert client.models.report(made["name"], made["version"])["method"]["method"] == asked


def test_only_the_epochs_of_a_file_are_shortened() -> None:
    spec = {
        "training": {"epochs": 20, "batch_size": 64},
        "method": {"steps": [{"training": {"epochs": 2}}], "rounds": 9},
    }
    short = {
        "training": {"epochs": 3, "batch_size": 64},
        "method": {"steps": [{"training": {"epochs": 2}}], "rounds": 9},
    }
    assert shortened(spec) == short
