"""A whole service predicts a real data set into files of every form."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from app.cli.demo import running_service
from app.cli.main import application
from app.client import Client

ROWS = 1797


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service("embedded", home=tmp_path_factory.mktemp("service") / "home") as url:
        yield url


def test_real_rows_are_predicted_into_files_that_agree_with_the_api(url: str, data: Path, tmp_path: Path) -> None:
    spec = {"kind": "train", "name": "table", "dataset": "optdigits", "alias": "champion"}
    spec |= {"architecture": {"type": "mlp", "hidden": [32]}, "training": {"epochs": 2}}  # type: ignore[dict-item]
    with Client(url) as client:
        report = data / "optdigits_test.csv"
        client.datasets.upload(
            data / "optdigits_train.csv", name="optdigits", report_path=report, options={"target": "digit"}
        )
        trained = client.jobs.wait(client.jobs.submit(spec)["id"], timeout_seconds=200)
        assert trained["state"] == "succeeded", trained["error"]
        online = list(client.models.walk_predictions("table@champion", dataset="optdigits"))
        for form in ("npz", "csv", "parquet"):
            arguments = ["predict", "table@champion", "--dataset", "optdigits", "--output", str(tmp_path / f"a.{form}")]
            done = CliRunner().invoke(application, [*arguments, "--url", url])
            assert done.exit_code == 0, done.output
        jobs = list(client.jobs.list(state="succeeded"))
    assert [row["row"] for row in online] == list(range(ROWS))
    assert [job["result"]["rows"] for job in jobs if job["kind"] == "predict"] == [ROWS] * 3
    columns = [f"probability.{digit}" for digit in range(10)]
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        found = dict(archive)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = parquet.read_table(tmp_path / "a.parquet")
    assert np.allclose(found["probabilities"], [row["probabilities"] for row in online], rtol=0, atol=1e-6)
    assert np.array_equal(found["probabilities"], [[np.float32(row[name]) for name in columns] for row in rows])
    assert np.array_equal(found["probabilities"], np.stack([table[name].to_numpy() for name in columns], axis=1))
    for actual in (table["actual"].to_pylist(), [row["actual"] for row in rows], [row["actual"] for row in online]):
        assert found["actual"].tolist() == actual
