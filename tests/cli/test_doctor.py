"""What `leanfuse doctor` finds, and what it says to do."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.cli import doctor
from app.cli.main import main
from tests.cli.conftest import Small

FIXES = {"database": "leanfuse db upgrade", "broker": "LEANFUSE_BROKER_URL", "store": "LEANFUSE_STORE_URL"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty home, with a service that is away."""
    monkeypatch.setenv("LEANFUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LEANFUSE_URL", "http://127.0.0.1:9")
    return tmp_path / "home"


def examined(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json", *arguments])
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)


def wrong(checks: dict[str, Any]) -> set[str]:
    return {name for name, found in checks.items() if not found["ok"]}


def test_a_missing_database_is_found_and_not_made(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = examined(capsys)
    assert (code, wrong(checks)) == (1, {"database"})
    assert FIXES["database"] in checks["database"]["hint"]
    assert not (home / "leanfuse.db").exists()


@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [
        ("LEANFUSE_DATABASE_URL", "postgresql://user:secret@127.0.0.1:9/leanfuse", "database"),
        ("LEANFUSE_BROKER_URL", "redis://:secret@127.0.0.1:9/0", "broker"),
        ("LEANFUSE_STORE_URL", "ftp://user:secret@127.0.0.1/store", "store"),
    ],
)
def test_what_does_not_answer_is_found_and_no_password_is_told(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    check: str,
) -> None:
    monkeypatch.setenv(variable, value)
    code, checks = examined(capsys)
    assert code == 1
    assert check in wrong(checks)
    assert variable in checks[check]["hint"]
    assert "secret" not in json.dumps(checks)


def test_a_gpu_that_a_slot_asks_for_and_that_is_not_there_is_found(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert examined(capsys)[1]["accelerator"]["ok"]
    monkeypatch.setenv("LEANFUSE_WORKER__DEVICES", '["0"]')
    found = examined(capsys)[1]["accelerator"]
    assert (found["ok"], "driver" in found["hint"]) == (False, True)


def test_a_gpu_that_is_there_is_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = examined(capsys)[1]["accelerator"]
    assert (found["ok"], found["detail"]) == (True, "GPU 0: NVIDIA H100")


def test_a_full_disk_is_found() -> None:
    found = doctor._room(Path("/home"), 100 * 2**20)
    assert (found.ok, "100 MiB" in found.detail, "LEANFUSE_HOME" in found.hint) == (False, True, True)
    assert doctor._room(Path("/home"), 5 * 2**30).ok


@pytest.mark.parametrize(
    ("requirement", "told"),
    [
        ("numpy>=2.2", ""),
        ("numpy>=99.1", "is older than 99.1"),
        ("psycopg[binary]>=99", "is older than 99"),
        ("no-such-package>=1", "no-such-package is not installed"),
        ("no-such-package>=1; extra == 'worker'", ""),
        ("numpy", ""),
    ],
)
def test_a_package_that_is_too_old_is_found(requirement: str, told: str) -> None:
    found = doctor.mismatch_of(requirement)
    assert told in found
    assert bool(found) == bool(told)


def test_all_requirements_of_this_release_are_met() -> None:
    assert doctor._check_packages(None).ok  # type: ignore[arg-type] - it looks at no settings


def test_a_service_that_runs_is_asked_for_its_version(
    home: Path, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    found = examined(capsys, "--url", small.url)[1]["service"]
    assert (found["ok"], small.url in found["detail"]) == (True, True)


def test_people_read_what_to_do(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor"])
    shown = capsys.readouterr().out
    assert "what to do: Run `leanfuse db upgrade`" in shown
