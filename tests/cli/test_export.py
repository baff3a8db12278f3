"""An exported folder explains the model and runs without Leanfuse."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.cli.card import Subject, model_card
from app.cli.export import _write_plot
from app.cli.main import main
from app.client import Client
from tests.api.builders import SHAPE
from tests.cli.conftest import Small

SECTIONS = ("Model details", "Intended use", "Data", "Metrics", "Comparisons", "Size and speed", "Lineage", "Limits")


def export(small: Small, reference: str, folder: Path, *options: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["export", reference, str(folder), *options, "--url", small.url])
    return int(ended.value.code or 0)


def run_alone(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the exported script by itself: nothing of Leanfuse can be imported there."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    guard = (
        "import sys, runpy\n"
        "class Guard:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'app', 'worker', 'onnx', 'httpx', 'pydantic', 'typer'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Guard())\n"
        "sys.argv = ['predict.py', *sys.argv[1:]]\n"
        "runpy.run_path('predict.py', run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", guard, *arguments],
        cwd=folder,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("reference", ["pets-cnn@champion", "pets-duo", "prices-mlp"])
def test_the_exported_script_answers_as_the_service_does(small: Small, tmp_path: Path, reference: str) -> None:
    folder = tmp_path / "exported"
    assert export(small, reference, folder) == 0
    rows = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    ended = run_alone(folder, str(tmp_path / "rows.npy"))
    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    alone = [answer.get("probabilities", [answer.get("prediction")]) for answer in answers]
    model = small.client.models[reference]
    np.testing.assert_allclose(alone, model.predict(rows), atol=1e-5)
    if "label" in answers[0]:
        assert [answer["label"] for answer in answers] == model.labels(rows)
    piped = run_alone(folder, "-", stdin=json.dumps(rows.tolist()))
    assert piped.stdout == ended.stdout


def test_rows_of_a_wrong_shape_are_told(small: Small, tmp_path: Path) -> None:
    assert export(small, "pets-cnn", tmp_path / "exported") == 0
    ended = run_alone(tmp_path / "exported", "-", stdin="[[1, 2, 3]]")
    assert (ended.returncode, "the model takes [2, 2, 1]" in ended.stderr) == (1, True)


def test_the_card_has_the_sections_of_a_model_card(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.client.models.describe("pets-cnn", "Tells cats from dogs and owls.")
    folder = tmp_path / "exported"
    assert export(small, "pets-cnn/2", folder, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == "pets-cnn/2"
    assert {Path(path).name for path in told["files"]} >= {"README.md", "model.onnx", "predict.py", "model.json"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert [name for name in SECTIONS if f"\n## {name}\n" not in card] == []
    version = small.client.models.version("pets-cnn", 2)
    for shown in ("Tells cats", "cat, dog, owl", version["digest"], "no difference shown", "python predict.py"):
        assert shown in card
    for target in re.findall(r"\]\(([^)]+)\)", card):
        assert (folder / target).is_file()


def test_a_folder_with_files_is_left_alone_unless_forced(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert export(small, "pets-cnn", tmp_path) == 4
    assert "--force" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt"}
    assert export(small, "pets-cnn", tmp_path, "--force") == 0
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "README.md").is_file()


def test_a_model_that_is_not_there_leaves_no_folder(small: Small, tmp_path: Path) -> None:
    assert export(small, "nobody", tmp_path / "exported") == 3
    assert not (tmp_path / "exported").exists()


def drawing(request: httpx.Request) -> httpx.Response:
    """Answer as a service that draws plots."""
    if request.url.path.endswith("/plots"):
        return httpx.Response(200, json={"plots": [{"name": "confusion", "title": "Confusion", "svg": "", "png": ""}]})
    if request.url.path.endswith("/plots/confusion.svg"):
        return httpx.Response(200, text="<svg/>")
    if request.url.path.endswith("/plots/confusion.png"):
        return httpx.Response(200, content=b"\x89PNG")
    return httpx.Response(404, json={"type": "/problems/not-found", "status": 404, "detail": "no such plot"})


def test_plots_are_saved_in_both_forms(tmp_path: Path) -> None:
    with Client("http://leanfuse.test", transport=httpx.MockTransport(drawing)) as client:
        (plot,) = client.models["pets/3"].plots()
        assert _write_plot(client, "pets/3", plot, tmp_path / "plots")
        assert not _write_plot(client, "pets/3", {**plot, "name": "missing"}, tmp_path / "plots")
    assert (tmp_path / "plots" / "confusion.svg").read_text(encoding="utf-8") == "<svg/>"
    assert (tmp_path / "plots" / "confusion.png").read_bytes() == b"\x89PNG"


def test_a_service_that_draws_no_plots_has_none(small: Small) -> None:
    answered = small.client.models["pets-cnn"].plots()
    assert isinstance(answered, list)
    with Client("http://leanfuse.test", transport=httpx.MockTransport(lambda _: httpx.Response(404, json={}))) as old:
        assert old.models["pets/3"].plots() == []


def subject(small: Small, **report: Any) -> Subject:
    model = small.client.models["pets-cnn/1"]
    return Subject(model.version(), "", {**model.report(), **report}, model.lineage(), None, [])  # type: ignore[typeddict-item]


def test_a_rejected_version_says_so_first(small: Small) -> None:
    told = subject(small)
    rejected = told._replace(version={**told.version, "rejected": "2 points worse."})
    card = model_card(rejected)
    assert "**Rejected** by its gate: 2 points worse. It" in card
    assert "It failed its gate: 2 points worse.\n" in card


def test_figures_by_class_the_gate_and_times_are_told(small: Small) -> None:
    by_class = [{"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 4}]
    speed = {"against": "its parent", "verdict_batch_1": "faster", "ratio_batch_1": 1.5}
    card = model_card(
        subject(small, quality={"by_class": by_class}, gate={"passed": True, "lower_bound": -0.2}, speed=speed)
    )
    assert "| cat | 0.5 | 0.25 | 0.3333 | 4 |" in card
    assert "Gate: passed, lower bound -0.2." in card
    assert "faster, 1.50 times the speed of its parent" in card


def test_text_of_users_breaks_no_table(small: Small) -> None:
    told = subject(small)
    card = model_card(told._replace(version={**told.version, "tags": {"team": "a|b\nc"}}))
    assert "| tags | team: a\\|b c |" in card


def test_plots_are_shown_by_their_files(small: Small) -> None:
    plot: Any = {"name": "confusion", "title": "Confusion", "svg": "", "png": ""}
    assert "![Confusion](plots/confusion.svg)" in model_card(subject(small)._replace(plots=[plot]))
