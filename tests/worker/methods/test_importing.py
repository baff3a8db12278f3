"""Models of others on real digits: imported, measured, and fused with a network that Leanfuse trained."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.domain.errors import ShapeMismatchError
from app.domain.fusion import weighted_mean
from app.domain.import_errors import InvalidModelError
from app.domain.job_errors import MethodNotApplicableError
from app.domain.models import GRAPH
from app.serving.alignment import align
from app.serving.packed import read_graph
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.jobs import Job, Workshop
from worker.package import file_ref
from worker.rows import Data, open_data

CLASSES = tuple("0123456789")
REVERSED = CLASSES[::-1]
FOREST = RandomForestClassifier(20, max_depth=8, random_state=0)
LOGISTIC = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))


@pytest.fixture(scope="session")
def data(workshop: Workshop) -> Data:
    return open_data(workshop.dataset)


def flat(data: Data, row_set: str) -> np.ndarray:
    return np.asarray(data.x[row_set]).reshape(len(data.x[row_set]), -1).astype(np.float32)


def convert(model: Any, data: Data, **options: Any) -> onnx.ModelProto:
    return to_onnx(model.fit(flat(data, "train"), data.y["train"]), flat(data, "train")[:1], **options)


def importing(workshop: Workshop, graph: onnx.ModelProto, name: str = "other", **options: Any) -> Job:
    path = workshop.root / f"{name}-{workshop.count}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.SerializeToString())
    file = file_ref(path).model_dump()
    return workshop.run({"kind": "import", "name": name, "file": file, **options}, file=path)


def linear(answer: str, *, shift: float = 0.0, fixed: bool = False) -> onnx.ModelProto:
    """Return a graph with an output of any name that is linear in the images, channels first, in double numbers."""
    kernel = np.random.default_rng(0).normal(size=(64, 10)) / 16
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "kernel"], ["product"]),
        helper.make_node("Add", ["product", "shift"], [answer]),
    ]
    stored = [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(np.full(10, shift), "shift")]
    taken = helper.make_tensor_value_info("pixels", TensorProto.DOUBLE, [1 if fixed else "n", 1, 8, 8])
    answered = helper.make_tensor_value_info(answer, TensorProto.DOUBLE, [1 if fixed else "n", 10])
    graph = helper.make_graph(nodes, "linear", [taken], [answered], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture(scope="session")
def forest(workshop: Workshop, data: Data) -> Job:
    return importing(workshop, convert(FOREST, data, options={"zipmap": False}), "forest")


@pytest.fixture(scope="session")
def logistic(workshop: Workshop, data: Data) -> Job:
    # With the map from labels to probabilities that scikit-learn's converter writes by default.
    return importing(workshop, convert(LOGISTIC, data, target_opset={"": 15, "ai.onnx.ml": 3}), "logistic")


def served(job: Job, rows: np.ndarray, output: str = "probabilities") -> np.ndarray:
    return predict_rows(load_engine(job.product.directory / GRAPH), rows, output)


@pytest.mark.parametrize(("name", "model"), [("forest", FOREST), ("logistic", LOGISTIC)])
def test_a_scikit_learn_model_serves_what_it_answered_where_it_was_made(
    name: str, model: Any, data: Data, request: pytest.FixtureRequest
) -> None:
    job = request.getfixturevalue(name)
    expected = model.predict_proba(flat(data, "report"))
    assert np.abs(served(job, data.x["report"]) - expected).max() < 1e-5
    manifest, report = job.product.manifest, job.report
    assert (manifest.kind, manifest.method, manifest.classes) == ("single", "import", CLASSES)
    assert manifest.metrics.accuracy == np.mean(expected.argmax(axis=1) == data.y["report"]) > 0.8
    assert manifest.metrics.parameters > 500
    assert (report["model"]["file"], report["baseline"]["verdict"]) == (GRAPH, "better")
    assert report["parity"]["max_difference"] < 1e-5
    assert report["method"]["rows"] == {"channels_first": False, "shape": [64]}


def test_foreign_graphs_and_a_trained_network_fuse_in_one_graph(
    workshop: Workshop, dense: Job, forest: Job, logistic: Job, data: Data
) -> None:
    jobs = [dense, forest, logistic]
    weights = [0.5, 0.2, 0.3]
    method = {
        "method": "parallel",
        "weights": weights,
        "members": [{"model": f"{job.product.name_hint}/1"} for job in jobs],
    }
    fused = workshop.run(
        {"kind": "ensemble", "calibrate": False, "method": method}, members=[job.version() for job in jobs]
    )
    rows = data.x["report"]
    answers = np.stack([served(job, rows) for job in jobs])
    expected = weighted_mean(answers.astype(np.float64), np.array(weights))
    assert np.abs(served(fused, rows) - expected).max() < 1e-5
    for place, own in enumerate(answers):
        assert np.abs(served(fused, rows, f"member.{place}.probabilities") - own).max() < 1e-5
    domains = {entry.domain for entry in read_graph(fused.product.directory / GRAPH).opset_import}
    assert domains == {"", "ai.onnx.ml"}


def with_labels(job: Job, classes: tuple[str, ...], directory: Path) -> Any:
    """Return a version that answers the same, with its labels in another order."""
    version = job.version()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / GRAPH
    path.write_bytes(align(read_graph(version.files[GRAPH]), CLASSES, classes).SerializeToString())
    manifest = version.manifest.model_copy(update={"classes": classes})
    return version.model_copy(update={"manifest": manifest, "files": {**version.files, GRAPH: path}})


@pytest.mark.parametrize("method", ["parallel", "stack"])
def test_members_with_labels_in_another_order_fuse_to_the_same_answers(
    method: str, workshop: Workshop, dense: Job, parent: Job, data: Data, tmp_path: Path
) -> None:
    """Catch the second half of trap 24: classes of members in another order."""
    options = {"weights": "convex"} if method == "parallel" else {"folds": 2}
    training = {"epochs": 1, "batch_size": 64}
    spec = {
        "kind": "ensemble",
        "training": training,
        "method": {"method": method, "members": [{"model": "mlp/1"}, {"model": "cnn/1"}], **options},
    }
    recipe = {"kind": "train", "name": "m", "dataset": "digits", "architecture": {"type": "mlp"}, "training": training}
    plain = [job.version().model_copy(update={"training_recipe": recipe}) for job in (dense, parent)]
    moved = [with_labels(dense, REVERSED, tmp_path).model_copy(update={"training_recipe": recipe}), plain[1]]
    expected = workshop.run(spec, members=plain)
    found = workshop.run(spec, members=moved)
    assert np.allclose(served(found, data.x["report"]), served(expected, data.x["report"]), atol=1e-6)
    assert found.accuracy == expected.accuracy
    assert found.product.manifest.classes == CLASSES


def test_a_member_of_other_labels_is_refused(workshop: Workshop, dense: Job) -> None:
    version = dense.version()
    other = version.model_copy(
        update={"manifest": version.manifest.model_copy(update={"classes": (*CLASSES[:-1], "ten")})}
    )
    method = {"method": "parallel", "members": [{"model": "mlp/1"}]}
    with pytest.raises(ShapeMismatchError):
        workshop.run({"kind": "ensemble", "method": method}, members=[other])


def test_classes_in_the_order_of_the_graph_are_moved_into_that_of_the_data_set(
    workshop: Workshop, data: Data, dense: Job
) -> None:
    graph = align(read_graph(dense.product.directory / GRAPH), CLASSES, REVERSED)
    job = importing(workshop, graph, classes=list(REVERSED))
    rows = data.x["report"]
    assert np.allclose(served(job, rows), served(dense, rows), atol=1e-6)
    assert job.product.manifest.metrics.accuracy == dense.product.manifest.metrics.accuracy


def test_labels_that_a_classifier_carries_tell_the_order(workshop: Workshop, data: Data) -> None:
    names = np.array([f"{9 - label}" for label in range(10)])
    turned = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100))
    x, y = flat(data, "train"), np.asarray(data.y["train"])
    job = importing(workshop, to_onnx(turned.fit(x, names[y]), x[:1]), classes=list(REVERSED))
    mirrored = importing(workshop, to_onnx(turned, x[:1]))
    assert mirrored.report["method"]["classes"] == list(CLASSES)
    assert mirrored.accuracy < 0.2, "its labels are other digits, and that is what is measured"
    assert job.accuracy > 0.9


def test_other_labels_of_a_classifier_are_refused(workshop: Workshop, data: Data) -> None:
    x, y = flat(data, "train"), np.asarray(data.y["train"])
    named = RandomForestClassifier(2, max_depth=2).fit(x, np.array([f"digit {label}" for label in y]))
    with pytest.raises(ShapeMismatchError, match="lacks '0'"):
        importing(workshop, to_onnx(named, x[:1]))


@pytest.mark.parametrize("fixed", [False, True])
def test_logits_are_told_by_real_rows_where_nothing_names_them(workshop: Workshop, data: Data, fixed: bool) -> None:
    job = importing(workshop, linear("scores", fixed=fixed))
    rows = np.asarray(data.x["report"])
    kernel = np.random.default_rng(0).normal(size=(64, 10)) / 16
    expected = rows.reshape(-1, 64) @ kernel
    assert job.report["method"]["answers"] == "logits"
    assert job.report["method"]["rows"] == {"channels_first": True, "shape": None}
    assert np.abs(served(job, rows, "logits") - expected).max() < 1e-3
    assert np.allclose(served(job, rows).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("answer", "shift", "told"), [("probabilities", 0.0, "does not sum to 1"), ("scores", np.nan, "NaN or infinity")]
)
def test_a_graph_that_answers_no_probabilities_is_refused(
    workshop: Workshop, answer: str, shift: float, told: str
) -> None:
    with pytest.raises(InvalidModelError, match=told):
        importing(workshop, linear(answer, shift=shift))


def test_a_regression_is_imported(regressions: Workshop) -> None:
    data = open_data(regressions.dataset)
    model = LinearRegression()
    job = importing(regressions, convert(model, data))
    expected = model.predict(flat(data, "report")).reshape(-1, 1)
    assert np.abs(served(job, data.x["report"], "prediction") - expected).max() < 1e-4
    assert job.product.manifest.metrics.rmse == pytest.approx(
        np.sqrt(np.mean((expected - data.y["report"]) ** 2)), rel=1e-4
    )


def test_an_imported_model_is_quantized_and_teaches(workshop: Workshop, dense: Job) -> None:
    job = importing(workshop, read_graph(dense.product.directory / GRAPH), "theirs")
    method = {"method": "quantize", "parent": "theirs/1", "mode": "dynamic_int8", "max_drop": 5.0}
    small = workshop.run({"kind": "optimize", "method": method}, parent=[job.version()])
    assert small.report["graph"]["int8_weight_fraction"] > 0.5
    assert small.product.manifest.rejected is None
    student = {"type": "mlp", "hidden": [8]}
    method = {"method": "distill", "teacher": "theirs/1", "student": student, "control": False}
    training = {"epochs": 2, "batch_size": 64}
    taught = workshop.run({"kind": "optimize", "method": method, "training": training}, teacher=[job.version()])
    assert taught.product.manifest.links[0].role == "teacher"


def test_trees_cannot_be_quantized_but_say_so(workshop: Workshop, forest: Job) -> None:
    method = {"method": "quantize", "parent": "forest/1", "mode": "dynamic_int8"}
    with pytest.raises(MethodNotApplicableError):
        workshop.run({"kind": "optimize", "method": method}, parent=[forest.version()])
