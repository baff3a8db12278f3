import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from app.domain import layers as ly
from app.domain.job_errors import MethodNotApplicableError
from app.domain.network import InputSpec, Network, trace
from app.domain.presets import CNN, build_network
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.jobs import Workshop, report_of
from tests.worker.methods.kinds import ARCHITECTURES, workshop_of
from tests.worker.methods.kinds import TRAINING as SHORT
from tests.worker.methods.test_sharing import DIGITS, random_weights
from worker.measure import Request, measure
from worker.nn.export import to_onnx
from worker.optimize.quantize import calibration_rows
from worker.optimize.quantizing import calibrate, to_float16, to_static_int8, weighted_layers
from worker.optimize.tidying import fold_batch_norms, tidy
from worker.package import file_ref
from worker.rows import open_data

PRUNE = {"method": "prune", "ratio": 0.3, "rounds": 1}


def quantized(workshop: Workshop, version, mode="static_int8", **options):
    method = {"method": "quantize", "parent": "parent", "mode": mode, "max_drop": None, **options}
    return workshop.run({"kind": "optimize", "method": method}, parent=[version])


@pytest.fixture(scope="module")
def static(workshop, parent):
    return quantized(workshop, parent.version(), max_drop=2.0)


@pytest.fixture(scope="module")
def rows(workshop):
    return open_data(workshop.dataset)


def stored(product) -> dict[str, np.ndarray]:
    graph = onnx.load(product.directory / "model.onnx")
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def logits(graph: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return predict_rows(load_engine(graph.SerializeToString()), x, "logits")


def served(product, x: np.ndarray, output: str = "probabilities") -> np.ndarray:
    (path,) = product.directory.glob("model.*")
    return predict_rows(load_engine(path), x, output)


def test_trap_35_calibration_rows_come_from_train_and_from_the_seed(rows):
    train = {row.tobytes() for row in rows.x["train"].astype(np.float32)}
    drawn = [calibration_rows(rows, count=200, seed=seed) for seed in (0, 0, 1)]
    assert all({row.tobytes() for row in found} <= train for found in drawn)
    assert len(drawn[0]) == 200
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert len(calibration_rows(rows, count=10**5, seed=0)) == len(rows.x["train"])


def test_trap_35_calibration_on_what_is_no_data_ruins_the_model_at_the_same_size(parent, rows, tmp_path):
    graph = fold_batch_norms(onnx.load(parent.product.directory / "model.onnx"))
    real = calibration_rows(rows, count=200, seed=0)
    noise = np.random.default_rng(0).normal(0, 0.1, real.shape).astype(np.float32)
    accuracy, sizes = [], []
    for number, calibration in enumerate((real, 0 * real, noise)):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = calibrate(graph, calibration, folder, per_channel=True)
        int8 = tidy(to_static_int8(made, list(weighted_layers(graph))))
        answers = logits(int8, rows.x["selection"])
        accuracy.append((answers.argmax(axis=1) == rows.y["selection"]).mean())
        sizes.append(int8.ByteSize())
    plain = (logits(graph, rows.x["selection"]).argmax(axis=1) == rows.y["selection"]).mean()
    assert accuracy[0] > plain - 0.03
    assert max(accuracy[1:]) < accuracy[0] - 0.2
    assert max(sizes) - min(sizes) < 0.02 * max(sizes)


def test_trap_36_the_report_says_which_numbers_of_the_file_are_int8(static, parent):
    arrays, method = stored(static.product), static.report["method"]
    weights = [array for array in arrays.values() if array.ndim >= 2]
    int8 = sum(array.size for array in weights if array.dtype == np.int8)
    assert method["int8_weight_fraction"] == pytest.approx(int8 / sum(array.size for array in weights))
    assert method["int8_weight_fraction"] > 0.95
    for name, entry in method["dtypes"].items():
        found = [array for array in arrays.values() if array.dtype == name]
        assert entry == {"tensors": len(found), "numbers": sum(array.size for array in found)}
    assert set(method["int8_layers"]) == {"layer.conv2", "layer.dense1", "layer.answer"}
    assert set(method["left_float"]) == {"layer.conv1"}
    kernels = [array for array in weights if array.ndim == 4]
    assert sorted(str(array.dtype) for array in kernels) == ["float32", "int8"]
    assert report_of(parent.product)["method"].get("int8_weight_fraction") is None


def test_trap_37_figures_are_those_of_the_int8_file_itself(static, parent, workshop, rows, tmp_path):
    path = static.product.directory / "model.onnx"
    assert static.report["model"]["sha256"] == file_ref(path).sha256
    assert static.product.manifest.metrics.served_bytes == path.stat().st_size
    files = workshop.dataset.files
    again = measure(
        Request(
            model=path,
            rows=files["report_x"],
            targets=files["report_y"],
            task="classification",
            answers=tmp_path / "answers.npy",
        )
    )
    assert again.figures.accuracy == static.product.manifest.metrics.accuracy
    assert again.figures.nll == pytest.approx(static.product.manifest.metrics.nll)
    answers = np.load(tmp_path / "answers.npy")
    assert not np.array_equal(answers, served(parent.product, rows.x["report"]))


def test_trap_40_sizes_are_compared_between_files_of_one_format(static, parent):
    before, after = (job.product.directory / "model.onnx" for job in (parent, static))
    assert static.report["method"]["parent"]["served_bytes"] == before.stat().st_size
    assert 2.5 * after.stat().st_size < before.stat().st_size
    assert static.product.manifest.metrics.weights_bytes == 0
    assert set(static.product.manifest.files) == {"model.onnx", "report.json"}


def test_an_int8_model_answers_as_its_parent_does(static, parent, rows):
    graphs = [onnx.load(job.product.directory / "model.onnx").graph for job in (parent, static)]
    for field in ("input", "output"):
        assert list(getattr(graphs[0], field)) == list(getattr(graphs[1], field))
    before, after = (served(job.product, rows.x["report"], "logits") for job in (parent, static))
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.97
    assert len(np.unique(after)) > 256  # nothing rounds the answers to 8 bits
    manifest = static.product.manifest
    assert (manifest.kind, manifest.links[0].role) == ("single", "parent")


def norms_of(job):
    """Return the channels of the parent's normalizations, and what these multiply per row."""
    network = Network.model_validate_json((job.product.directory / "network.json").read_bytes())
    traced = trace(network)
    norms = [layer.name for layer in network.layers if isinstance(layer, ly.BatchNorm)]
    return sum(traced.shapes[name][-1] for name in norms), sum(traced.macs_by_layer[name] for name in norms)


def test_trap_40_the_counts_are_those_of_the_served_file_in_which_normalization_is_folded(static, parent):
    before, after = (job.product.manifest.metrics for job in (parent, static))
    channels, work = norms_of(parent)
    assert work > 0
    assert after.parameters == before.parameters - 3 * channels  # gamma, beta, mean and variance become one bias
    assert after.macs == before.macs - work
    graph = static.report["graph"]
    assert (graph["parameters"], graph["macs"]) == (after.parameters, after.macs)


@pytest.mark.parametrize("mode", ["static_int8", "dynamic_int8", "float16"])
def test_trap_40_a_network_in_which_nothing_is_folded_counts_as_before(workshop, dense, mode):
    before, after = (job.product.manifest.metrics for job in (dense, quantized(workshop, dense.version(), mode)))
    assert (after.parameters, after.macs) == (before.parameters, before.macs)


def test_trap_36_the_graph_of_a_quantized_report_says_which_bytes_are_int8(static, workshop, dense, parent):
    chain = {"method": "chain", "parent": "parent", "max_drop": None, "steps": [PRUNE, {"method": "quantize"}]}
    chained = workshop.run({"kind": "optimize", "method": chain, "training": SHORT}, parent=[dense.version()])
    spec = {"kind": "ensemble", "method": {"method": "parallel", "members": [{"model": "a/1"}, {"model": "b/1"}]}}
    fused = workshop.run(spec, members=[parent.version(), dense.version()])
    for job in (static, chained, quantized(workshop, fused.version(), max_drop=2.0)):
        graph, metrics = job.report["graph"], job.product.manifest.metrics
        assert graph["int8_weight_fraction"] > 0.7
        assert graph["bytes_by_type"]["int8"] > 0.5 * metrics.parameters
        assert (graph["parameters"], graph["macs"]) == (metrics.parameters, metrics.macs)


def test_equal_jobs_make_equal_files(static, workshop, parent):
    again = quantized(workshop, parent.version(), max_drop=2.0)
    assert again.product.manifest.files["model.onnx"] == static.product.manifest.files["model.onnx"]


def with_an_outlier(job, folder):
    """Return a version of equal answers in which one channel is a thousand times as large as the others."""
    weights = load_file(job.product.directory / "weights.safetensors")
    for name in ("gamma", "beta"):
        weights[f"conv1_norm/{name}"][0] *= 1000
    weights["conv2/kernel"][:, :, 0] /= 1000
    network = Network.model_validate_json((job.product.directory / "network.json").read_bytes())
    onnx.save(to_onnx(network, weights), folder / "model.onnx")
    version = job.version()
    return version.model_copy(update={"files": version.files | {"model.onnx": folder / "model.onnx"}})


def test_the_layers_that_lose_most_stay_float(workshop, parent, tmp_path):
    version = with_an_outlier(parent, tmp_path)
    blind = quantized(workshop, version, max_drop=1.0, fall_back=False)
    careful = quantized(workshop, version, max_drop=1.0)
    method = careful.report["method"]
    assert blind.accuracy < careful.accuracy - 0.05
    assert method["left_float"]["layer.conv2"] == "among the layers that lose most"
    assert "layer.dense1" in method["int8_layers"]
    assert method["selection_drop"] <= 1.0
    assert any("layer.conv2 stays float" in line for line in careful.reporter.lines)


def test_dynamic_int8_is_for_dense_layers_and_says_so(workshop, parent):
    job = quantized(workshop, parent.version(), "dynamic_int8")
    method, arrays = job.report["method"], stored(job.product)
    assert set(method["int8_layers"]) == {"layer.dense1", "layer.answer"}
    assert set(method["left_float"]) == {"layer.conv1", "layer.conv2"}
    assert all(array.dtype == np.float32 for array in arrays.values() if array.ndim == 4)
    assert [array.dtype for array in arrays.values() if array.ndim == 2] == [np.int8, np.int8]
    assert abs(job.accuracy - parent.accuracy) < 0.02


def test_float16_saves_bytes_and_claims_no_time(workshop, parent):
    job = quantized(workshop, parent.version(), "float16")
    assert job.report["method"]["saves"].startswith("bytes, not time")
    assert job.report["method"]["int8_weight_fraction"] == 0
    assert job.report["method"]["dtypes"]["float16"]["numbers"] > 3000
    assert job.product.manifest.metrics.served_bytes < 0.6 * parent.product.manifest.metrics.served_bytes
    assert abs(job.accuracy - parent.accuracy) < 0.01


def test_what_float16_cannot_hold_stays_float32():
    network = Network(input=InputSpec(shape=(80,)), layers=(ly.Dense(name="answer", units=3),), classes=3)
    weights = random_weights(network)
    small, large = (to_onnx(network, weights | {"answer/kernel": weights["answer/kernel"] * k}) for k in (1, 1e6))
    kinds = [{tensor.data_type for tensor in to_float16(graph).graph.initializer} for graph in (small, large)]
    assert kinds == [{TensorProto.FLOAT16, TensorProto.FLOAT}, {TensorProto.FLOAT}]
    x = np.ones((2, 80), np.float32)
    np.testing.assert_allclose(logits(to_float16(small), x), logits(small, x), rtol=0.01, atol=0.01)


def test_a_fused_ensemble_is_quantized_with_its_members_answers(workshop, parent, dense, rows):
    spec = {
        "kind": "ensemble",
        "calibrate": False,
        "method": {"method": "parallel", "members": [{"model": "a/1"}, {"model": "b/1"}]},
    }
    fused = workshop.run(spec, members=[parent.version(), dense.version()])
    job = quantized(workshop, fused.version(), max_drop=2.0)
    manifest, x = job.product.manifest, rows.x["report"]
    assert (manifest.kind, [link.role for link in manifest.links]) == ("ensemble", ["parent", "member", "member"])
    weights = [link.weight for link in manifest.links[1:]]
    parts = [served(job.product, x, f"member.{place}.probabilities") for place in (0, 1)]
    mean = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(served(job.product, x), mean, atol=1e-5)
    assert manifest.metrics.served_bytes < 0.4 * fused.product.manifest.metrics.served_bytes


def test_a_quantized_model_is_a_member_like_others(workshop, static, dense):
    spec = {"kind": "ensemble", "method": {"method": "parallel", "members": [{"model": "a/1"}, {"model": "b/1"}]}}
    fused = workshop.run(spec, members=[static.version(), dense.version()])
    assert fused.report["parity"]["max_difference"] < 1e-5
    assert fused.accuracy > 0.9


def test_a_regression_is_quantized_within_its_gate(regressions):
    spec = {"kind": "train", "name": "wave", "architecture": {"type": "mlp", "hidden": [64, 64]}, "training": SHORT}
    job = quantized(regressions, regressions.run(spec).version(), max_drop=20)
    assert job.report["method"]["selection_drop"] <= 20
    assert job.report["method"]["int8_layers"]


@pytest.mark.parametrize("kind", ["signal", "text", "table"])
def test_rows_of_every_kind_are_quantized(kind, tmp_path):
    workshop = workshop_of(kind, tmp_path)
    architecture = {"type": "mlp", "hidden": [40, 40]} if kind == "table" else ARCHITECTURES[kind]
    parent = workshop.run({"kind": "train", "name": "net", "architecture": architecture, "training": SHORT})
    job = quantized(workshop, parent.version(), max_drop=3.0)
    # The embedding of text stays float.
    assert job.report["method"]["int8_weight_fraction"] > (0.2 if kind == "text" else 0.5)
    assert job.product.manifest.input == parent.product.manifest.input
    assert job.product.manifest.metrics.served_bytes < parent.product.manifest.metrics.served_bytes


def test_a_fast_transform_in_front_is_counted_as_before(tmp_path):
    workshop = workshop_of("audio", tmp_path)
    architecture = {"type": "mlp", "hidden": [40], "dropout": 0.0}
    parent = workshop.run({"kind": "train", "name": "net", "architecture": architecture, "training": SHORT})
    job = quantized(workshop, parent.version(), "dynamic_int8")
    before, after = (made.product.manifest.metrics for made in (parent, job))
    assert (after.parameters, after.macs) == (before.parameters, before.macs)
    assert job.report["graph"]["transform_macs"] == parent.report["graph"]["transform_macs"] > 0


def test_a_quantized_model_is_neither_quantized_again_nor_rewritten(workshop, static):
    with pytest.raises(MethodNotApplicableError, match="is quantized already"):
        quantized(workshop, static.version())
    spec = {"kind": "optimize", "method": {"method": "cluster", "parent": "x"}, "training": SHORT}
    with pytest.raises(MethodNotApplicableError, match="no float weights left"):
        workshop.run(spec, parent=[static.version()])


def test_batch_normalization_is_folded_without_a_change():
    network = build_network(CNN(filters=(4, 8), dense=(16,)), DIGITS)
    graph = to_onnx(network, random_weights(network))
    folded = fold_batch_norms(graph)
    assert "BatchNormalization" in {node.op_type for node in graph.graph.node}
    assert "BatchNormalization" not in {node.op_type for node in folded.graph.node}
    assert len(folded.graph.initializer) < len(graph.graph.initializer)
    x = np.random.default_rng(0).uniform(0, 16, (20, 8, 8, 1)).astype(np.float32)
    expected = logits(graph, x)
    np.testing.assert_allclose(logits(folded, x), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_kernel_of_two_places_is_not_folded_into_two():
    conv = {"filters": 1, "weights": "shared", "use_bias": False}
    layers = (
        ly.Conv2D(name="one", **conv),
        ly.BatchNorm(name="norm"),
        ly.Conv2D(name="two", **conv),
        ly.Flatten(name="flat"),
        ly.Dense(name="answer", units=3),
    )
    network = Network(input=InputSpec(shape=(8, 8, 1)), layers=layers, classes=3)
    graph = to_onnx(network, random_weights(network))
    assert fold_batch_norms(graph).graph.node == graph.graph.node


def test_tidying_changes_names_and_nothing_else(static, rows):
    graph = onnx.load(static.product.directory / "model.onnx")
    wordy = onnx.ModelProto()
    wordy.CopyFrom(graph)
    wordy.doc_string = "words"
    for place, node in enumerate(wordy.graph.node):
        node.name, node.doc_string = f"a.long.name.{place}", "words"
    helper.set_model_props(wordy, {"more": "words"})
    assert tidy(wordy) == graph
    np.testing.assert_array_equal(logits(wordy, rows.x["selection"]), logits(graph, rows.x["selection"]))
