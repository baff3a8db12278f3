"""Commands without a service: usage, exit codes, start-up, what is read from files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.cli import render
from app.cli.main import exit_code_of, main
from app.cli.predict import read_rows
from app.cli.specs import read_spec
from app.domain import errors, job_errors
from app.domain.errors import LeanfuseError

NOWHERE = "http://127.0.0.1:9"


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (job_errors.TrainingDivergedError, 1),
        (job_errors.MethodNotApplicableError, 2),
        (errors.VersionRejectedError, 4),
        (errors.OutOfRangeError, 2),
        (errors.MalformedRequestError, 2),
        (errors.ModelNotFoundError, 3),
        (errors.DatasetNotFoundError, 3),
        (errors.ReferenceNotFoundError, 3),
        (errors.AlreadyExistsError, 4),
        (errors.JobAlreadyFinishedError, 4),
        (errors.PreconditionFailedError, 4),
        (errors.UnreachableError, 5),
        (errors.DatabaseUnavailableError, 5),
    ],
)
def test_an_error_has_the_exit_code_of_its_kind(kind: type[LeanfuseError], code: int) -> None:
    assert exit_code_of(kind("why")) == code


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "ls"),
        ("models", "show", "digits-cnn/3"),
        ("models", "compare", "--limit", "max_bytes=1000"),
        ("models", "promote", "digits-cnn/3", "champion"),
        ("datasets", "add", "digits"),
        ("predict", "digits-cnn", "--dataset", "digits"),
    ],
)
def test_a_service_that_is_not_there_ends_with_5_and_a_hint(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*arguments, "--url", NOWHERE) == 5
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "leanfuse up" in captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("jobs", "show"),
        ("jobs", "ls", "--limit", "0"),
        ("predict", "digits-cnn", "--url", NOWHERE),
        ("datasets", "add", "rows.csv", "-o", "no-value", "--url", NOWHERE),
        ("jobs", "submit", "/no/such/file.json"),
        ("up", "--port", "70000"),
        ("demo", "--dataset", "cifar10"),
        ("models", "show", "Not A Name", "--url", NOWHERE),
        ("models", "compare", "--limit", "max_bytes", "--url", NOWHERE),
    ],
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*arguments) == 2
    assert capsys.readouterr().err


def test_help_ends_well_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("up", "demo", "jobs", "models", "datasets", "predict", "doctor", "db"))


HEAVY = {"fastapi", "sqlalchemy", "tensorflow", "keras", "onnxruntime", "onnx", "celery", "numpy", "pydantic_settings"}
TALKING = {"httpx", "rich"}


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (("--help",), HEAVY | TALKING),
        (("--version",), HEAVY | TALKING),
        (("jobs", "--help"), HEAVY | TALKING),
        (("train", "--help"), HEAVY | TALKING),
        (("export", "--help"), HEAVY | TALKING),
        (("jobs", "ls", "--url", NOWHERE), HEAVY),
        (("models", "compare", "--url", NOWHERE), HEAVY),
        (("export", "digits-cnn", "/tmp/no-such-folder", "--url", NOWHERE), HEAVY),
    ],
    ids=" ".join,
)
def test_a_command_loads_no_library_that_it_does_not_need(arguments: tuple[str, ...], unwanted: set[str]) -> None:
    script = (
        "import sys\nfrom app.cli.main import main\n"
        f"try:\n    main({list(arguments)})\nexcept SystemExit:\n    pass\n"
        "print(','.join(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(ended.stdout.splitlines()[-1].split(","))
    assert loaded & unwanted == set()


def test_a_spec_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text('{"kind": "train"}', encoding="utf-8")
    assert read_spec(file) == {"kind": "train"}


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"text"', "nonsense"])
def test_a_broken_spec_ends_with_2_before_anything_is_sent(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.json"
    file.write_text(text, encoding="utf-8")
    assert exit_code("jobs", "submit", str(file), "--url", NOWHERE) == 2
    assert "job spec is one JSON object" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[[1, 2], [3, 4]]", '{"instances": [[1, 2], [3, 4]]}'])
def test_rows_are_read_from_json(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rows.json"
    file.write_text(text, encoding="utf-8")
    assert read_rows(file) == [[1, 2], [3, 4]]


def test_rows_are_read_from_an_array_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.npy"
    np.save(file, np.array([[1.0, 2.0]]))
    assert read_rows(file) == [[1.0, 2.0]]


def test_an_array_file_of_pickled_objects_is_never_loaded(tmp_path: Path) -> None:
    file = tmp_path / "rows.npy"
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert exit_code("predict", "digits-cnn", str(file), "--url", NOWHERE) == 2


def test_a_taken_port_is_told_in_one_line_and_nothing_is_left_running(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "app.cli.main", "up", "--home", str(tmp_path)]
        ended = subprocess.run(
            [*command, "--port", str(taken.getsockname()[1])], capture_output=True, text=True, check=False, timeout=60
        )
    assert ended.returncode == 4
    assert "cannot be listened on" in ended.stderr
    assert "--port" in ended.stderr


def test_doctor_finds_nothing_wrong_on_an_embedded_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEANFUSE_HOME", str(tmp_path))
    assert exit_code("db", "upgrade") == 0
    assert exit_code("doctor", "--json") == 0
    checks = json.loads(capsys.readouterr().out)
    assert {"python", "home", "store", "database", "broker", "backend", "accelerator"} <= set(checks)
    assert "newest schema" in checks["database"]["detail"]


def test_doctor_says_what_is_wrong_without_telling_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEANFUSE_HOME", str(tmp_path))
    monkeypatch.setenv("LEANFUSE_BROKER_URL", "redis://:secret@127.0.0.1:9/0")
    assert exit_code("doctor", "--json") == 1
    printed = capsys.readouterr().out
    assert json.loads(printed)["broker"]["ok"] is False
    assert "secret" not in printed


def test_errors_print_their_fields_and_hint_and_no_markup_of_the_sender(capsys: pytest.CaptureFixture[str]) -> None:
    field = errors.FieldError("/training/epochs", "must be [1, 10000]", "out-of-range")
    render.print_error(errors.OutOfRangeError("epochs is [bold]-1[/bold]", hint="Use 1 or more.", errors=[field]))
    shown = capsys.readouterr().err
    assert "/training/epochs: must be [1, 10000]" in shown
    assert "[bold]-1[/bold]" in shown
    assert "Use 1 or more." in shown


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_686_568, "1.7 MB"), (5e9, "5.0 GB")]
)
def test_sizes_are_written_with_a_unit(count: float, text: str) -> None:
    assert render.size(count) == text


def test_shares_are_written_with_their_interval() -> None:
    assert render.with_interval(0.975, [0.95, 0.99]) == "97.5 [95.0, 99.0]"
    assert render.with_interval(None, None) == ""
