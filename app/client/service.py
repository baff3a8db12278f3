"""The client: one object for one service."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from app.client.connection import DEFAULT_URL, Connection, Document
from app.client.documents import Dataset, DatasetRows, ProblemKind, RowSet, Service
from app.client.jobs import Jobs
from app.client.models import Ensembles, Models


class Client:
    """Talk to one service; use it as a context manager, or `close` it."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        timeout_seconds: float = 60.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.connection = Connection(base_url, timeout_seconds=timeout_seconds, headers=headers, transport=transport)
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

    def version(self) -> Service:
        """Return what runs: the service's version and those of its parts."""
        return self.connection.get(Service, "/version")

    def live(self) -> Document:
        """Return at once if the process is alive."""
        return self.connection.get(Document, "/livez")

    def ready(self) -> Document:
        """Return each readiness check; raise UnavailableError when one fails."""
        return self.connection.get(Document, "/readyz")

    def metrics(self) -> str:
        """Return every metric in Prometheus' text format."""
        return self.connection.send("GET", "/metrics").text

    def problems(self) -> list[ProblemKind]:
        """Return every kind of problem that an answer or a failed job may name."""
        return self.connection.get(list[ProblemKind], "/problems")

    def problem(self, slug: str) -> ProblemKind:
        """Explain one kind of problem."""
        return self.connection.get(ProblemKind, f"/problems/{slug}")


class Datasets:
    """Data sets: add, look at."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add_builtin(
        self, builtin: str, *, name: str | None = None, options: Mapping[str, Any] | None = None
    ) -> Dataset:
        """Register a data set that Leanfuse brings: digits, fashion_mnist or mnist1d."""
        body = {"builtin": builtin} if name is None else {"builtin": builtin, "name": name}
        return self._connection.request(Dataset, "POST", "/v1/datasets", json={**body, **(options or {})})

    def upload(
        self, path: Path, *, name: str, report_path: Path | None = None, options: Mapping[str, str] | None = None
    ) -> Dataset:
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
            # The same content under the same name is the same data set, so that it may be sent again.
            return self._connection.request(Dataset, "POST", "/v1/datasets", data=data, files=files)

    def list(self) -> Iterator[Dataset]:
        """Yield every data set."""
        return self._connection.pages(Dataset, "/v1/datasets", "datasets")

    def get(self, name: str) -> Dataset:
        """Return one data set."""
        return self._connection.get(Dataset, f"/v1/datasets/{name}")

    def rows(self, name: str, *, row_set: RowSet = "report", offset: int = 0, limit: int = 10) -> DatasetRows:
        """Return some rows with their labels."""
        asked = {"set": row_set, "offset": offset, "limit": limit}
        return self._connection.get(DatasetRows, f"/v1/datasets/{name}/rows", asked)
