"""Log lines are one JSON object each and never show a password."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from app.logging import configure_logging, get_logger, redact


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_our_lines_and_library_lines_share_one_format(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    get_logger("app.here").info("job_finished", job_id="7")
    logging.getLogger("library").warning("slow %s", "query")
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["job_id"], ours["level"], ours["logger"]) == ("job_finished", "7", "info", "app.here")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("slow query", "warning", "library")


def test_a_traceback_shows_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    try:
        int("postgresql+psycopg://lean:s3cret@db:5432/lean")
    except ValueError:
        get_logger("app.here").exception("database_unreachable")
    written = capsys.readouterr().err
    assert "s3cret" not in written
    assert "postgresql+psycopg://***@db:5432/lean" in written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://:p@ss@cache:6379/0", "redis://***@cache:6379/0"),
        ("see https://example.org/a@b", "see https://example.org/a@b"),
        ("two: a://u:p@h and b://u:p@i", "two: a://***@h and b://***@i"),
    ],
)
def test_only_user_and_password_are_hidden(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", level="warning")
    get_logger("app.here").info("quiet")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("level", "heard"), [("info", False), ("debug", True)])
def test_requests_are_logged_one_by_one_only_where_everything_is(level: str, heard: bool) -> None:
    configure_logging("json", level=level)
    assert logging.getLogger("uvicorn.access").hasHandlers() is heard
