"""Models of others that rows of the table import: made of the service's own rows, sent as ONNX."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.client import Client

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

PAGE_ROWS = 1_000
OPSET = 20

Numbers: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = tuple[list[Any], NDArray[np.int64]]
Learn: TypeAlias = Callable[[Client, str], onnx.ModelProto]


def import_model(client: Client, name: str, dataset: str) -> dict[str, Any]:
    """Make the row's model, send it, and return the finished job."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"{name}.onnx"
        path.write_bytes(MODELS[name](client, dataset).SerializeToString())
        job = client.models.import_onnx(path, name=name, dataset=dataset)
    return client.jobs.wait(job["id"])


def _nearest(neighbours: int) -> Learn:
    """Return the k nearest neighbours of UCI's table: no learning, so all official train rows are kept.

    Written by hand, since skl2onnx searches in a `Scan`, which is not imported.
    """

    def learn(client: Client, dataset: str) -> onnx.ModelProto:
        return _graph_of_neighbours(neighbours, *_pixels(client, dataset, "train", "selection"))

    return learn


def _graph_of_neighbours(neighbours: int, pixels: Numbers, labels: NDArray[np.int64]) -> onnx.ModelProto:
    """Return the graph from rows to shares of votes; |x - r|^2 is ordered as |r|^2 / 2 - x r, exact in whole pixels."""
    nodes = [
        helper.make_node("MatMul", ["pixels", "rows"], ["products"]),
        helper.make_node("Sub", ["squares", "products"], ["distances"]),
        helper.make_node("TopK", ["distances", "neighbours"], ["nearest", "places"], axis=1, largest=0),
        helper.make_node("Gather", ["votes", "places"], ["voted"]),
        helper.make_node("ReduceMean", ["voted", "axis"], ["probabilities"], keepdims=0),
    ]
    stored = {
        "rows": pixels.T,
        "squares": np.square(pixels).sum(axis=1) / 2,
        "votes": np.eye(labels.max() + 1, dtype=np.float32)[labels],
        "neighbours": np.array([neighbours]),
        "axis": np.array([1]),
    }
    graph = helper.make_graph(
        nodes,
        "nearest-neighbours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", pixels.shape[1]])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", int(labels.max()) + 1])],
        [numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    return _model(graph)


def _support_vectors(client: Client, dataset: str) -> onnx.ModelProto:
    """Learn the SVC of the plain scripts, from the train rows alone: the selection rows weigh it in a fusion."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    learned = CalibratedClassifierCV(SVC(C=10, gamma=0.002), ensemble=False)
    return _converted(learned, *_pixels(client, dataset, "train"))


def _converted(estimator: "ClassifierMixin", pixels: Numbers, labels: NDArray[np.int64]) -> onnx.ModelProto:
    from skl2onnx import to_onnx

    options = {type(estimator): {"zipmap": False}}
    made: onnx.ModelProto = to_onnx(estimator.fit(pixels, labels), pixels[:1], target_opset=OPSET, options=options)
    return made


def _byte_pairs(client: Client, dataset: str) -> onnx.ModelProto:
    """Learn a logistic regression on which bytes and pairs of bytes a message holds, rows of length 1.

    Its strength of regularization is chosen by cross-validation on the train rows.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import normalize

    texts, labels = _rows(client, dataset, "train")
    # A character for every byte, as the served rows are bytes.
    texts = [text.encode().decode("latin-1") for text in texts]
    found = CountVectorizer(analyzer="char", ngram_range=(1, 2), lowercase=False, min_df=2, binary=True)
    search = GridSearchCV(LogisticRegression(max_iter=2_000), {"C": np.logspace(0, 3, 7)}, scoring="neg_log_loss")
    learned = search.fit(normalize(found.fit_transform(texts)), labels).best_estimator_
    grams = sorted(found.vocabulary_, key=lambda gram: (len(gram), gram))
    kernel = learned.coef_[0][[found.vocabulary_[gram] for gram in grams]]
    return linear_of_grams([gram.encode("latin-1") for gram in grams], kernel, float(learned.intercept_[0]))


def linear_of_grams(grams: list[bytes], kernel: NDArray[np.float64], bias: float) -> onnx.ModelProto:
    """Return the graph from bytes (rows, length) to logits (rows, 2); `grams` of one or two bytes, sorted by length."""
    singles = sum(len(gram) == 1 for gram in grams)
    nodes = [
        helper.make_node(
            "TfIdfVectorizer",
            ["bytes"],
            ["counts"],
            mode="TF",
            min_gram_length=1,
            max_gram_length=2,
            max_skip_count=0,
            ngram_counts=[0, singles],
            ngram_indexes=list(range(len(grams))),
            pool_int64s=[byte for gram in grams for byte in gram],
        ),
        helper.make_node("Min", ["counts", "one"], ["found"]),
        helper.make_node("LpNormalization", ["found"], ["features"], p=2, axis=-1),
        helper.make_node("MatMul", ["features", "kernel"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["second"]),
        helper.make_node("Mul", ["second", "zero"], ["first"]),
        helper.make_node("Concat", ["first", "second"], ["logits"], axis=-1),
    ]
    stored = {"one": [1.0], "zero": [0.0], "kernel": kernel[:, None], "bias": [bias]}
    graph = helper.make_graph(
        nodes,
        "byte-pairs",
        [helper.make_tensor_value_info("bytes", TensorProto.INT64, ["rows", "length"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])],
        [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in stored.items()],
    )
    return _model(graph)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return made


def _pixels(client: Client, dataset: str, *row_sets: str) -> tuple[Numbers, NDArray[np.int64]]:
    rows, labels = _rows(client, dataset, *row_sets)
    return np.asarray(rows, np.float32).reshape(len(rows), -1), labels


def _rows(client: Client, dataset: str, *row_sets: str) -> Rows:
    found = [row for row_set in row_sets for row in _pages(client, dataset, row_set)]
    return [row["x"] for row in found], np.array([row["y"] for row in found])


def _pages(client: Client, dataset: str, row_set: str) -> Iterator[dict[str, Any]]:
    offset, total = 0, 1
    while offset < total:
        page = client.datasets.rows(dataset, row_set=row_set, offset=offset, limit=PAGE_ROWS)
        yield from page["rows"]
        offset, total = offset + len(page["rows"]), page["total_rows"]


MODELS: dict[str, Learn] = {
    **{f"optdigits-knn{count}": _nearest(count) for count in (1, 2, 3, 5)},
    "optdigits-svc": _support_vectors,
    "sms-pairs": _byte_pairs,
}
