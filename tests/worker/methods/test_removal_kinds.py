"""Pruning and low rank on every kind of rows: what is cut away is gone from the served file, and answers stay right."""

from dataclasses import dataclass

import pytest

from app.domain.network import Network, trace
from app.domain.surgery.channels import find_channels
from tests.worker.methods.jobs import Job, Workshop
from tests.worker.methods.kinds import TRAINING, workshop_of

SHORT = {**TRAINING, "epochs": 10}
ARCHITECTURES = {
    "signal": {"type": "separable_cnn", "filters": [12, 16, 16], "dropout": 0.0},
    "text": {"type": "textcnn", "embedding": 8, "filters": 12, "kernel_sizes": [3, 4], "dense": [16], "dropout": 0.0},
    "table": {"type": "mlp", "hidden": [32, 16], "batch_norm": True, "dropout": 0.0},
}


@dataclass
class Case:
    """Hold a kind of rows and a network that was trained on them."""

    workshop: Workshop
    parent: Job

    def run(self, **method: object) -> Job:
        spec = {"kind": "optimize", "training": SHORT, "method": {**method, "parent": "parent", "max_drop": None}}
        return self.workshop.run(spec, parent=[self.parent.version()])


@pytest.fixture(scope="module", params=ARCHITECTURES)
def case(request, tmp_path_factory) -> Case:
    workshop = workshop_of(request.param, tmp_path_factory.mktemp(request.param))
    spec = {"kind": "train", "name": "parent", "architecture": ARCHITECTURES[request.param], "training": TRAINING}
    return Case(workshop, workshop.run(spec))


def network_of(job: Job) -> Network:
    return Network.model_validate_json((job.product.directory / "network.json").read_bytes())


def test_channels_go_from_every_kind_of_network(case):
    job = case.run(method="prune", ratio=0.4, rounds=1)
    before, after = (trace(network_of(each)) for each in (case.parent, job))
    assert find_channels(network_of(job)).count < 0.75 * find_channels(network_of(case.parent)).count
    assert after.macs < before.macs
    assert job.product.manifest.metrics.parameters == after.parameters < before.parameters
    assert job.accuracy > case.parent.accuracy - 0.15


def test_weights_go_from_every_kind_of_network(case):
    job = case.run(method="prune", structure="unstructured", ratio=0.6, rounds=2)
    assert job.report["method"]["zeros"] == pytest.approx(0.6, abs=2e-3)
    assert job.accuracy > case.parent.accuracy - 0.15


def test_layers_of_every_kind_of_network_are_split(case):
    job = case.run(method="factorize", energy=0.5)
    assert job.report["method"]["ranks"]
    assert trace(network_of(job)).macs < trace(network_of(case.parent)).macs
    assert job.accuracy > case.parent.accuracy - 0.15
