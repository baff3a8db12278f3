"""A batch prediction writes every row once, in bounded memory, whatever happens to its process."""

import csv
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from starlette.testclient import TestClient

from app.api.deps import Services
from app.db.attempts import claim
from app.db.base import new_id
from app.db.endings import AttemptEnd
from app.db.results import finish_with_file
from app.domain.datasets import FileRef
from app.domain.jobs import Timing
from app.domain.predict_specs import PredictionFile
from app.main import create_app
from app.settings import Settings
from tests.api.builders import CLASSES, ROWS, Registry
from tests.worker.fakes import FakeReporter
from tests.workers import read_attempts, read_events, read_job, until, versions_of, worker_settings
from worker.assignment import BatchAssignment
from worker.batch import predictor
from worker.batch.columns import Column
from worker.batch.staging import find_batch, lay_out_batch
from worker.batch.writers import escape_cell, open_writer
from worker.context import Stopped
from worker.supervisor import Supervisor

SPEC = {"kind": "predict", "name": "pets-all", "model": "pets-duo@champion", "dataset": "pets", "set": "report"}
END = AttemptEnd(exit_code=0)


class Bench:
    """The API and a supervisor on one database and store."""

    def __init__(self, client: TestClient, services: Services, settings: Settings) -> None:
        self.client, self.services, self.settings = client, services, settings
        self.registry = Registry(services.sessions, services.store)
        self.registry.add_dataset()
        self.registry.add_ensemble()
        services.view.refresh()
        assert client.put("/v1/models/pets-duo/aliases/champion", json={"version": 1}).status_code == 200
        self.supervisor = self.make_supervisor()

    def make_supervisor(self) -> Supervisor:
        worker_id, home = new_id(), self.settings.home
        services = self.services
        directory = home / "work" / worker_id
        return Supervisor(self.settings, services.sessions, services.store, worker_id=worker_id, directory=directory)

    def submit(self, **changes: object) -> dict[str, Any]:
        answer = self.client.post("/v1/jobs", json={**SPEC, **changes})
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def run(self, **changes: object) -> dict[str, Any]:
        """Submit a job, see it through and return it."""
        job_id = self.submit(**changes)["id"]
        until(self.supervisor.run_one)
        job: dict[str, Any] = self.client.get(f"/v1/jobs/{job_id}").json()
        assert job["state"] == "succeeded", job["error"]
        return job

    def file(self, job: dict[str, Any]) -> bytes:
        answer = self.client.get(job["result"]["url"])
        assert answer.status_code == 200
        return answer.content

    def assignment(self, directory: Path, **changes: object) -> BatchAssignment:
        """Return what a trainer would be given."""
        self.submit(reuse=False, **changes)
        job = claim(self.services.sessions, new_id(), timing=Timing())
        assert job is not None
        batch = find_batch(self.services.sessions, job)
        path = lay_out_batch(batch, directory=directory, store=self.services.store, settings=self.settings)
        return BatchAssignment.model_validate_json(path.read_bytes())


@pytest.fixture
def bench(tmp_path: Path, sqlite_url: str, timing: Timing) -> Iterator[Bench]:
    settings = worker_settings(tmp_path / "home", sqlite_url, timing)
    app = create_app(settings)
    with TestClient(app, base_url="http://localhost") as client:
        bench = Bench(client, app.state.services, settings)
        yield bench
        bench.supervisor.close()


def read_npz(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


def test_every_format_says_what_the_online_path_says(bench: Bench) -> None:
    query = {"dataset": "pets", "members": "true", "uncertainty": "true", "alias": "champion"}
    online = bench.client.get("/v1/ensembles/pets-duo/predictions", params=query).json()["predictions"]
    probabilities = np.array([row["probabilities"] for row in online])
    asked = {"members": True, "uncertainty": True}
    npz = read_npz(bench.file(bench.run(format="npz", **asked)))
    text = bench.file(bench.run(format="csv", **asked)).decode()
    table = parquet.read_table(io.BytesIO(bench.file(bench.run(format="parquet", **asked)))).to_pydict()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    columns = [f"probability.{name}" for name in CLASSES]

    # Batches of another size may round otherwise in the last place.
    assert np.allclose(npz["probabilities"], probabilities, rtol=0, atol=1e-6)
    assert np.array_equal(npz["probabilities"], np.stack([np.float32(table[name]) for name in columns], axis=1))
    assert np.array_equal(npz["probabilities"], [[np.float32(row[name]) for name in columns] for row in rows])
    for index, row in enumerate(online):
        assert npz["label"][index] == table["label"][index] == rows[index]["label"] == row["label"]
        assert npz["actual"][index] == table["actual"][index] == rows[index]["actual"] == row["actual"]
        assert np.allclose(npz["member.1.probabilities"][index], row["members"][1]["probabilities"], atol=1e-6)
        assert float(rows[index]["uncertainty.entropy"]) == pytest.approx(row["uncertainty"]["entropy"], abs=1e-6)
    assert npz["classes"].tolist() == list(CLASSES)
    assert list(rows[0]) == list(table)


def test_all_sets_come_in_turn_and_each_row_once(bench: Bench) -> None:
    found = read_npz(bench.file(bench.run(set="all")))
    expected = [(name, row) for name, count in ROWS.items() for row in range(count)]
    assert list(zip(found["set"].tolist(), found["row"].tolist(), strict=True)) == expected


def test_a_regression_and_rows_without_labels_have_their_own_columns(bench: Bench) -> None:
    bench.registry.add_dataset("prices", classes=(), task="regression")
    bench.registry.add_model("prices-mlp", dataset="prices")
    found = read_npz(bench.file(bench.run(model="prices-mlp", dataset="prices", uncertainty=True)))
    assert set(found) == {"row", "set", "prediction", "actual"}
    assert found["prediction"].shape == found["actual"].shape == (ROWS["report"],)


def test_the_result_names_its_file_and_what_it_was_made_from(bench: Bench) -> None:
    job = bench.run(format="csv")
    result, version = job["result"], bench.client.get("/v1/models/pets-duo/versions/1").json()
    dataset = bench.client.get("/v1/datasets/pets").json()
    assert (result["format"], result["rows"], result["set"]) == ("csv", ROWS["report"], "report")
    assert (result["name"], result["version"], result["digest"]) == ("pets-duo", 1, version["digest"])
    assert (result["dataset"], result["dataset_digest"]) == ("pets", dataset["digest"])
    assert result["size_bytes"] == len(bench.file(job))
    assert job["progress"]["step"] == job["progress"]["total_steps"] == ROWS["report"]
    assert versions_of(bench.services.sessions, job["id"]) == []


def test_a_job_keeps_to_the_version_of_its_submission(bench: Bench) -> None:
    bench.registry.add_ensemble(weights=(0.9, 0.1))
    bench.services.view.refresh()
    job = bench.submit()
    assert bench.client.put("/v1/models/pets-duo/aliases/champion", json={"version": 2}).status_code == 200
    until(bench.supervisor.run_one)
    assert job["spec"]["model"] == "pets-duo/1"
    assert bench.client.get(f"/v1/jobs/{job['id']}").json()["result"]["version"] == 1


def test_an_equal_job_takes_the_file_and_another_does_not(bench: Bench) -> None:
    first = bench.run()
    again = bench.submit(name="another-name")
    assert again["state"] == "succeeded"
    assert again["result"]["sha256"] == first["result"]["sha256"]
    assert again["result"]["url"] != first["result"]["url"]
    assert bench.file(again) == bench.file(first)
    assert bench.submit(set="train")["state"] == bench.submit(reuse=False)["state"] == "queued"


def test_the_same_job_done_twice_gives_the_same_bytes(bench: Bench) -> None:
    for form in ("npz", "csv", "parquet"):
        first, second = (bench.run(reuse=False, format=form)["result"]["sha256"] for _ in range(2))
        assert first == second


def test_a_version_is_not_deleted_under_a_job_that_is_to_ask_it(bench: Bench) -> None:
    bench.registry.add_model("recluse")
    job = bench.submit(model="recluse")
    refused = bench.client.delete("/v1/models/recluse/versions/1")
    assert refused.status_code == 409
    assert job["id"] in refused.json()["detail"]


def test_a_killed_process_begins_anew_and_leaves_one_result(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit()["id"]
    start = bench.supervisor._start

    def start_and_kill(*arguments: Any) -> Any:
        trainer = start(*arguments)
        os.kill(trainer.pid, signal.SIGKILL)
        return trainer

    monkeypatch.setattr(bench.supervisor, "_start", start_and_kill)
    assert until(bench.supervisor.run_one) == "lost"
    monkeypatch.undo()
    until(bench.supervisor.run_one)
    job = bench.client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["attempts"]) == ("succeeded", 2)
    assert [item.outcome for item in read_attempts(bench.services.sessions, job_id)] == ["lost", "succeeded"]
    assert len(read_events(bench.services.sessions, job_id, "done")) == 1


def test_only_the_worker_that_holds_the_job_hands_over_its_file(bench: Bench) -> None:
    sessions = bench.services.sessions
    job_id = bench.submit(reuse=False)["id"]
    job = claim(sessions, new_id(), timing=Timing())
    assert job is not None
    result = PredictionFile(
        format="npz",
        rows=6,
        file=FileRef(sha256="0" * 64, size_bytes=1),
        model="pets-duo",
        version=1,
        digest="1" * 64,
        dataset="pets",
        dataset_digest="2" * 64,
        set="report",
    )
    stale = job.lease._replace(token=job.lease.token - 1)
    assert finish_with_file(sessions, stale, result, end=END).outcome == "fenced"
    assert read_job(sessions, job_id).result_file is None
    assert finish_with_file(sessions, job.lease, result, end=END).outcome == "succeeded"
    assert finish_with_file(sessions, job.lease, result, end=END).outcome == "succeeded"
    assert len(read_events(sessions, job_id, "done")) == 1


def test_a_cancel_is_obeyed_within_a_batch(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "BATCH_ROWS", 2)
    assignment = bench.assignment(tmp_path / "attempt")
    reporter = FakeReporter(tmp_path, stop_after=2, reason="cancel")
    with pytest.raises(Stopped) as stopped:
        predictor.predict_batch(assignment, reporter)
    assert (stopped.value.reason, stopped.value.step) == ("cancel", 2)
    assert reporter.steps == [(0, 6), (2, 6)]


@pytest.mark.parametrize("form", ["csv", "npz", "parquet"])
def test_rows_are_written_chunk_by_chunk(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    whole = predictor.predict_batch(bench.assignment(tmp_path / "a", set="all", format=form), FakeReporter(tmp_path))
    monkeypatch.setattr(predictor, "chunk_rows", lambda _: 5)
    sizes = list[int]()
    describe = predictor.describe_chunk
    monkeypatch.setattr(
        predictor,
        "describe_chunk",
        lambda answers, *a, **k: sizes.append(len(answers.fused)) or describe(answers, *a, **k),
    )
    parts = predictor.predict_batch(bench.assignment(tmp_path / "b", set="all", format=form), FakeReporter(tmp_path))
    assert sizes == [5, 5, 2, 4, 5, 1]
    if form == "parquet":
        assert parquet.ParquetFile(parts.path).num_row_groups == len(sizes)
        assert parquet.read_table(parts.path).equals(parquet.read_table(whole.path))
    else:
        assert parts.path.read_bytes() == whole.path.read_bytes()


def test_the_more_there_is_to_say_of_a_row_the_fewer_are_held(bench: Bench, tmp_path: Path) -> None:
    few = bench.assignment(tmp_path / "few")
    manifest = few.version.manifest.model_copy(update={"classes": tuple(f"class-{place}" for place in range(1000))})
    many = few.model_copy(update={"version": few.version.model_copy(update={"manifest": manifest})})
    assert predictor.chunk_rows(few) == 16_384
    assert predictor.BATCH_ROWS <= predictor.chunk_rows(many) * 8 * 1000 / 1000 < 16_384 * 8
    assert predictor.chunk_rows(many) * 1000 * 8 <= 32 * 2**20


def test_the_process_that_predicts_imports_no_keras() -> None:
    code = "import sys, worker.batch.predictor as p; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(rows=st.lists(st.tuples(texts, floats), min_size=1, max_size=20))
def test_csv_reads_back_as_it_was_written_and_runs_no_formula(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, float]]
) -> None:
    labels = np.array([text for text, _ in rows], dtype="<U12")
    numbers = np.array([number for _, number in rows], dtype=np.float32)
    layout = [Column("label", labels.dtype), Column("prediction", numbers.dtype)]
    folder = tmp_path_factory.mktemp("csv")
    with open_writer("csv", folder / "a.csv", layout, classes=(), scratch=folder) as writer:
        for start in range(0, len(rows), 7):
            writer.write({"label": labels[start : start + 7], "prediction": numbers[start : start + 7]})
    with (folder / "a.csv").open(encoding="utf-8", newline="") as file:
        header, *found = list(csv.reader(file))
    assert header == ["label", "prediction"]
    assert [text for text, _ in found] == [escape_cell(str(text)) for text in labels]
    assert [np.float32(number) for _, number in found] == numbers.tolist()
    assert not any(text.startswith(("=", "+", "-", "@", "\t", "\r")) for text, _ in found)
