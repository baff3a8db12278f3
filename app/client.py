"""A small client of the HTTP service.

with Client("http://127.0.0.1:8000") as client:
    client.datasets.add_builtin("digits")
    job = client.jobs.wait(client.jobs.submit(spec)["id"])
    client.models.predict("digits-cnn@champion", rows)

Every document is the service's own JSON. Problems are raised as the errors of `app.domain.errors` that they name.
"""

import hashlib
import json
import random
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias

import httpx

from app.domain import errors
from app.domain.error_tree import all_errors
from app.domain.names import Reference, parse_reference

DEFAULT_URL = "http://127.0.0.1:8000"
TRIES = 4
LONGEST_RETRY_SECONDS = 30.0
WAIT_SECONDS = 20
TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})

Document: TypeAlias = dict[str, Any]
Parameters: TypeAlias = Mapping[str, str | int | float | bool | Sequence[str] | None]


class Event(NamedTuple):
    """Be one event of a job: `name` is state, progress, metric, log or done; `id` resumes the stream."""

    id: str
    name: str
    data: Document


class Connection:
    """Send requests: retry what may be repeated, raise problems as the errors that they name."""

    def __init__(
        self, base_url: str, *, timeout_seconds: float = 60.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.Client(base_url=self.base_url, timeout=timeout_seconds, transport=transport)

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def get(
        self, path: str, parameters: Parameters | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Document:
        """GET a JSON document."""
        return self.request("GET", path, params=_present(parameters), headers=headers)

    def post(self, path: str, body: Mapping[str, Any], *, idempotency_key: str | None = None) -> Document:
        """POST a JSON document under an idempotency key, so that it may be repeated safely."""
        return self.request("POST", path, json=body, headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())})

    def request(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool = True,
        **arguments: Any,  # noqa: ANN401 - those of httpx
    ) -> Document:
        """Send a request, at most four times if it may be repeated, and return the JSON answer ({} for none)."""
        for attempt in range(TRIES):
            last = attempt == TRIES - 1 or not repeatable
            try:
                response = self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                if last:
                    raise self._unreachable(error) from error
                time.sleep(_pause_seconds(attempt, ""))
                continue
            if response.status_code in {429, 503} and not last:
                time.sleep(_pause_seconds(attempt, response.headers.get("Retry-After", "")))
                continue
            return _document(response)
        raise AssertionError("the last try returns or raises")

    def download(self, path: str, target: Path) -> Path:
        """Save a file whose ETag is its SHA-256; it is whole, or `target` is left as it was."""
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        try:
            digest = self._save(path, partial)
            if digest[0] != digest[1]:
                raise errors.ArtifactCorruptedError(f"{path} arrived damaged.", hint="Download it again.")
            partial.replace(target)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _save(self, path: str, partial: Path) -> tuple[str, str]:
        digest = hashlib.sha256()
        with self._http.stream("GET", path) as response:
            if response.is_error:
                response.read()
                raise error_from(response)
            with partial.open("wb") as file:
                for chunk in response.iter_bytes():
                    digest.update(chunk)
                    file.write(chunk)
            return digest.hexdigest(), response.headers["ETag"].strip('"')

    def pages(self, path: str, collection: str, parameters: Parameters | None = None) -> Iterator[Document]:
        """Yield every item of a list, page after page."""
        token = ""
        while True:
            page = self.get(path, {**(parameters or {}), "page_token": token or None})
            yield from page[collection]
            token = page.get("next_page_token") or ""
            if not token:
                return

    def stream(self, path: str, *, headers: Mapping[str, str] | None = None) -> Iterator[Event]:
        """Yield the server-sent events of one connection."""
        try:
            with self._http.stream("GET", path, headers=headers) as response:
                if response.is_error:
                    response.read()
                    raise error_from(response)
                yield from parse_events(response.iter_lines())
        except httpx.ConnectError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> errors.UnreachableError:
        return errors.UnreachableError(
            f"{self.base_url} does not answer: {error or type(error).__name__}.",
            hint="Start the service with `leanfuse up`, or say where it is with --url or LEANFUSE_URL.",
        )


class Client:
    """Talk to one service; use it as a context manager, or `close` it."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        timeout_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.connection = Connection(base_url, timeout_seconds=timeout_seconds, transport=transport)
        self.datasets = Datasets(self.connection)
        self.jobs = Jobs(self.connection)
        self.models = Models(self.connection)
        self.ensembles = Ensembles(self.connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self.connection.close()

    def version(self) -> Document:
        """Return what runs: the service's version and those of its parts."""
        return self.connection.get("/version")

    def ready(self) -> Document:
        """Return each readiness check; raise UnavailableError when one fails."""
        return self.connection.get("/readyz")


class Datasets:
    """Data sets: add, look at."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add_builtin(
        self, builtin: str, *, name: str | None = None, options: Mapping[str, Any] | None = None
    ) -> Document:
        """Register a data set that Leanfuse brings: digits, fashion_mnist or mnist1d."""
        body = {"builtin": builtin} if name is None else {"builtin": builtin, "name": name}
        return self._connection.post("/v1/datasets", {**body, **(options or {})})

    def upload(
        self, path: Path, *, name: str, report_path: Path | None = None, options: Mapping[str, str] | None = None
    ) -> Document:
        """Upload a file (NPZ, CSV, ZIP of images or WAVs) as a data set.

        `report_path` is an official test file: its rows become the report set.
        """
        paths = {"file": path} | ({"report_file": report_path} if report_path else {})
        with ExitStack() as opened:
            files = {
                field: (chosen.name, opened.enter_context(chosen.open("rb")), "application/octet-stream")
                for field, chosen in paths.items()
            }
            data = {"name": name, **(options or {})}
            return self._connection.request("POST", "/v1/datasets", repeatable=False, data=data, files=files)

    def list(self) -> Iterator[Document]:
        """Yield every data set."""
        return self._connection.pages("/v1/datasets", "datasets")

    def get(self, name: str) -> Document:
        """Return one data set."""
        return self._connection.get(f"/v1/datasets/{name}")

    def rows(self, name: str, *, row_set: str = "report", offset: int = 0, limit: int = 10) -> Document:
        """Return some rows with their labels."""
        return self._connection.get(f"/v1/datasets/{name}/rows", {"set": row_set, "offset": offset, "limit": limit})


class Jobs:
    """Jobs: submit, follow, cancel."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def submit(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Document:
        """Submit a job spec; the same key never makes two jobs."""
        return self._connection.post("/v1/jobs", spec, idempotency_key=idempotency_key)

    def validate(self, spec: Mapping[str, Any]) -> Document:
        """Return the normalised spec and an estimate; nothing is stored."""
        return self._connection.request("POST", "/v1/jobs", json=spec, params={"validate_only": "true"})

    def list(self, *, state: str | None = None, kind: str | None = None) -> Iterator[Document]:
        """Yield the jobs, the newest first."""
        return self._connection.pages("/v1/jobs", "jobs", {"state": state, "kind": kind})

    def get(self, job_id: str, *, wait_seconds: int = 0) -> Document:
        """Return a job; with `wait_seconds`, when it is done or the time is over."""
        headers = {"Prefer": f"wait={wait_seconds}"} if wait_seconds else {}
        return self._connection.get(f"/v1/jobs/{job_id}", headers=headers)

    def wait(self, job_id: str, *, timeout_seconds: float = float("inf")) -> Document:
        """Return a job when it is done; raise TimeoutError after `timeout_seconds`."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            job = self.get(job_id, wait_seconds=max(1, min(WAIT_SECONDS, int(min(timeout_seconds, WAIT_SECONDS)))))
            if job["state"] in TERMINAL_STATES:
                return job
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is still {job['state']} after {timeout_seconds} s")

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
                time.sleep(_pause_seconds(failures, ""))

    def cancel(self, job_id: str) -> Document:
        """Ask for a job's end; raise JobAlreadyFinishedError when it has ended."""
        return self._connection.request("POST", f"/v1/jobs/{job_id}:cancel")

    def predict(
        self, model: str, *, dataset: str, name: str | None = None, options: Mapping[str, str | bool] | None = None
    ) -> Document:
        """Submit a batch prediction of a data set; `options` are set, format, members, uncertainty, reuse."""
        named = name or f"{parse_reference(model).name[:48]}-predictions"
        return self.submit({"kind": "predict", "name": named, "model": model, "dataset": dataset, **(options or {})})

    def download(self, job_id: str, target: Path) -> Path:
        """Save the file of a batch prediction; raise ResultNotReadyError before the job has succeeded."""
        return self._connection.download(f"/v1/jobs/{job_id}/result", target)

    def retry(self, job_id: str) -> Document:
        """Submit a failed or cancelled job's spec again, as a new job."""
        return self._connection.request("POST", f"/v1/jobs/{job_id}:retry", repeatable=False)


class Models:
    """Models: versions, reports, aliases, predictions."""

    _root = "/v1/models"
    _collection = "models"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> Iterator[Document]:
        """Yield every model with its newest version."""
        return self._connection.pages(self._root, self._collection)

    def get(self, name: str) -> Document:
        """Return a model: its versions and aliases."""
        return self._connection.get(f"{self._root}/{name}")

    def version(self, name: str, version: int) -> Document:
        """Return one version: manifest, metrics, lineage."""
        return self._connection.get(f"{self._root}/{name}/versions/{version}")

    def report(self, name: str, version: int) -> Document:
        """Return everything that was measured on one version."""
        return self._connection.get(f"/v1/models/{name}/versions/{version}/report")

    def compare(self, **asked: str | float | bool | Sequence[str] | None) -> Document:
        """Return the leaderboard: `dataset`, `x` (one cost or several), `y`, `versions`, limits such as `max_bytes`."""
        return self._connection.get("/v1/compare", asked)

    def import_onnx(self, path: Path, *, name: str, dataset: str, options: Mapping[str, Any] | None = None) -> Document:
        """Upload an ONNX file and return the job that registers it; `options` are classes, output, answers, tags."""
        with path.open("rb") as file:
            body = json.dumps({"name": name, "dataset": dataset, **(options or {})})
            return self._connection.request(
                "POST",
                self._root,
                repeatable=False,
                data={"options": body},
                files={"file": (path.name, file, "application/octet-stream")},
            )

    def set_alias(self, name: str, alias: str, version: int, *, force: bool = False) -> Document:
        """Point an alias at a version; raise VersionRejectedError for a rejected one, unless forced."""
        body = {"version": version, "force": True} if force else {"version": version}
        return self._connection.request("PUT", f"/v1/models/{name}/aliases/{alias}", json=body)

    def promote(
        self, name: str, alias: str, version: int | None = None, *, require: Mapping[str, float], force: bool = False
    ) -> Document:
        """Give an alias to a version (default: the rollout's candidate) if conditions hold, else GateNotMetError."""
        body = {"version": version, "require": dict(require), "force": force}
        path = f"/v1/models/{name}/aliases/{alias}:promote"
        return self._connection.request("POST", path, json=body, repeatable=False)

    def roll_out(
        self, name: str, alias: str, version: int, *, mode: str = "split", percent: int = 10, force: bool = False
    ) -> Document:
        """Let a candidate answer a share of an alias' requests (split) or run beside them unseen (shadow)."""
        body = {"version": version, "mode": mode, "percent": percent, "force": force}
        return self._connection.request("PUT", f"/v1/models/{name}/aliases/{alias}/rollout", json=body)

    def rollout(self, name: str, alias: str) -> Document:
        """Return what is rolled out at an alias, and how a shadow compares."""
        return self._connection.get(f"/v1/models/{name}/aliases/{alias}/rollout")

    def end_rollout(self, name: str, alias: str) -> None:
        """End a rollout; the alias stays."""
        self._connection.request("DELETE", f"/v1/models/{name}/aliases/{alias}/rollout")

    def roll_back(self, name: str, alias: str) -> Document:
        """Undo the latest change of an alias."""
        path = f"/v1/models/{name}/aliases/{alias}:rollback"
        return self._connection.request("POST", path, repeatable=False)

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias."""
        self._connection.request("DELETE", f"/v1/models/{name}/aliases/{alias}")

    def predict(self, reference: str, instances: Sequence[Any], **options: bool) -> Document:
        """Predict for rows (nested lists or arrays); `options` are members, weights, uncertainty, sets."""
        rows = [row.tolist() if hasattr(row, "tolist") else row for row in instances]
        path = f"{self._root}/{predict_path(parse_reference(reference))}:predict"
        return self._connection.request("POST", path, json={"instances": rows, **options})

    def predictions(
        self,
        reference: str,
        *,
        dataset: str | None = None,
        row_set: str = "report",
        offset: int = 0,
        limit: int = 100,
        x: Sequence[str] = (),
        **options: bool,
    ) -> Document:
        """Predict for rows of a registered data set, or for small inputs `x` ("5.1,3.5,1.4,0.2" each).

        `options` are members, uncertainty, sets.
        """
        name, version, alias = parse_reference(reference)
        parameters: dict[str, str | int | bool | Sequence[str] | None] = {"version": version, "alias": alias}
        if dataset is None:
            parameters["x"] = list(x)
        else:
            parameters |= {"dataset": dataset, "set": row_set, "offset": offset, "limit": limit}
        parameters |= {name: wanted or None for name, wanted in options.items()}
        return self._connection.get(f"{self._root}/{name}/predictions", parameters)

    def walk_predictions(
        self, reference: str, *, dataset: str, row_set: str = "report", page_size: int = 1000, **options: bool
    ) -> Iterator[Document]:
        """Yield the prediction of every row of a set, all of one version even while an alias moves."""
        name, version, alias = parse_reference(reference)
        wanted: dict[str, str | int | bool | None] = {"version": version, "alias": alias, "page_size": page_size}
        wanted |= {"dataset": dataset, "set": row_set, **{key: value or None for key, value in options.items()}}
        return self._connection.pages(f"{self._root}/{name}/predictions", "predictions", wanted)


class Ensembles(Models):
    """Models that are ensembles: the same, with members, weights and uncertainty."""

    _root = "/v1/ensembles"
    _collection = "ensembles"


def predict_path(reference: Reference) -> str:
    """Return the part of the path between `/v1/models/` and `:predict`, as TensorFlow Serving writes it."""
    if reference.alias is not None:
        return f"{reference.name}/labels/{reference.alias}"
    return reference.name if reference.version is None else f"{reference.name}/versions/{reference.version}"


def parse_events(lines: Iterable[str]) -> Iterator[Event]:
    """Read server-sent events (HTML standard, section 9.2.6): comments are skipped, data lines joined."""
    event_id, name, data = "", "message", list[str]()
    for line in lines:
        if not line:
            if data:
                yield Event(event_id, name, _event_data("\n".join(data)))
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id":
            event_id = value


def error_from(response: httpx.Response) -> errors.LeanfuseError:
    """Return the error that a problem document (RFC 9457) names; an unknown slug becomes one of its HTTP code."""
    return error_of_problem({"status": response.status_code, **_problem(response)})


def error_of_problem(problem: Mapping[str, Any]) -> errors.LeanfuseError:
    """Return the error that a problem document describes."""
    slug = str(problem.get("type") or problem.get("slug") or "").rpartition("/")[2]
    kind = _error_kind(slug, int(problem.get("status", 0)))
    fields = [errors.FieldError(item["pointer"], item["detail"], item["type"]) for item in problem.get("errors") or ()]
    return kind(str(problem.get("detail", "")), hint=str(problem.get("hint", "")), errors=fields)


def _problem(response: httpx.Response) -> Document:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        return problem
    return {"detail": f"{response.request.method} {response.request.url} answered {response.status_code}."}


def _error_kind(slug: str, code: int) -> type[errors.LeanfuseError]:
    kinds = list(all_errors())
    exact = next((kind for kind in kinds if kind.slug == slug), None)
    return exact or next((kind for kind in kinds if kind.code == code), errors.LeanfuseError)


def _document(response: httpx.Response) -> Document:
    if response.is_error:
        raise error_from(response)
    return response.json() if response.content else {}


def _event_data(text: str) -> Document:
    value = json.loads(text)
    return value if isinstance(value, dict) else {"value": value}


def _present(parameters: Parameters | None) -> dict[str, Any]:
    """Leave out what is None and write booleans as JSON does."""
    present = {key: value for key, value in (parameters or {}).items() if value is not None}
    return {key: str(value).lower() if isinstance(value, bool) else value for key, value in present.items()}


def _pause_seconds(attempt: int, retry_after: str) -> float:
    if retry_after.isdigit():
        return min(LONGEST_RETRY_SECONDS, float(retry_after))
    return 0.2 * 2.0**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
