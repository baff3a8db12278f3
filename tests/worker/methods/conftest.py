"""Real digits, and models trained on them once per session."""

import pytest

from tests.worker.methods.jobs import Job, Workshop, digits, wave

SMALL_CNN = {"type": "cnn", "filters": [8, 16], "dense": [32], "dropout": 0.1}
SMALL_MLP = {"type": "mlp", "hidden": [64], "dropout": 0.1}
TRAINING = {"epochs": 8, "batch_size": 64, "optimizer": {"type": "adam", "learning_rate": 0.004}}


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("methods")
    return Workshop(root / "jobs", digits(root / "digits"))


@pytest.fixture(scope="session")
def regressions(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("regressions")
    return Workshop(root / "jobs", wave(root / "wave"))


@pytest.fixture(scope="session")
def parent(workshop) -> Job:
    """A small convolutional network."""
    return workshop.run({"kind": "train", "name": "cnn", "architecture": SMALL_CNN, "training": TRAINING})


@pytest.fixture(scope="session")
def dense(workshop) -> Job:
    """A small dense network."""
    return workshop.run({"kind": "train", "name": "mlp", "architecture": SMALL_MLP, "training": TRAINING})


@pytest.fixture(scope="session")
def trio(workshop, parent, dense) -> list[Job]:
    """Three members that differ in seed and kind."""
    spec = {"kind": "train", "name": "cnn-b", "architecture": SMALL_CNN, "training": TRAINING, "seed": 1}
    return [parent, workshop.run(spec), dense]
