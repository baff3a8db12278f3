"""Hints: a layer of the student follows a layer of the teacher, and only the student is exported."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

from app.domain.hints import average_places, averaging_matrix, hint_shapes
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import Network
from app.domain.optimize_specs import Hints
from app.domain.presets import build_network
from app.domain.specs import job_spec_adapter
from tests.worker.fakes import FakeReporter
from tests.worker.methods.jobs import Workshop, digits
from tests.worker.methods.kinds import workshop_of
from worker.learning import start_of
from worker.nn.architectures import build_model, extract_weights
from worker.nn.hints import ACTIVATION, PROJECTION, activation_engine, hinted, with_hint
from worker.nn.objectives import distillation_objective
from worker.nn.training import Rows, fit
from worker.optimize.hints import guide_of
from worker.rows import open_data

WIDE = {"type": "cnn", "filters": [16, 64], "dense": [16], "dropout": 0.0}
NARROW = {"type": "cnn", "filters": [4, 16], "dense": [8], "dropout": 0.0}
TRAINING = {"epochs": 2, "batch_size": 50, "optimizer": {"type": "adam", "learning_rate": 0.01}}
HINTS = {"student_layer": "conv2_relu", "teacher_layer": "conv2_relu"}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("hints")
    return Workshop(root / "jobs", digits(root / "digits", train=200))


@pytest.fixture(scope="module")
def wide(small):
    return small.run({"kind": "train", "name": "wide", "architecture": WIDE, "training": TRAINING})


def distillation(hints, student=NARROW, **options):
    method = {"method": "distill", "teacher": "wide/1", "student": student, "hints": hints, **options}
    return {"kind": "optimize", "name": "student", "method": method, "training": TRAINING}


def network_of(architecture, dataset) -> Network:
    spec = {"kind": "train", "name": "any", "dataset": "any", "architecture": architecture}
    return build_network(job_spec_adapter.validate_python(spec).architecture, dataset.dataset_schema)


def test_trap_07_a_student_of_16_channels_follows_64_through_a_projection_that_trains(small, wide, tmp_path):
    data, student = open_data(small.dataset), network_of(NARROW, small.dataset)
    guide = guide_of(Hints(**HINTS), wide.version(), student)
    assert (guide.shapes.student[-1], guide.shapes.teacher[-1]) == (16, 64)
    rows = np.asarray(data.x["train"])
    shown = guide.show(rows)
    model = build_model(student, start_of(student, data), seed=0)
    before = {name: values.copy() for name, values in extract_weights(model).items()}
    wrapped = with_hint(model, student, HINTS["student_layer"], guide.shapes, seed=0)
    labels = np.zeros((len(rows), 20), np.float32)  # neither labels nor a teacher: only the hint has a gradient
    objective = hinted(distillation_objective(temperature=1.0, alpha=0.0), outputs=10, targets=20, weight=1.0)
    training = job_spec_adapter.validate_python(
        {"kind": "train", "name": "a", "dataset": "a", "architecture": NARROW, "training": {**TRAINING, "epochs": 12}}
    ).training
    packed = np.concatenate([labels, shown], axis=1)
    nothing = Rows(rows, packed, selection_x=rows[:0], selection_targets=labels[:0])
    history = fit(
        wrapped,
        nothing,
        objective=objective,
        training=training,
        seed=0,
        reporter=FakeReporter(tmp_path / "checkpoints"),
    )
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    assert tuple(wrapped.get_layer(PROJECTION).kernel.shape) == (16, 64)
    moved = {name for name, values in extract_weights(model).items() if not np.array_equal(before[name], values)}
    assert {"conv1/kernel", "conv2/kernel"} <= moved
    assert "answer/kernel" not in moved


def test_the_projection_is_no_part_of_the_student(small, wide):
    job = small.run(distillation(HINTS, control=False), teacher=[wide.version()])
    plain = small.run(distillation(None, control=False), teacher=[wide.version()])
    own, other = (load_file(item.product.directory / "weights.safetensors") for item in (job, plain))
    assert own.keys() == other.keys()
    assert job.product.manifest.metrics.parameters == plain.product.manifest.metrics.parameters
    assert not np.array_equal(own["conv2/kernel"], other["conv2/kernel"])
    assert job.report["method"]["hints"] == {**HINTS, "weight": 1.0}


def test_a_hint_is_the_mean_squared_difference_beside_the_other_loss():
    rng = np.random.default_rng(0)
    plain = distillation_objective(temperature=2.0, alpha=0.5)
    targets, shown = np.eye(3, dtype=np.float32)[[0, 1]], rng.normal(size=(2, 4)).astype(np.float32)
    packed = np.concatenate([targets, np.log(np.full((2, 3), 1 / 3, np.float32))], axis=1)
    logits, followed = (rng.normal(size=(2, width)).astype(np.float32) for width in (3, 4))
    both = hinted(plain, outputs=3, targets=6, weight=2.5)
    answers = keras.ops.convert_to_tensor(np.concatenate([logits, followed], axis=1))
    found = both.loss(keras.ops.convert_to_tensor(np.concatenate([packed, shown], axis=1)), answers)
    own = np.asarray(plain.loss(keras.ops.convert_to_tensor(packed), keras.ops.convert_to_tensor(logits)))
    np.testing.assert_allclose(found, own + 2.5 * np.square(shown - followed).mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(both.loss(keras.ops.convert_to_tensor(packed), answers), own, rtol=1e-6)


@pytest.mark.parametrize("layer", ["conv1", "conv1_relu", "pool1", "flatten", "dense1", "answer"])
def test_the_teachers_activation_is_that_of_its_layer(small, wide, layer):
    version, data = wide.version(), open_data(small.dataset)
    network = Network.model_validate_json(version.files["network.json"].read_bytes())
    weights = load_file(version.files["weights.safetensors"])
    names = [part.name for part in network.layers]
    if layer not in names:
        pytest.skip(f"the layers are {names}")
    rows = np.asarray(data.x["train"][:8], np.float32)
    (found,) = activation_engine(network, weights, layer).run(rows, [ACTIVATION])
    model = build_model(network, weights, seed=0)
    part = network.layers[names.index(layer)]
    activation = getattr(part, "activation", "linear")
    behind = layer if activation == "linear" or part.type == "activation" else f"{layer}.{activation}"
    expected = keras.Model(model.inputs[0], model.get_layer(behind).output).predict_on_batch(rows)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("size", "fewer"), [(8, 4), (10, 4), (7, 7), (5, 1), (9, 2)])
def test_places_are_averaged_alike_for_teacher_and_student(size, fewer):
    matrix = averaging_matrix(size, fewer)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    assert (matrix > 0).any(axis=0).all()
    maps = np.random.default_rng(0).normal(size=(3, size, size, 2)).astype(np.float32)
    expected = np.einsum("ij,njkc,lk->nilc", matrix, maps, matrix)
    np.testing.assert_allclose(average_places(maps, (fewer, fewer)), expected, atol=1e-5)


def test_layers_of_other_places_and_ranks_are_brought_together(small):
    student, teacher = (network_of(item, small.dataset) for item in (NARROW, WIDE))
    first = hint_shapes(student, teacher, Hints(student_layer="conv1", teacher_layer="conv2"))
    assert first.places == (4, 4)
    vector = hint_shapes(student, teacher, Hints(student_layer="answer", teacher_layer="conv2"))
    assert (vector.places, vector.numbers) == ((), 64)
    rows = np.asarray(open_data(small.dataset).x["train"][:4], np.float32)
    for shapes, layer in ((first, "conv1"), (vector, "answer")):
        wrapped = with_hint(build_model(student, seed=0), student, layer, shapes, seed=0)
        assert wrapped(rows).shape == (4, 10 + shapes.numbers)


def test_a_layer_that_is_not_there_is_refused_with_those_that_are(small, wide):
    wrong = {**HINTS, "teacher_layer": "conv9"}
    with pytest.raises(MethodNotApplicableError, match="conv9") as refused:
        small.run(distillation(wrong), teacher=[wide.version()])
    assert "conv2" in refused.value.hint


def test_an_ensemble_gives_no_hints(small, wide):
    spec = {"kind": "ensemble", "name": "one", "method": {"method": "parallel", "members": [{"model": "wide/1"}]}}
    ensemble = small.run(spec, members=[wide.version()])
    with pytest.raises(MethodNotApplicableError, match="no layers of its own"):
        small.run(distillation(HINTS), teacher=[ensemble.version()])


@pytest.mark.parametrize("kind", ["signal", "text", "regression"])
def test_hints_work_on_every_kind_of_rows(kind, tmp_path):
    workshop = workshop_of(kind, tmp_path)
    architecture, layer = {
        "signal": ({"type": "cnn1d", "filters": [8, 8], "dropout": 0.0}, "conv2"),
        "text": ({"type": "textcnn", "embedding": 4, "filters": 8, "dropout": 0.0}, "conv2"),
        "regression": ({"type": "mlp", "hidden": [8, 8], "dropout": 0.0}, "dense2"),
    }[kind]
    teacher = workshop.run({"kind": "train", "name": "wide", "architecture": architecture, "training": TRAINING})
    smaller = {name: [4, 4] if isinstance(value, list) else value for name, value in architecture.items()}
    smaller |= {"filters": 4} if kind == "text" else {}
    hints = {"student_layer": layer, "teacher_layer": layer}
    job = workshop.run(distillation(hints, smaller, control=False), teacher=[teacher.version()])
    assert job.report["method"]["hints"]["teacher_layer"] == layer
