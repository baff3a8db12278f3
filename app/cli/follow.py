"""Follow jobs live: a progress bar for each on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Protocol

from app.cli.render import console, job_kind, job_name
from app.client import TERMINAL_STATES, Client, Document, Event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_SECONDS = 5.0


class Display(Protocol):
    """Show what happens to one job."""

    def update(self, *, step: int, total_steps: int, text: str) -> None:
        """Show progress and the newest figures."""

    def end(self, state: str) -> None:
        """Show how the job ended."""


class Bar:
    """One bar of a Rich progress display."""

    def __init__(self, progress: "Progress", job: Document) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task(job_name(job), total=None, text=job_kind(job))

    def update(self, *, step: int, total_steps: int, text: str) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step, total=total_steps or None, text=text)

    def end(self, state: str) -> None:
        """Fill the bar of a job that succeeded."""
        task = self._progress.tasks[self._task]
        total = task.total or 1
        completed = total if state == "succeeded" else task.completed
        self._progress.update(self._task, total=total, completed=completed, text=state)


class Lines:
    """A line every few seconds, for logs and pipes."""

    def __init__(self, job: Document) -> None:
        self._name, self._started, self._told = job_name(job), time.monotonic(), time.monotonic()
        self._print(f"started ({job_kind(job)})")

    def update(self, *, step: int, total_steps: int, text: str) -> None:
        """Tell the progress, at most every five seconds."""
        if time.monotonic() - self._told >= PLAIN_SECONDS and total_steps:
            self._told = time.monotonic()
            self._print(f"{100 * step / total_steps:3.0f} %  {text}")

    def end(self, state: str) -> None:
        """Tell the outcome and the time it took."""
        self._print(f"{state} after {time.monotonic() - self._started:.1f} s")

    def _print(self, text: str) -> None:
        console(stderr=True).print(f"{self._name}: {text}")


def follow_jobs(client: Client, job_ids: Sequence[str]) -> list[Document]:
    """Show the progress of jobs until each is done, and return them in order."""
    live, make = _display()
    with live:
        followed = [_in_background(partial(_follow, client, job_id, make)) for job_id in job_ids]
        return [future.result() for future in followed]


def _in_background(work: Callable[[], Document]) -> Future[Document]:
    """Work in a daemon thread: Ctrl-C must not wait for a stream of events that goes on for hours."""
    future = Future[Document]()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised again where the result is awaited
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _display() -> tuple[AbstractContextManager[object], Callable[[Document], Display]]:
    terminal = console(stderr=True)
    if not terminal.is_terminal:
        return nullcontext(), Lines
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[text]}"),
        console=terminal,
    )
    return progress, lambda job: Bar(progress, job)


def _follow(client: Client, job_id: str, make: Callable[[Document], Display]) -> Document:
    job = client.jobs.get(job_id)
    display = make(job)
    step = total_steps = 0
    text = job_kind(job)
    if job["state"] not in TERMINAL_STATES:
        for event in client.jobs.events(job_id):
            if event.name == "progress":
                step, total_steps = int(event.data.get("step") or 0), int(event.data.get("total_steps") or 0)
            else:
                text = _event_text(event) or text
            display.update(step=step, total_steps=total_steps, text=text)
        job = client.jobs.get(job_id)
    display.end(job["state"])
    return job


def _event_text(event: Event) -> str:
    if event.name == "metric":
        values = event.data.get("values", event.data)
        return "  ".join(f"{name} {value:.3g}" for name, value in values.items() if isinstance(value, float))
    if event.name == "log":
        return str(event.data.get("text", ""))
    return str(event.data.get("state", "")) if event.name == "state" else ""
