"""Recorded speech, text messages and tables become models through the same API as images."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.demo import running_service
from app.client import Client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("service") / "home"
    with running_service("embedded", home=home) as url, Client(url) as client:
        yield client


def train(client: Client, dataset: str, architecture: dict[str, object], *, epochs: int) -> float:
    """Train on a registered data set and return the accuracy on its report rows."""
    spec = {
        "kind": "train",
        "name": f"{dataset}-model",
        "dataset": dataset,
        "architecture": architecture,
        "training": {"epochs": epochs, "optimizer": {"type": "adam", "learning_rate": 0.003}},
    }
    job = client.jobs.wait(client.jobs.submit(spec)["id"], timeout_seconds=200)
    assert job["state"] == "succeeded", job["error"]
    accuracy: float = client.models.report(f"{dataset}-model", 1)["metrics"]["accuracy"]
    return accuracy


def predicts_rows(client: Client, dataset: str) -> bool:
    """Tell whether the model answers rows of its data set, one per row."""
    found = client.models.predictions(f"{dataset}-model", dataset=dataset, limit=3)["predictions"]
    return len(found) == 3


def test_spoken_digits_train_from_wav_files(client: Client, data: Path) -> None:
    options = {"report_pattern": r"_0[0-4]\.wav$", "group_pattern": r"/([a-z]+)_\d+\.wav$"}
    added = client.datasets.upload(data / "spoken_digits.zip", name="speech", options=options)
    assert (added["schema"]["features"], added["schema"]["sample_rate"]) == ("signal", 8000)
    assert train(client, "speech", {"type": "cnn1d", "filters": [16, 32]}, epochs=3) > 0.3
    assert predicts_rows(client, "speech")


def test_text_messages_train_from_csv(client: Client, data: Path) -> None:
    added = client.datasets.upload(data / "sms_spam.csv", name="sms")
    assert (added["schema"]["features"], added["schema"]["classes"]) == ("text", ["ham", "spam"])
    # More than always answering "ham" gets: 86.6 %.
    assert train(client, "sms", {"type": "textcnn", "filters": 32}, epochs=2) > 0.9
    assert predicts_rows(client, "sms")


def test_tables_train_from_csv_with_their_official_test_file(client: Client, data: Path) -> None:
    train_path, test_path = data / "optdigits_train.csv", data / "optdigits_test.csv"
    added = client.datasets.upload(train_path, name="optdigits", report_path=test_path, options={"target": "digit"})
    assert (added["schema"]["features"], added["schema"]["rows"]["report"]) == ("table", 1797)
    assert train(client, "optdigits", {"type": "mlp", "hidden": [64]}, epochs=5) > 0.85
    assert predicts_rows(client, "optdigits")
