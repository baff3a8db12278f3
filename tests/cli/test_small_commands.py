"""Commands against a real API with small models: what they print, what they leave, how they end."""

import json
from pathlib import Path

import pytest
from typer.main import get_command

from app.cli.main import application, main
from tests.cli.conftest import Small


def run(small: Small, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--url", small.url])
    return int(ended.value.code or 0)


def test_every_command_prints_json_if_asked() -> None:
    root = get_command(application)
    without = list[str]()
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        for part, inner in getattr(command, "commands", {"": command}).items():
            if not any("--json" in option.opts for option in inner.params):
                without.append(f"{name} {part}".strip())
    # A worker prints its log and nothing else; LEANFUSE_LOG_FORMAT=json makes that JSON.
    assert without == ["worker"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "ls"),
        ("models", "ls"),
        ("models", "ls", "--kind", "ensemble"),
        ("models", "show", "pets-cnn"),
        ("models", "compare", "--dataset", "pets"),
        ("datasets", "ls"),
        ("datasets", "show", "pets"),
        ("datasets", "rows", "pets", "--limit", "2"),
        ("predict", "pets-cnn", "--dataset", "pets", "--limit", "2"),
    ],
)
def test_what_is_read_prints_one_document_and_says_nothing(
    small: Small, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(small, *arguments, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)
    assert shown.err == ""
    assert run(small, *arguments) == 0
    assert "pets" in capsys.readouterr().out or arguments[:2] in {("datasets", "rows"), ("predict", "pets-cnn")}


def test_an_error_is_a_problem_document_if_json_is_asked(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(small, "models", "show", "nobody", "--json") == 3
    shown = capsys.readouterr()
    problem = json.loads(shown.err)
    assert (shown.out, problem["type"], problem["status"]) == ("", "/problems/model-not-found", 404)
    assert problem["hint"]


def test_a_comparison_is_drawn_with_the_front_in_letters(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(small, "models", "compare", "--plot", "--x", "bytes", "--all") == 0
    picture, _, table = capsys.readouterr().out.partition("└")
    assert "accuracy" in picture
    board = small.client.models.compare(x="bytes", versions="all")
    front = next(entry for entry in board["models"] if entry["pareto"])
    assert "A" in picture
    assert f"A {front['name']}/{front['version']}" in " ".join(table.split())


def test_a_comparison_that_is_piped_is_a_table_alone(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(small, "models", "compare") == 0
    assert "└" not in capsys.readouterr().out


def test_files_of_a_version_are_pulled(small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(small, "models", "pull", "pets-cnn@champion", str(tmp_path / "files")) == 0
    printed = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert printed == {path.name for path in (tmp_path / "files").iterdir()} == {"model.onnx", "report.json"}
    assert run(small, "models", "pull", "pets-cnn/1", str(tmp_path), "--file", "no.such", "--json") == 3
    assert not list(tmp_path.glob("*no.such*"))


def test_an_alias_and_a_version_are_removed(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    small.registry.add_model("pets-old")
    small.client.models.set_alias("pets-old", "old", 1)
    assert run(small, "models", "rm", "pets-old/1", "--yes") == 4
    assert run(small, "models", "unalias", "pets-old", "old") == 0
    assert run(small, "models", "rm", "pets-old/1") == 2, "without --yes and without a terminal nothing is removed"
    assert small.client.models["pets-old/1"].version()["version"] == 1
    capsys.readouterr()
    assert run(small, "models", "rm", "pets-old/1", "--yes", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"model": "pets-old/1", "removed": True}
    assert run(small, "models", "rm", "pets-old/1", "-y") == 3
    assert run(small, "models", "rm", "pets-old", "-y") == 2


def test_a_job_is_cancelled_and_submitted_again(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--dataset", "pets", "--architecture", "mlp", "--name", "pets-again", "-s", "training.batch_size=4")
    assert run(small, "train", *flags, "--json") == 0
    job = json.loads(capsys.readouterr().out)
    assert run(small, "jobs", "retry", job["id"]) == 4
    assert run(small, "jobs", "cancel", job["id"]) == 0
    capsys.readouterr()
    assert run(small, "jobs", "retry", job["id"], "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["id"] != job["id"]
    assert again["spec"] == job["spec"]
    assert run(small, "jobs", "logs", job["id"]) == 0
    assert "done: cancelled" in capsys.readouterr().out
    assert run(small, "jobs", "logs", job["id"], "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["name"] == "done"
    assert run(small, "jobs", "watch", job["id"]) == 1
    small.client.jobs.cancel(again["id"])


def test_jobs_are_listed_by_kind_and_name(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(small, "jobs", "ls", "--kind", "train", "--name", "pets-cnn", "--json") == 0
    jobs = json.loads(capsys.readouterr().out)
    assert jobs
    assert {job["name"] for job in jobs} == {"pets-cnn"}


def test_rows_are_shown_with_their_answers(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(small, "datasets", "rows", "pets", "--set", "train", "--offset", "1", "--limit", "2") == 0
    shown = capsys.readouterr().out
    assert "dog" in shown
    assert "owl" in shown
    assert run(small, "datasets", "rows", "nothing") == 3
