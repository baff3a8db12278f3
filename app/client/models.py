"""Models and ensembles: the registry, aliases, rollouts, predictions."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from app.client.connection import Connection, new_key, present
from app.client.documents import (
    AliasHistory,
    Ensemble,
    Leaderboard,
    Lineage,
    Model,
    Plot,
    PlotForm,
    PredictedRows,
    Predictions,
    Report,
    Rollout,
    RowPrediction,
    RowSet,
    Theme,
    Version,
)
from app.client.jobs import Job, Jobs
from app.client.served import ServedModel
from app.domain.references import Reference, parse_reference


class Served:
    """What models and ensembles share: whatever a reference names answers rows."""

    _root = "/v1/models"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getitem__(self, reference: str) -> ServedModel:
        """Return the model that a reference names: `client.models["digits-cnn@champion"]`."""
        return ServedModel(self._connection, parse_reference(reference), root=self._root)

    def predict(self, reference: str, instances: Sequence[Any], **options: bool) -> Predictions:
        """Predict for rows (nested lists or arrays); `options` are members, weights, uncertainty, sets."""
        return self[reference].document(instances, **options)

    def predictions(
        self,
        reference: str,
        *,
        dataset: str | None = None,
        row_set: RowSet = "report",
        offset: int = 0,
        limit: int = 100,
        x: Sequence[str] = (),
        **options: bool,
    ) -> PredictedRows:
        """Predict for rows of a registered data set, or for small inputs `x` ("5.1,3.5,1.4,0.2" each).

        `options` are members, uncertainty, sets.
        """
        asked = self[reference]
        return asked.predictions(dataset=dataset, row_set=row_set, offset=offset, limit=limit, x=x, **options)

    def walk_predictions(
        self, reference: str, *, dataset: str, row_set: RowSet = "report", page_size: int = 1000, **options: bool
    ) -> Iterator[RowPrediction]:
        """Yield the prediction of every row of a set, all of one version even while an alias moves."""
        return self[reference].walk_predictions(dataset=dataset, row_set=row_set, page_size=page_size, **options)

    def report(self, name: str, version: int) -> Report:
        """Return everything that was measured on one version."""
        return self._numbered(name, version).report()

    def _numbered(self, name: str, version: int) -> ServedModel:
        return ServedModel(self._connection, Reference(name, version), root=self._root)


class Models(Served):
    """Models: versions, reports, aliases, predictions."""

    def list(self, *, kind: Literal["single", "ensemble"] | None = None) -> Iterator[Model]:
        """Yield every model with its newest version."""
        return self._connection.pages(Model, "/v1/models", "models", {"kind": kind})

    def get(self, name: str) -> Model:
        """Return a model: its versions and aliases."""
        return self._connection.get(Model, f"/v1/models/{name}")

    def describe(self, name: str, description: str) -> Model:
        """Replace a model's description."""
        return self._connection.request(Model, "PATCH", f"/v1/models/{name}", json={"description": description})

    def versions(self, name: str) -> Iterator[Version]:
        """Yield a model's versions, the newest first."""
        return self._connection.pages(Version, f"/v1/models/{name}/versions", "versions")

    def version(self, name: str, version: int) -> Version:
        """Return one version: manifest, metrics, lineage."""
        return self._numbered(name, version).version()

    def tag(self, name: str, version: int, tags: Mapping[str, str]) -> Version:
        """Replace a version's tags."""
        path = f"/v1/models/{name}/versions/{version}"
        return self._connection.request(Version, "PATCH", path, json={"tags": dict(tags)})

    def delete(self, name: str, version: int) -> None:
        """Take a version out of service; raise StillReferencedError while an alias, ensemble or job needs it."""
        self._connection.send("DELETE", f"/v1/models/{name}/versions/{version}")

    def lineage(self, name: str, version: int) -> Lineage:
        """Return what a version was made from, and what was made from it."""
        return self._numbered(name, version).lineage()

    def plots(self, name: str, version: int) -> Sequence[Plot]:
        """Return the plots of a version's report."""
        return self._numbered(name, version).plots()

    def download(self, name: str, version: int, file: str, target: Path) -> Path:
        """Save a file of a version: whole and verified, or not at all."""
        return self._numbered(name, version).download(file, target)

    def compare(self, **asked: str | float | bool | Sequence[str] | None) -> Leaderboard:
        """Return the leaderboard: `dataset`, `x` (one cost or several), `y`, `versions`, limits such as `max_bytes`."""
        return self._connection.get(Leaderboard, "/v1/compare", asked)

    def comparison_plot(
        self, *, form: PlotForm = "svg", theme: Theme = "light", **asked: str | float | bool | Sequence[str] | None
    ) -> bytes:
        """Return a plot of what `compare` tells, as a file."""
        parameters = present({**asked, "theme": theme})
        return self._connection.send("GET", f"/v1/compare/plot.{form}", params=parameters).content

    def import_onnx(
        self,
        path: Path,
        *,
        name: str,
        dataset: str,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Upload an ONNX file and return the job that registers it; `options` are classes, output, answers, tags."""
        body = json.dumps({"name": name, "dataset": dataset, **(options or {})})
        with path.open("rb") as file:
            document = self._connection.request(
                dict[str, Any],
                "POST",
                "/v1/models",
                headers=new_key(idempotency_key),
                data={"options": body},
                files={"file": (path.name, file, "application/octet-stream")},
            )
        return Job(document, Jobs(self._connection))

    def set_alias(self, name: str, alias: str, version: int, *, force: bool = False) -> Version:
        """Point an alias at a version; raise VersionRejectedError for a rejected one, unless forced."""
        body = {"version": version, "force": True} if force else {"version": version}
        return self._connection.request(Version, "PUT", f"/v1/models/{name}/aliases/{alias}", json=body)

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias."""
        self._connection.send("DELETE", f"/v1/models/{name}/aliases/{alias}")

    def alias_history(self, name: str, alias: str) -> AliasHistory:
        """Return where an alias pointed, and what was rolled out at it."""
        return self._connection.get(AliasHistory, f"/v1/models/{name}/aliases/{alias}/history")

    def promote(
        self, name: str, alias: str, version: int | None = None, *, require: Mapping[str, float], force: bool = False
    ) -> Version:
        """Give an alias to a version (default: the rollout's candidate) if conditions hold, else GateNotMetError."""
        body = {"version": version, "require": dict(require), "force": force}
        path = f"/v1/models/{name}/aliases/{alias}:promote"
        return self._connection.request(Version, "POST", path, json=body, repeatable=False)

    def roll_out(
        self, name: str, alias: str, version: int, *, mode: str = "split", percent: int = 10, force: bool = False
    ) -> Rollout:
        """Let a candidate answer a share of an alias' requests (split) or run beside them unseen (shadow)."""
        body = {"version": version, "mode": mode, "percent": percent, "force": force}
        return self._connection.request(Rollout, "PUT", f"/v1/models/{name}/aliases/{alias}/rollout", json=body)

    def rollout(self, name: str, alias: str) -> Rollout:
        """Return what is rolled out at an alias, and how a shadow compares."""
        return self._connection.get(Rollout, f"/v1/models/{name}/aliases/{alias}/rollout")

    def end_rollout(self, name: str, alias: str) -> None:
        """End a rollout; the alias stays."""
        self._connection.send("DELETE", f"/v1/models/{name}/aliases/{alias}/rollout")

    def roll_back(self, name: str, alias: str) -> Version:
        """Undo the latest change of an alias."""
        path = f"/v1/models/{name}/aliases/{alias}:rollback"
        return self._connection.request(Version, "POST", path, repeatable=False)


class Ensembles(Served):
    """Models that are ensembles: with members, weights and uncertainty."""

    _root = "/v1/ensembles"

    def list(self) -> Iterator[Ensemble]:
        """Yield every ensemble with its members."""
        return self._connection.pages(Ensemble, "/v1/ensembles", "ensembles")

    def get(self, name: str) -> Ensemble:
        """Return an ensemble's newest version: members, weights, gain."""
        return self._connection.get(Ensemble, f"/v1/ensembles/{name}")

    def version(self, name: str, version: int) -> Ensemble:
        """Return one version of an ensemble: members, weights, gain."""
        return self._connection.get(Ensemble, f"/v1/ensembles/{name}/versions/{version}")
