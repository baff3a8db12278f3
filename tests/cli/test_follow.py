"""What a watch shows: how far, how long, which way the metric goes."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.progress import Progress

from app.cli.follow import Bar, Lines, News, Watcher, bars
from app.cli.render import clock, event_line, progress_text
from app.client import Client, Event, Job


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


def test_a_list_of_jobs_tells_the_time_that_is_left() -> None:
    progress = {"step": 45, "total_steps": 100}
    assert progress_text({"progress": progress | {"remaining_seconds": 125.0}}) == "45 %, 2:05 left"
    assert progress_text({"progress": progress | {"remaining_seconds": None}}) == "45 %"
    assert progress_text({"progress": {"step": 0, "total_steps": None}}) == ""


def test_lines_of_a_log_have_a_time() -> None:
    at = "2026-11-28T02:17:14.5Z"
    assert event_line("log", {"text": "one member is reused", "at": at}) == "02:17:14 one member is reused"
    assert event_line("done", {"state": "succeeded", "at": at}) == "02:17:14 done: succeeded"
    assert event_line("metric", {"epoch": 3, "values": {"loss": 0.25}, "at": at}) == "02:17:14 epoch 3: loss 0.25"
    assert event_line("progress", {"step": 1, "at": at}) == ""


def drawn(progress: Progress) -> str:
    """Return what a display of bars shows now."""
    screen = Console(file=io.StringIO(), width=150, force_terminal=True, color_system=None)
    with screen.capture() as captured:
        screen.print(progress)
    return captured.get()


def test_a_bar_shows_how_far_how_long_and_the_course() -> None:
    progress = bars(Console(file=io.StringIO(), width=150))
    bar = Bar(progress, job_of("running"))
    assert "digits-cnn" in drawn(progress)
    bar.update(News(45, 100, 125.0, "selection_accuracy 0.978", "▁▅█"))
    assert all(part in drawn(progress) for part in ("━", " 45 %", "2:05 left", "▁▅█", "selection_accuracy 0.978"))
    bar.end("succeeded")
    ended = drawn(progress)
    assert "100 %" in ended
    assert "succeeded" in ended
    assert "left" not in ended


def test_the_bar_of_a_job_that_failed_stays_where_it_was() -> None:
    progress = bars(Console(file=io.StringIO(), width=150))
    bar = Bar(progress, job_of("running"))
    bar.update(News(30, 100))
    bar.end("failed")
    assert " 30 %" in drawn(progress)
    assert "failed" in drawn(progress)


def test_lines_tell_how_a_job_begins_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(job_of("running"))
    lines.end("succeeded")
    told = capsys.readouterr().err
    assert "digits-cnn: started (optimize prune)" in told
    assert "digits-cnn: succeeded after" in told


def job_of(state: str) -> Job:
    document = {"id": "7", "name": "digits-cnn", "kind": "optimize", "method": "prune", "state": state}
    return Job(document, Client("http://leanfuse.test").jobs)


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
