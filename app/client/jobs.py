"""Jobs: submit, follow, cancel."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, cast

import httpx

from app.client.connection import TRIES, Connection, new_key, pause_seconds
from app.client.documents import JobMetrics, Progress, Result, State, Theme, ValidatedSpec
from app.client.events import Event
from app.client.problems import error_of_problem
from app.domain import errors
from app.domain.references import parse_reference

WAIT_SECONDS = 20
PROGRESS_SECONDS = 1
TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


class Job(dict[str, Any]):
    """Be a job's document, which knows how to follow itself.

    job = client.jobs.submit(spec)
    job["id"], job.state              # the document, as it was when it was read
    job.wait(progress=print)          # the same job, when it is done
    for event in job.events(): ...    # what happens, as it happens
    """

    def __init__(self, document: Mapping[str, Any], jobs: "Jobs") -> None:
        super().__init__(document)
        self._jobs = jobs

    @property
    def id(self) -> str:
        """Return what identifies the job."""
        return str(self["id"])

    @property
    def name(self) -> str:
        """Return the name of the model that it makes."""
        return str(self["name"])

    @property
    def state(self) -> State:
        """Return the state: queued, running, succeeded, failed or cancelled."""
        return cast("State", self["state"])

    @property
    def done(self) -> bool:
        """Tell whether the state is final."""
        return self.state in TERMINAL_STATES

    @property
    def progress(self) -> Progress:
        """Return how far it is."""
        return cast("Progress", self["progress"])

    @property
    def result(self) -> Result | None:
        """Return what it made, once it has succeeded."""
        return cast("Result | None", self["result"])

    @property
    def reference(self) -> str:
        """Return the reference of the version that it made, as `client.models[...]` takes it; raise its error."""
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise errors.ResultNotReadyError(f"Job {self.id} is {self.state}.", hint="Wait for it: `job.wait()`.")
        return f"{self.result['name']}/{self.result['version']}"

    @property
    def error(self) -> errors.LeanfuseError | None:
        """Return why it failed, as an error that can be raised."""
        return error_of_problem(self["error"]) if self.get("error") else None

    def refresh(self) -> Self:
        """Read the document again."""
        return self._replace(self._jobs.get(self.id))

    def wait(self, *, timeout_seconds: float = float("inf"), progress: "Callable[[Job], object] | None" = None) -> Self:
        """Return when it is done, calling `progress` about once a second; raise TimeoutError."""
        return self._replace(self._jobs.wait(self.id, timeout_seconds=timeout_seconds, progress=progress))

    def events(self, *, after: str = "") -> Iterator[Event]:
        """Yield its events until it is done."""
        return self._jobs.events(self.id, after=after)

    def metrics(self) -> list[dict[str, Any]]:
        """Return what it reported per epoch."""
        return self._jobs.metrics(self.id)["metrics"]

    def cancel(self) -> Self:
        """Ask for its end."""
        return self._replace(self._jobs.cancel(self.id))

    def retry(self) -> "Job":
        """Submit its spec again, as a new job."""
        return self._jobs.retry(self.id)

    def download(self, target: Path) -> Path:
        """Save the file of a batch prediction."""
        return self._jobs.download(self.id, target)

    def _replace(self, document: Mapping[str, Any]) -> Self:
        self.clear()
        self.update(document)
        return self


class Jobs:
    """Jobs: submit, follow, cancel."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def submit(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Submit a job spec; the same key never makes two jobs."""
        return self._ask("POST", "/v1/jobs", json=spec, headers=new_key(idempotency_key))

    def validate(self, spec: Mapping[str, Any]) -> ValidatedSpec:
        """Return the normalised spec and an estimate; nothing is stored."""
        asked = {"validate_only": "true"}
        return self._connection.request(ValidatedSpec, "POST", "/v1/jobs", json=spec, params=asked)

    def list(
        self,
        *,
        state: str | None = None,
        kind: str | None = None,
        name: str | None = None,
        parent_id: str | None = None,
    ) -> Iterator[Job]:
        """Yield the jobs, the newest first; of an ensemble's job those of its members by `parent_id`."""
        asked = {"state": state, "kind": kind, "name": name, "parent_id": parent_id}
        for document in self._connection.pages(dict[str, Any], "/v1/jobs", "jobs", asked):
            yield Job(document, self)

    def get(self, job_id: str, *, wait_seconds: int = 0) -> Job:
        """Return a job; with `wait_seconds`, when it is done or the time is over."""
        headers = {"Prefer": f"wait={wait_seconds}"} if wait_seconds else {}
        return self._ask("GET", f"/v1/jobs/{job_id}", headers=headers)

    def wait(
        self,
        job_id: str,
        *,
        timeout_seconds: float = float("inf"),
        progress: Callable[[Job], object] | None = None,
    ) -> Job:
        """Return a job when it is done; raise TimeoutError after `timeout_seconds`.

        `progress` is called with the job about once a second, and when it is done.
        """
        deadline = time.monotonic() + timeout_seconds
        longest = PROGRESS_SECONDS if progress else WAIT_SECONDS
        while True:
            left = deadline - time.monotonic()
            job = self.get(job_id, wait_seconds=max(1, int(min(left, longest))))
            if progress:
                progress(job)
            if job.done:
                return job
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is still {job.state} after {timeout_seconds} s")

    def events(self, job_id: str, *, after: str = "") -> Iterator[Event]:
        """Yield a job's events until it is done; a broken connection is resumed after the last event."""
        last, failures = after, 0
        while True:
            try:
                headers = {"Last-Event-ID": last} if last else {}
                for event in self._connection.stream(f"/v1/jobs/{job_id}/events", headers=headers):
                    last, failures = event.id or last, 0
                    yield event
                    if event.name == "done":
                        return
            except (httpx.TransportError, errors.UnavailableError):
                failures += 1
                if failures >= TRIES:
                    raise
                time.sleep(pause_seconds(failures, ""))

    def metrics(self, job_id: str) -> JobMetrics:
        """Return what a job reported per epoch."""
        return self._connection.get(JobMetrics, f"/v1/jobs/{job_id}/metrics")

    def plot(self, job_id: str, *, theme: Theme = "light") -> bytes:
        """Return how a job learns, drawn as SVG."""
        return self._connection.send("GET", f"/v1/jobs/{job_id}/plot.svg", params={"theme": theme}).content

    def cancel(self, job_id: str) -> Job:
        """Ask for a job's end; raise JobAlreadyFinishedError when it has ended."""
        return self._ask("POST", f"/v1/jobs/{job_id}:cancel")

    def predict(
        self, model: str, *, dataset: str, name: str | None = None, options: Mapping[str, str | bool] | None = None
    ) -> Job:
        """Submit a batch prediction of a data set; `options` are set, format, members, uncertainty, reuse."""
        named = name or f"{parse_reference(model).name[:48]}-predictions"
        return self.submit({"kind": "predict", "name": named, "model": model, "dataset": dataset, **(options or {})})

    def download(self, job_id: str, target: Path) -> Path:
        """Save the file of a batch prediction; raise ResultNotReadyError before the job has succeeded."""
        return self._connection.download(f"/v1/jobs/{job_id}/result", target)

    def retry(self, job_id: str) -> Job:
        """Submit a failed or cancelled job's spec again, as a new job."""
        return self._ask("POST", f"/v1/jobs/{job_id}:retry", repeatable=False)

    def _ask(self, method: str, path: str, **arguments: Any) -> Job:  # noqa: ANN401 - those of httpx
        return Job(self._connection.request(dict[str, Any], method, path, **arguments), self)
