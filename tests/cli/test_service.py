"""Commands against a real service, in the order in which a user would type them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from app.cli.stack import free_port, wait_until_ready

SPEC = {
    "kind": "train",
    "name": "digits-mlp",
    "dataset": "digits",
    "alias": "champion",
    "architecture": {"type": "mlp", "hidden": [16]},
    "training": {"epochs": 2},
}


def leanfuse(url: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli.main", *arguments],
        env={**os.environ, "LEANFUSE_URL": url},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


@pytest.fixture(scope="module", name="url")
def service_with_a_model(service: str) -> str:
    """A service with the digits and one model, added with the command line."""
    added = leanfuse(service, "datasets", "add", "digits", "--json")
    assert added.returncode == 0, added.stderr
    trained = leanfuse(service, "jobs", "submit", "-", "--watch", stdin=json.dumps(SPEC))
    assert trained.returncode == 0, trained.stderr
    assert "digits-mlp/1" in trained.stdout
    assert "succeeded" in trained.stderr
    return service


def trained_job(url: str) -> dict[str, Any]:
    """Return the job that made the model."""
    jobs = json.loads(leanfuse(url, "jobs", "ls", "--json").stdout)
    found: dict[str, Any] = next(job for job in jobs if job["result"]["name"] == "digits-mlp")
    return found


def test_lists_can_be_piped_as_json(url: str) -> None:
    assert [dataset["name"] for dataset in json.loads(leanfuse(url, "datasets", "ls", "--json").stdout)] == ["digits"]
    jobs = json.loads(leanfuse(url, "jobs", "ls", "--state", "succeeded", "--json").stdout)
    assert "digits-mlp" in {job["result"]["name"] for job in jobs}
    models = {model["name"]: model for model in json.loads(leanfuse(url, "models", "ls", "--json").stdout)}
    assert models["digits-mlp"]["aliases"] == {"champion": 1}


def test_a_model_of_scikit_learn_is_imported(url: str, tmp_path: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    trees = RandomForestClassifier(5, max_depth=6, random_state=0).fit(images, labels)
    (tmp_path / "trees.onnx").write_bytes(to_onnx(trees, images[:1]).SerializeToString())
    file, options = str(tmp_path / "trees.onnx"), ["--dataset", "digits", "-o", "alias=champion"]
    done = leanfuse(url, "models", "import", file, "--name", "digits-trees", *options)
    assert done.returncode == 0, done.stderr
    assert "digits-trees/1" in done.stdout
    assert "import" in leanfuse(url, "models", "show", "digits-trees@champion").stdout
    (tmp_path / "trees.pkl").write_bytes(b"anything")
    refused = leanfuse(url, "models", "import", str(tmp_path / "trees.pkl"), "--name", "pickled", *options)
    assert (refused.returncode, "skl2onnx" in refused.stderr) == (2, True)


def test_tables_name_what_the_other_commands_take(url: str) -> None:
    job = trained_job(url)
    assert job["id"] in leanfuse(url, "jobs", "ls").stdout
    assert "digits-mlp" in leanfuse(url, "jobs", "show", job["id"]).stdout
    assert "digits" in leanfuse(url, "datasets", "ls").stdout
    assert "champion" in leanfuse(url, "models", "ls").stdout


@pytest.mark.parametrize("reference", ["digits-mlp", "digits-mlp/1", "digits-mlp@champion"])
def test_a_model_is_shown_by_name_version_or_alias(url: str, reference: str) -> None:
    shown = leanfuse(url, "models", "show", reference)
    assert shown.returncode == 0
    assert "digits-mlp/1" in shown.stdout
    assert "verdict" in shown.stdout


def test_models_are_compared_within_limits(url: str) -> None:
    shown = leanfuse(url, "models", "compare", "--dataset", "digits", "--x", "bytes", "--limit", "max_bytes=1")
    assert "A digits-" in " ".join(shown.stdout.split())
    assert "best within max_bytes=1" in shown.stdout
    assert "nearest" in shown.stdout
    board = json.loads(leanfuse(url, "models", "compare", "--limit", "min_accuracy=0.01", "--json").stdout)
    assert board["best"]["name"] in {"digits-mlp", "digits-trees"}
    wrong = leanfuse(url, "models", "compare", "--limit", "max_byte=1")
    assert (wrong.returncode, "max_bytes" in wrong.stderr) == (2, True)


def test_a_version_is_promoted(url: str) -> None:
    promoted = leanfuse(url, "models", "promote", "digits-mlp/1", "challenger", "--json")
    assert json.loads(promoted.stdout)["aliases"] == ["challenger", "champion"]
    assert "challenger" in leanfuse(url, "models", "promote", "digits-mlp", "challenger").stdout
    for refused in (
        ("promote", "digits-mlp/1", "challenger", "--require", "max_drop=0.01"),
        ("rollout", "digits-mlp/1", "challenger", "--shadow"),
        ("rollback", "digits-mlp", "challenger"),
    ):
        assert leanfuse(url, "models", *refused).returncode == 4
    assert leanfuse(url, "models", "promote", "digits-mlp/1", "challenger", "--require", "fast").returncode == 2


def test_a_finished_job_replays_its_events_as_json_lines(url: str) -> None:
    job = trained_job(url)
    lines = leanfuse(url, "jobs", "watch", job["id"], "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert events[-1]["name"] == "done"
    assert "metric" in {event["name"] for event in events}


def test_rows_of_a_file_and_of_a_data_set_are_predicted(url: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.npy"
    np.save(file, np.zeros((2, 8, 8, 1)))
    assert len(leanfuse(url, "predict", "digits-mlp@champion", str(file)).stdout.splitlines()) == 2
    answer = json.loads(leanfuse(url, "predict", "digits-mlp", "--dataset", "digits", "--limit", "3", "--json").stdout)
    assert len(answer["predictions"]) == 3


def test_a_wrong_spec_ends_with_2_and_the_field(url: str) -> None:
    wrong = {**SPEC, "training": {"epochs": -1}}
    ended = leanfuse(url, "jobs", "submit", "-", stdin=json.dumps(wrong))
    assert ended.returncode == 2
    assert "epochs" in ended.stderr


def test_a_spec_is_checked_without_a_job(url: str) -> None:
    ended = leanfuse(url, "jobs", "submit", "-", "--check", stdin=json.dumps(SPEC))
    assert json.loads(ended.stdout)["parameters"] == 64 * 16 + 16 + 16 * 10 + 10


def test_what_is_not_there_ends_with_3(url: str) -> None:
    assert leanfuse(url, "models", "show", "nobody").returncode == 3
    assert leanfuse(url, "jobs", "submit", "-", stdin=json.dumps({**SPEC, "dataset": "nothing"})).returncode == 3


def test_a_cancelled_job_ends_a_watch_with_1_and_cannot_be_cancelled_again(url: str) -> None:
    long = {**SPEC, "name": "digits-long", "training": {"epochs": 10_000}}
    job = json.loads(leanfuse(url, "jobs", "submit", "-", "--json", stdin=json.dumps(long)).stdout)
    assert leanfuse(url, "jobs", "cancel", job["id"]).returncode == 0
    watched = leanfuse(url, "jobs", "watch", job["id"])
    assert watched.returncode == 1
    assert "cancelled" in watched.stdout
    assert leanfuse(url, "jobs", "cancel", job["id"]).returncode == 4


def test_an_interrupted_watch_leaves_the_job_running_and_says_how_to_go_on(url: str) -> None:
    long = {**SPEC, "name": "digits-watched", "training": {"epochs": 10_000}}
    job = json.loads(leanfuse(url, "jobs", "submit", "-", "--json", stdin=json.dumps(long)).stdout)
    command = [sys.executable, "-m", "app.cli.main", "jobs", "watch", job["id"], "--url", url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watch:
        assert watch.stderr is not None
        first = watch.stderr.readline()
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 130
        assert "digits-watched" in first
        assert f"leanfuse jobs watch {job['id']}" in watch.stderr.read()
    state = json.loads(leanfuse(url, "jobs", "show", job["id"], "--json").stdout)["state"]
    assert state in {"queued", "running"}
    assert leanfuse(url, "jobs", "cancel", job["id"]).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_ends_its_worker_with_itself(tmp_path: Path, number: signal.Signals) -> None:
    process, worker = _up(tmp_path)
    process.send_signal(number)
    assert process.wait(60) == 0
    assert _gone(worker)


def test_serve_and_worker_are_the_halves_of_up(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app.cli.main"]
    environment = {**os.environ, "LEANFUSE_LOG_FORMAT": "json", "LEANFUSE_WORKER__WARM": "false"}
    with (tmp_path / "log").open("wb") as log:
        serve = subprocess.Popen(
            [*command, "serve", "--port", "0", "--home", str(tmp_path), "--json"], stdout=subprocess.PIPE, stderr=log
        )
        assert serve.stdout is not None
        told = json.loads(serve.stdout.readline())
        wait_until_ready(told["url"], serve, log=tmp_path / "log")
        worker = subprocess.Popen([*command, "worker", "--home", str(tmp_path)], env=environment, stderr=log)
    assert told["pid"] == serve.pid
    (started,) = _started(tmp_path / "log")
    assert started["pid"] == worker.pid, "the worker takes the place of the command, so that signals reach it"
    for process in (worker, serve):
        process.terminate()
        assert process.wait(60) == 0
    serve.stdout.close()


def _started(log: Path) -> list[dict[str, Any]]:
    assert _eventually(lambda: '"host_started"' in log.read_text(encoding="utf-8"), seconds=60)
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if '"host_started"' in line]


def test_a_killed_up_leaves_no_worker_behind(tmp_path: Path) -> None:
    process, worker = _up(tmp_path)
    process.kill()
    process.wait(10)
    assert _gone(worker)


def test_a_terminated_demo_leaves_nothing_running(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app.cli.main", "demo"]
    with (tmp_path / "log").open("wb") as log:
        demo = subprocess.Popen(command, cwd=tmp_path, stderr=log)
    assert _eventually(lambda: "demo-cnn" in (tmp_path / "log").read_text(encoding="utf-8"), seconds=60)
    (started,) = (line for line in _service_log(tmp_path) if line.get("event") == "host_started")
    demo.terminate()
    assert demo.wait(60) == 130
    assert _gone(int(started["pid"]))


def _service_log(directory: Path) -> list[dict[str, object]]:
    log = directory / ".leanfuse" / "demo" / "service.log"
    assert _eventually(lambda: '"host_started"' in log.read_text(encoding="utf-8"), seconds=60)
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]


def _eventually(holds: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False


def _up(home: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start `leanfuse up`, and return it with the process id of its worker host once both run."""
    port = free_port()
    command = [sys.executable, "-m", "app.cli.main", "up", "--port", str(port), "--home", str(home)]
    environment = {**os.environ, "LEANFUSE_LOG_FORMAT": "json", "LEANFUSE_WORKER__WARM": "false"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stderr=log)
    started = _started(home / "log")[0]
    wait_until_ready(f"http://127.0.0.1:{port}", process, log=home / "log")  # its worker may start before it listens
    return process, int(started["pid"])


def _gone(pid: int) -> bool:
    def is_gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    return _eventually(is_gone, seconds=30)


def test_the_examples_of_the_client_page_run_in_order(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(examples) >= 8
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example.replace("http://127.0.0.1:8000", url), "client.md", "exec"), names)
    assert "succeeded digits-mlp/" in capsys.readouterr().out
    assert (tmp_path / "model.onnx").is_file()
