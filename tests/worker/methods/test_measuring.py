"""What a report says was measured: on the served file, in a fresh process, and again the same from disk."""

import gzip
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.domain import quality
from app.domain.errors import JobError
from app.domain.models import served_file
from app.serving.packed import pack
from tests.worker.methods.conftest import TRAINING
from tests.worker.methods.jobs import Workshop
from worker.measure import Request, measure
from worker.package import file_ref

JUDGED = ("accuracy", "accuracy_interval", "nll", "brier", "ece", "served_bytes", "gzip_bytes")
BY_HAND = """
import json, sys
import numpy as np
import onnxruntime
graph, rows, labels = sys.argv[1:]
x, y = np.load(rows).astype(np.float32), np.load(labels)
p = onnxruntime.InferenceSession(graph).run(["probabilities"], {"x": x})[0].astype(np.float64)
right = p.argmax(1) == y
print(json.dumps({
    "accuracy": float(right.mean()),
    "nll": float(-np.log(p[np.arange(len(y)), y]).mean()),
    "brier": float(np.square(p - np.eye(10)[y]).sum(1).mean()),
}))
"""


def request_of(workshop: Workshop, model, directory, **given) -> Request:
    files = workshop.dataset.files
    answers = directory / "answers.npy"
    options = {"rows": files["report_x"], "targets": files["report_y"], "task": "classification", **given}
    return Request(model=model, answers=answers, **options)


def dense_graph(inputs: int, *, units: int) -> onnx.ModelProto:
    """Return a graph that multiplies flattened rows by a matrix, then by another one."""
    rng = np.random.default_rng(0)
    wide = numpy_helper.from_array(rng.normal(size=(inputs, units)).astype(np.float32), "wide/kernel")
    narrow = numpy_helper.from_array(rng.normal(size=(units, 10)).astype(np.float32), "narrow/kernel")
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "wide/kernel"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "narrow/kernel"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8, 8, 1])
    given = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "dense", [taken], [given], [wide, narrow])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_trap_37_a_version_measured_again_from_disk_has_the_reported_figures(workshop, parent, tmp_path):
    directory, metrics = parent.product.directory, parent.report["metrics"]
    served = directory / served_file(parent.product.manifest.files)
    again = measure(request_of(workshop, served, tmp_path))
    assert json.loads(again.figures.model_dump_json(include=set(JUDGED))) == {name: metrics[name] for name in JUDGED}
    assert again.quality == parent.report["quality"]
    assert again.sha256 == parent.report["model"]["sha256"] == file_ref(served).sha256


def test_trap_37_the_figures_are_those_that_other_code_finds_in_another_process(workshop, parent):
    graph = parent.product.directory / "model.onnx"
    files = workshop.dataset.files
    command = [sys.executable, "-c", BY_HAND, str(graph), str(files["report_x"]), str(files["report_y"])]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    metrics = parent.report["metrics"]
    assert found["accuracy"] == metrics["accuracy"]
    assert metrics["nll"] == pytest.approx(found["nll"], rel=1e-5)
    assert metrics["brier"] == pytest.approx(found["brier"], rel=1e-5)


def test_trap_40_sizes_are_those_of_the_file_that_the_report_names(parent):
    report, manifest = parent.report, parent.product.manifest
    path = parent.product.directory / report["model"]["file"]
    assert report["model"] == {"file": served_file(manifest.files), **file_ref(path).model_dump()}
    assert manifest.metrics.served_bytes == path.stat().st_size
    assert manifest.metrics.gzip_bytes == len(gzip.compress(path.read_bytes(), 6, mtime=0))
    assert manifest.metrics.weights_bytes == manifest.files["weights.safetensors"].size_bytes


def test_a_report_tells_of_every_class_and_of_calibration(workshop, parent):
    told = parent.report["quality"]
    confusion = np.array(told["confusion"])
    labels = np.load(workshop.dataset.files["report_y"])
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(labels))
    assert np.trace(confusion) / len(labels) == pytest.approx(parent.accuracy)
    assert [found["support"] for found in told["by_class"]] == np.bincount(labels).tolist()
    assert told["matthews_correlation"] == quality.matthews_correlation(confusion) > 0.8
    assert sum(found["rows"] for found in told["calibration"]["bins"]) == len(labels)
    assert 0 <= parent.report["metrics"]["ece"] < 0.2


def test_a_regression_is_told_by_its_errors(regressions):
    spec = {"kind": "train", "architecture": {"type": "mlp", "hidden": [16]}, "training": {**TRAINING, "epochs": 2}}
    job = regressions.run(spec)
    answers = np.load(job.assignment.scratch / "model.answers.npy")
    targets = np.load(regressions.dataset.files["report_y"])
    told = job.report["quality"]
    assert told["mae"] == pytest.approx(np.abs(answers - targets).mean(), rel=1e-5)
    assert told["r2"] == pytest.approx(
        1 - np.square(answers - targets).sum() / np.square(targets - targets.mean()).sum()
    )
    assert job.report["metrics"]["brier"] is None


def test_a_report_names_the_parameters_and_work_of_its_graph(parent):
    told, metrics = parent.report["graph"], parent.product.manifest.metrics
    assert (told["parameters"], told["macs"]) == (metrics.parameters, metrics.macs)
    assert told["int8_weight_fraction"] == 0


def test_times_come_in_order_and_throughput_belongs_to_a_batch(parent):
    metrics = parent.product.manifest.metrics
    assert metrics.latency_ms_batch_1 <= metrics.latency_ms_batch_1_p95
    assert metrics.latency_ms_batch_32 <= metrics.latency_ms_batch_32_p95
    assert metrics.latency_ms_batch_1 < metrics.latency_ms_batch_32
    assert metrics.rows_per_second > 0


def test_a_rival_that_does_a_hundred_times_the_work_takes_more_time(workshop, tmp_path):
    paths = [tmp_path / f"{units}.onnx" for units in (64, 12_800)]
    for path, units in zip(paths, (64, 12_800), strict=True):
        onnx.save(dense_graph(64, units=units), path)
    speed = measure(request_of(workshop, paths[0], tmp_path, rival=paths[1])).speed
    assert speed["ratio_batch_32"] > 2
    low, high = speed["ratio_batch_32_interval"]
    assert 1 < low <= speed["ratio_batch_32"] <= high
    assert speed["verdict_batch_32"] == "faster"
    assert speed["against_latency_ms_batch_32"] > 0


def test_a_version_is_timed_in_turns_with_its_parent(workshop, parent):
    method = {"method": "distill", "teacher": "cnn/1", "student": {"type": "mlp", "hidden": [8]}, "control": False}
    spec = {"kind": "optimize", "method": method, "training": {**TRAINING, "epochs": 1}}
    report = workshop.run(spec, teacher=[parent.version()]).report
    speed, words = report["speed"], ("Faster", "Slower", "No difference in time")
    assert speed["against"] == "its teacher cnn/1"
    assert [line.startswith(words) for line in report["verdict"]["summary"][-2:]] == [True, True]
    assert all("its teacher cnn/1" in line for line in report["verdict"]["summary"][-2:])
    assert speed["ratio_batch_1"] > 0
    assert parent.report["speed"] is None


def test_memory_counts_the_model_and_not_the_process_that_asked(workshop, tmp_path):
    held = np.ones(60_000_000)  # 480 MB that belong to the asking process alone
    found = {}
    for units in (10, 200_000):
        path = tmp_path / f"{units}.onnx"
        onnx.save(dense_graph(64, units=units), path)
        found[units] = measure(request_of(workshop, path, tmp_path)).memory
    weights = 4 * 200_000 * 74
    assert found[10]["peak_bytes"] < held.nbytes
    assert found[200_000]["added_bytes"] > found[10]["added_bytes"] + 0.9 * weights
    assert found[200_000]["peak_bytes"] > found[200_000]["added_bytes"]


def test_a_packed_file_is_measured_as_it_is(workshop, parent, tmp_path):
    packed = tmp_path / "model.packed"
    packed.write_bytes(pack(onnx.load(parent.product.directory / "model.onnx")))
    found = measure(request_of(workshop, packed, tmp_path))
    assert found.figures.accuracy == parent.accuracy
    assert found.figures.served_bytes == packed.stat().st_size
    assert found.sha256 == file_ref(packed).sha256


def test_a_file_that_is_no_graph_fails_the_job(workshop, tmp_path):
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(JobError, match="could not be measured"):
        measure(request_of(workshop, broken, tmp_path))
