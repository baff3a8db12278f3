"""What a watch shows: how far, how long, which way the metric goes."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from app.cli.follow import Watcher, clock
from app.cli.render import event_line
from app.client import Event


def progress(step: int, total: int, **told: object) -> Event:
    return Event("", "progress", {"step": step, "total_steps": total, **told})


def metric(epoch: int, **values: float) -> Event:
    return Event("", "metric", {"epoch": epoch, "values": values})


def ticking(*seconds: float) -> Iterator[float]:
    yield from seconds


def test_the_time_that_is_left_is_the_servers() -> None:
    news = Watcher("train").notice(progress(10, 100, remaining_seconds=42.5))
    assert (news.step, news.total_steps, news.remaining_seconds) == (10, 100, 42.5)
    assert Watcher("train").notice(progress(1, 9, remaining_seconds=None)).remaining_seconds is None


def test_of_an_older_server_it_follows_from_the_pace() -> None:
    times = ticking(100.0, 110.0)
    watcher = Watcher("train", now=lambda: next(times))
    assert watcher.notice(progress(0, 100)).remaining_seconds is None
    assert watcher.notice(progress(20, 100)).remaining_seconds == pytest.approx(10.0 / 20 * 80)


def test_the_course_is_that_of_the_selection_accuracy() -> None:
    watcher = Watcher("train")
    for epoch, accuracy in enumerate((0.1, 0.5, 0.9)):
        news = watcher.notice(metric(epoch, loss=3.0 - epoch, selection_accuracy=accuracy))
    assert len(news.course) == 3
    assert news.course[0] < news.course[1] < news.course[2]
    assert "selection_accuracy 0.9" in news.text


def test_a_regression_shows_the_course_of_its_loss() -> None:
    watcher = Watcher("train")
    for epoch, loss in enumerate((3.0, 1.0)):
        news = watcher.notice(metric(epoch, loss=9.0, selection_loss=loss))
    assert news.course == "█▁"


def test_what_a_job_says_is_shown_and_progress_keeps_it() -> None:
    watcher = Watcher("optimize prune")
    assert watcher.news.text == "optimize prune"
    assert watcher.notice(Event("", "log", {"text": "round 1 of 2"})).text == "round 1 of 2"
    assert watcher.notice(progress(1, 2)).text == "round 1 of 2"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (7, "0:07"), (125, "2:05"), (3600, "1:00:00")])
def test_times_are_written_as_a_clock_does(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_lines_of_a_log_have_a_time() -> None:
    at = "2026-11-28T02:17:14.5Z"
    assert event_line("log", {"text": "one member is reused", "at": at}) == "02:17:14 one member is reused"
    assert event_line("done", {"state": "succeeded", "at": at}) == "02:17:14 done: succeeded"
    assert event_line("metric", {"epoch": 3, "values": {"loss": 0.25}, "at": at}) == "02:17:14 epoch 3: loss 0.25"
    assert event_line("progress", {"step": 1, "at": at}) == ""


SCRIPT = """
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.executable, [sys.executable, "-c", "from app.cli.render import is_animated; print(is_animated())"])
print(os.read(terminal, 100).decode().strip())
os.waitpid(pid, 0)
"""


@pytest.mark.parametrize(
    ("environment", "animated"),
    [({}, "True"), ({"NO_COLOR": "1"}, "False"), ({"TERM": "dumb"}, "False")],
    ids=["terminal", "NO_COLOR", "dumb"],
)
def test_nothing_moves_where_it_should_not(environment: dict[str, str], animated: str) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "TERM", "FORCE_COLOR"}}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**clean, "TERM": "xterm", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout.strip() == animated
