"""Follow jobs live: a progress bar for each on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import typer

from app.cli.charts import sparkline
from app.cli.render import console, is_animated, job_kind, job_name, print_job, print_json, say
from app.client import Client, Event, Job

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_SECONDS = 5.0
FAILED = 1
SHOWN_METRICS = ("selection_accuracy", "accuracy", "selection_loss", "loss")


class News(NamedTuple):
    """Say how far a job is, how long it will take, and what its newest figures are."""

    step: int = 0
    total_steps: int = 0
    remaining_seconds: float | None = None
    text: str = ""
    course: str = ""


class Display(Protocol):
    """Show what happens to one job."""

    def update(self, news: News) -> None:
        """Show progress and the newest figures."""

    def end(self, state: str) -> None:
        """Show how the job ended."""


class Bar:
    """One bar of a Rich progress display."""

    def __init__(self, progress: "Progress", job: Job) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task(job_name(job), total=None, text=job_kind(job), left="", course="")

    def update(self, news: News) -> None:
        """Move the bar."""
        self._progress.update(
            self._task,
            completed=news.step,
            total=news.total_steps or None,
            text=news.text,
            course=news.course,
            left="" if news.remaining_seconds is None else f"{clock(news.remaining_seconds)} left",
        )

    def end(self, state: str) -> None:
        """Fill the bar of a job that succeeded."""
        task = self._progress.tasks[self._task]
        total = task.total or 1
        completed = total if state == "succeeded" else task.completed
        self._progress.update(self._task, total=total, completed=completed, text=state, left="")


class Lines:
    """A line every few seconds, for logs and pipes."""

    def __init__(self, job: Job) -> None:
        self._name, self._started, self._told = job_name(job), time.monotonic(), time.monotonic()
        self._print(f"started ({job_kind(job)})")

    def update(self, news: News) -> None:
        """Tell the progress, at most every five seconds."""
        if time.monotonic() - self._told >= PLAIN_SECONDS and news.total_steps:
            self._told = time.monotonic()
            left = "" if news.remaining_seconds is None else f"{clock(news.remaining_seconds)} left  "
            self._print(f"{100 * news.step / news.total_steps:3.0f} %  {left}{news.text}")

    def end(self, state: str) -> None:
        """Tell the outcome and the time it took."""
        self._print(f"{state} after {time.monotonic() - self._started:.1f} s")

    def _print(self, text: str) -> None:
        console(stderr=True).print(f"{self._name}: {text}", markup=False)


class Watcher:
    """Turn a job's events into news; `now` is the clock by which the time that is left is estimated."""

    def __init__(self, kind: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self.news = News(text=kind)
        self._now = now
        self._first: tuple[float, int] | None = None
        self._courses: dict[str, list[float]] = {}

    def notice(self, event: Event) -> News:
        """Return the news after one more event."""
        if event.name == "progress":
            step, total = int(event.data.get("step") or 0), int(event.data.get("total_steps") or 0)
            left = self._remaining_seconds(event, step, total)
            self.news = self.news._replace(step=step, total_steps=total, remaining_seconds=left)
        elif event.name == "metric":
            self.news = self.news._replace(text=_figures(event), course=self._course(event))
        else:
            self.news = self.news._replace(text=_told(event) or self.news.text)
        return self.news

    def _remaining_seconds(self, event: Event, step: int, total: int) -> float | None:
        """Take the server's word; of one that says nothing, expect the pace since the first step that was seen."""
        if "remaining_seconds" in event.data:
            left = event.data["remaining_seconds"]
            return None if left is None else float(left)
        if self._first is None:
            self._first = (self._now(), step)
        started, first = self._first
        return (self._now() - started) / (step - first) * (total - step) if step > first else None

    def _course(self, event: Event) -> str:
        values = _values(event)
        name = next((name for name in SHOWN_METRICS if name in values), None)
        if name is None:
            return self.news.course
        self._courses.setdefault(name, []).append(values[name])
        return sparkline(self._courses[name])


def follow_jobs(client: Client, job_ids: Sequence[str]) -> list[Job]:
    """Show the progress of jobs until each is done, and return them in order."""
    live, make = _display()
    with live:
        followed = [_in_background(partial(_follow, client, job_id, make)) for job_id in job_ids]
        return [future.result() for future in followed]


def watch_job(client: Client, job_id: str, *, json_output: bool) -> None:
    """Follow a job until it ends, print it, and leave with 1 unless it succeeded."""
    try:
        if json_output:
            for event in client.jobs.events(job_id):
                print_json(event._asdict())
        else:
            follow_jobs(client, [job_id])
    except KeyboardInterrupt:
        say(f"The job goes on. Follow it again: leanfuse jobs watch {job_id}")
        raise
    job = client.jobs.get(job_id)
    if not json_output:
        print_job(job)
    if job.state != "succeeded":
        raise typer.Exit(FAILED)


def clock(seconds: float) -> str:
    """Write a time as a clock does: 0:07, 2:05, 1:00:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _in_background(work: Callable[[], Job]) -> Future[Job]:
    """Work in a daemon thread: Ctrl-C must not wait for a stream of events that goes on for hours."""
    future = Future[Job]()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised again where the result is awaited
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
    return future


def _display() -> tuple[AbstractContextManager[object], Callable[[Job], Display]]:
    if not is_animated():
        return nullcontext(), Lines
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    progress = Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("[cyan]{task.fields[course]}"),
        TextColumn("[dim]{task.fields[text]}"),
        console=console(stderr=True),
    )
    return progress, lambda job: Bar(progress, job)


def _follow(client: Client, job_id: str, make: Callable[[Job], Display]) -> Job:
    job = client.jobs.get(job_id)
    display = make(job)
    watcher = Watcher(job_kind(job))
    if not job.done:
        for event in client.jobs.events(job_id):
            display.update(watcher.notice(event))
        job = client.jobs.get(job_id)
    display.end(job.state)
    return job


def _values(event: Event) -> dict[str, float]:
    values = event.data.get("values", event.data)
    return {name: float(value) for name, value in values.items() if isinstance(value, float)}


def _figures(event: Event) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in _values(event).items())


def _told(event: Event) -> str:
    if event.name == "log":
        return str(event.data.get("text", ""))
    return str(event.data.get("state", "")) if event.name == "state" else ""
