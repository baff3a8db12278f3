"""One model by its reference: ask it for predictions, look at what it is."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload
from urllib.parse import quote

from app.client import arrays
from app.client.connection import Connection, Document
from app.client.documents import (
    Classified,
    Lineage,
    Plot,
    PlotForm,
    PredictedRows,
    Predictions,
    Regressed,
    Report,
    RowPrediction,
    RowSet,
    Theme,
    Version,
)
from app.domain.errors import NotFoundError
from app.domain.references import Reference, parse_reference

if TYPE_CHECKING:
    from app.client.arrays import Array


class ServedModel:
    """Be the model that a reference names: `name`, `name/3` (a version) or `name@champion` (an alias).

    model = client.models["digits@champion"]
    model.predict(array)                 # an array for an array, sent and answered as bytes
    model.predict(rows, members=True)    # a document for lists, and wherever more is asked for
    model.infer(array, outputs=["probabilities", "member.0.probabilities"])
    """

    def __init__(self, connection: Connection, reference: Reference, *, root: str = "/v1/models") -> None:
        self.reference = reference
        self._connection = connection
        self._root = root

    def __repr__(self) -> str:
        return f"ServedModel({str(self.reference)!r})"

    @overload
    def predict(self, rows: "Array") -> "Array": ...

    @overload
    def predict(self, rows: Sequence[Any], **options: bool) -> Predictions: ...

    def predict(self, rows: "Array | Sequence[Any]", **options: bool) -> "Array | Predictions":
        """Predict for rows: an array for an array, a document for lists or with options.

        `options` are members, weights, uncertainty and sets. An array is sent in parts of a few megabytes, all
        answered by one version, even if an alias moves meanwhile.
        """
        if not arrays.is_array(rows) or options:
            return self.document(rows, **options)
        array = cast("Array", rows)
        if not arrays.is_numeric(array):
            import numpy as np

            return np.array(self.document(array)["predictions"], dtype=np.float32)
        return self._predict_array(array)

    def document(self, rows: "Array | Sequence[Any]", **options: bool) -> Predictions:
        """Predict for nested lists, arrays, texts or pictures, as JSON; `options` are those of `predict`."""
        body = {"instances": arrays.plain(rows), **options}
        return self._connection.request(Predictions, "POST", self._verb("predict"), json=body)

    def _predict_array(self, array: "Array") -> "Array":
        import numpy as np

        asked, answers = self, list["Array"]()
        for part in arrays.batches(array):
            headers = {"Content-Type": arrays.NPY, "Accept": arrays.NPY}
            response = asked._connection.send(
                "POST", asked._verb("predict"), content=arrays.to_npy(part), headers=headers
            )
            answers.append(arrays.from_npy(response.content))
            asked = self._at(response.headers["Leanfuse-Version"])
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def labels(self, rows: "Array") -> list[str]:
        """Return the most probable class of each row of an array."""
        version = self.version()
        pinned = self._at(f"{version['name']}/{version['version']}")
        return [version["classes"][int(row.argmax())] for row in pinned.predict(rows)]

    def infer(self, array: "Array", *, outputs: Sequence[str] = ()) -> "dict[str, Array]":
        """Predict through the Open Inference Protocol, in binary both ways; return the outputs by name.

        Without `outputs` it is the fused answer; an ensemble also has `member.0.probabilities`, `entropy` and others.
        """
        name = quote(f"{self.reference.name}@{self.reference.alias}" if self.reference.alias else self.reference.name)
        version = f"/versions/{self.reference.version}" if self.reference.version else ""
        sent = arrays.to_tensor(array, outputs)
        response = self._connection.send(
            "POST", f"/v2/models/{name}{version}/infer", content=sent.body, headers=sent.headers
        )
        return arrays.from_tensors(response.content, response.headers)

    def predictions(
        self,
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
        if dataset is None:
            asked: dict[str, Any] = {"x": list(x)}
        else:
            asked = {"dataset": dataset, "set": row_set, "offset": offset, "limit": limit}
        return self._connection.get(PredictedRows, self._predictions, self._pinned(asked, options))

    def walk_predictions(
        self, *, dataset: str, row_set: RowSet = "report", page_size: int = 1000, **options: bool
    ) -> Iterator[RowPrediction]:
        """Yield the prediction of every row of a set, all of one version even while an alias moves."""
        asked = {"dataset": dataset, "set": row_set, "page_size": page_size}
        return self._connection.pages(RowPrediction, self._predictions, "predictions", self._pinned(asked, options))

    def classify(
        self, examples: Sequence[Mapping[str, Any]], *, context: Mapping[str, Any] | None = None
    ) -> Classified:
        """Return the probability of every class for examples `{"x": row}`, as TensorFlow Serving does."""
        return self._connection.request(Classified, "POST", self._verb("classify"), json=_examples(examples, context))

    def regress(self, examples: Sequence[Mapping[str, Any]], *, context: Mapping[str, Any] | None = None) -> Regressed:
        """Return the value of examples `{"x": row}`, as TensorFlow Serving does."""
        return self._connection.request(Regressed, "POST", self._verb("regress"), json=_examples(examples, context))

    def metadata(self) -> Document:
        """Return the signature, as TensorFlow Serving writes it."""
        return self._connection.get(Document, f"/v1/models/{predict_path(self.reference)}/metadata")

    def openapi(self) -> Document:
        """Return an OpenAPI document of this model alone: exactly what it takes and answers."""
        return self._connection.get(Document, f"/v1/models/{predict_path(self.reference)}/openapi.json")

    def version(self) -> Version:
        """Return the version that the reference names now: what it is, what was measured, its files."""
        name, version, alias = self.reference
        if alias is not None:
            return self._connection.get(Version, f"/v1/models/{name}/labels/{alias}")
        if version is not None:
            return self._connection.get(Version, f"/v1/models/{name}/versions/{version}")
        newest: Version = self._connection.get(Document, f"/v1/models/{name}")["newest"]
        return newest

    def report(self) -> Report:
        """Return everything that was measured."""
        return self._connection.get(Report, f"{self._path()}/report")

    def lineage(self) -> Lineage:
        """Return what it was made from, and what was made from it."""
        return self._connection.get(Lineage, f"{self._path()}/lineage")

    def plots(self) -> list[Plot]:
        """Return the plots of its report; none from a service that draws none."""
        try:
            found: list[Plot] = self._connection.get(Document, f"{self._path()}/plots")["plots"]
        except NotFoundError:
            return []
        return found

    def plot(self, name: str, *, form: PlotForm = "svg", theme: Theme = "light") -> bytes:
        """Return one plot as a file."""
        path = f"{self._path()}/plots/{name}.{form}"
        return self._connection.send("GET", path, params={"theme": theme}).content

    def download(self, file: str, target: Path) -> Path:
        """Save one of its files, such as `model.onnx`: whole and verified, or not at all."""
        return self._connection.download(f"{self._path()}/artifacts/{file}", target)

    def _path(self) -> str:
        """Return the path of one version, asking which it is unless the reference says so."""
        number = self.reference.version or self.version()["version"]
        return f"/v1/models/{self.reference.name}/versions/{number}"

    def _at(self, reference: str) -> "ServedModel":
        return ServedModel(self._connection, parse_reference(reference), root=self._root)

    def _verb(self, verb: str) -> str:
        root = self._root if verb == "predict" else "/v1/models"
        return f"{root}/{predict_path(self.reference)}:{verb}"

    @property
    def _predictions(self) -> str:
        return f"{self._root}/{self.reference.name}/predictions"

    def _pinned(self, asked: Mapping[str, Any], options: Mapping[str, bool]) -> dict[str, Any]:
        wanted = {name: value or None for name, value in options.items()}
        return {"version": self.reference.version, "alias": self.reference.alias, **asked, **wanted}


def predict_path(reference: Reference) -> str:
    """Return the part of the path between `/v1/models/` and `:predict`, as TensorFlow Serving writes it.

    >>> predict_path(parse_reference("digits-cnn@champion"))
    'digits-cnn/labels/champion'
    """
    if reference.alias is not None:
        return f"{reference.name}/labels/{reference.alias}"
    return reference.name if reference.version is None else f"{reference.name}/versions/{reference.version}"


def _examples(examples: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None) -> Document:
    return {"examples": list(examples), **({"context": dict(context)} if context else {})}
