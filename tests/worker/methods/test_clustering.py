import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

from app.serving.packed import is_packed_file, pack, read_graph
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.conftest import TRAINING
from tests.worker.methods.kinds import ARCHITECTURES, workshop_of
from tests.worker.methods.kinds import TRAINING as SHORT
from worker.optimize.clustering import cluster_kernels, code_sizes, find_codebook
from worker.rows import open_data

FEW = 8
BRIEF = {**TRAINING, "epochs": 2}


def clustered(workshop, version, clusters=FEW, training=BRIEF, **options):
    method = {"method": "cluster", "parent": "parent", "clusters": clusters, "max_drop": None, **options}
    return workshop.run({"kind": "optimize", "method": method, "training": training}, parent=[version])


def weights_of(product) -> dict[str, np.ndarray]:
    return load_file(product.directory / "weights.safetensors")


def kernels_of(product) -> dict[str, np.ndarray]:
    return {name: values for name, values in weights_of(product).items() if name.endswith("kernel")}


def stored(graph: onnx.ModelProto, axes: int) -> list[np.ndarray]:
    found = [numpy_helper.to_array(tensor) for tensor in graph.graph.initializer]
    return [array for array in found if array.ndim >= axes and array.size > 1]  # not the mean of the rows


@pytest.fixture(scope="module")
def sparse(dense, tmp_path_factory):
    """A version of which nine weights of ten are zero."""
    folder = tmp_path_factory.mktemp("sparse")
    weights = weights_of(dense.product)
    for name, kernel in weights.items():
        if name.endswith("kernel"):
            weights[name] = np.where(np.abs(kernel) < np.quantile(np.abs(kernel), 0.9), np.float32(0), kernel)
    save_file(weights, folder / "weights.safetensors")
    version = dense.version()
    return version.model_copy(update={"files": version.files | {"weights.safetensors": folder / "weights.safetensors"}})


@pytest.fixture(scope="module")
def coded(workshop, parent):
    return clustered(workshop, parent.version())


@pytest.fixture(scope="module")
def sparse_coded(workshop, sparse):
    return clustered(workshop, sparse)


@given(
    arrays.arrays(np.float32, st.integers(1, 300), elements=st.floats(-3, 3, width=32, allow_subnormal=False)),
    st.sampled_from([2, 3, 16, 256]),
)
@settings(deadline=None)  # the first call loads scikit-learn
def test_a_codebook_has_few_values_and_zeros_keep_theirs(values, clusters):
    codebook, places = find_codebook(values, clusters=clusters, seed=0)
    found = codebook[places]
    assert len(codebook) <= clusters
    assert np.all(np.diff(codebook) > 0)
    np.testing.assert_array_equal(found == 0, values == 0)
    if len(np.unique(values)) <= clusters:
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("seed", range(3))
def test_every_weight_takes_the_nearest_value(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=2000).astype(np.float32)
    codebook, places = find_codebook(values, clusters=16, seed=0)
    nearest = np.abs(values[:, None] - codebook).min(axis=1)
    assert np.abs(values - codebook[places]).mean() < 1.02 * nearest.mean()
    assert np.square(values - codebook[places]).mean() < 0.02


def test_equal_seeds_find_equal_codebooks():
    kernels = {"a/kernel": np.random.default_rng(0).normal(size=(400, 300)).astype(np.float32)}
    one, two = (cluster_kernels(kernels, ["a/kernel"], clusters=16, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.weights["a/kernel"], two.weights["a/kernel"])
    for group in np.unique(one.groups["a/kernel"]):
        assert len(np.unique(one.weights["a/kernel"][one.groups["a/kernel"] == group])) == 1


def test_trap_38_kernels_keep_few_values_through_fine_tuning_and_on_disk(coded, parent):
    before = kernels_of(parent.product)
    for name, kernel in kernels_of(coded.product).items():
        assert len(np.unique(kernel)) <= FEW < len(np.unique(before[name]))
    graph = read_graph(coded.product.directory / "model.packed")
    served = sorted(np.unique(array).tobytes() for array in stored(graph, 2))
    assert served == sorted(np.unique(kernel).tobytes() for kernel in kernels_of(coded.product).values())


def test_trap_38_what_is_served_is_codebook_and_coded_indices(coded, parent):
    assert set(coded.product.manifest.files) == {"network.json", "weights.safetensors", "model.packed", "report.json"}
    assert is_packed_file(coded.product.directory / "model.packed")
    plain = parent.product.manifest.metrics.served_bytes
    assert coded.product.manifest.metrics.served_bytes < plain / 5
    for name, entry in coded.report["method"]["kernels"].items():
        count, values = entry["numbers"], entry["values"]
        formula = -(-count * int(np.ceil(np.log2(values))) // 8) + 4 * values
        assert formula < entry["codebook_and_indices_bytes"] <= formula + 6, name
        assert entry["coded_bytes"] <= entry["codebook_and_indices_bytes"]


def test_trap_38_sparsity_is_kept(sparse_coded, sparse):
    before = load_file(sparse.files["weights.safetensors"])
    for name, kernel in kernels_of(sparse_coded.product).items():
        np.testing.assert_array_equal(kernel == 0, before[name] == 0)
        assert len(np.unique(kernel)) <= FEW
        entry = sparse_coded.report["method"]["kernels"][name]
        assert entry["zeros"] == np.count_nonzero(before[name] == 0)
        assert entry["coded_bytes"] < 0.6 * entry["codebook_and_indices_bytes"]


def test_fine_tuning_wins_back_what_few_values_lose(workshop, parent):
    job = clustered(workshop, parent.version(), clusters=3, training=TRAINING)
    method = job.report["method"]
    before, after = (method[name]["selection_accuracy"] for name in ("before_fine_tuning", "after_fine_tuning"))
    assert after > before
    assert method["saves"].startswith("bytes, not time")


def test_clustering_goes_on_from_a_clustered_parent(workshop, coded):
    again = clustered(workshop, coded.version(), learn_from="parent")
    assert all(len(np.unique(kernel)) <= FEW for kernel in kernels_of(again.product).values())
    assert again.accuracy > 0.85


def test_a_quantized_codebook_stays_one_and_stays_packed(workshop, sparse_coded):
    method = {"method": "quantize", "parent": "x", "max_drop": 5.0}
    job = workshop.run({"kind": "optimize", "method": method}, parent=[sparse_coded.version()])
    assert set(job.product.manifest.files) == {"model.packed", "report.json"}
    kernels = stored(read_graph(job.product.directory / "model.packed"), 2)
    assert {str(kernel.dtype) for kernel in kernels} == {"int8"}
    assert all(len(np.unique(kernel)) <= FEW for kernel in kernels)
    before = sorted(np.count_nonzero(kernel) for kernel in kernels_of(sparse_coded.product).values())
    assert sorted(np.count_nonzero(kernel) for kernel in kernels) == before


def test_a_packed_member_is_fused_and_the_fusion_packed(workshop, coded, sparse_coded):
    spec = {"kind": "ensemble", "method": {"method": "parallel", "members": [{"model": "a/1"}, {"model": "b/1"}]}}
    fused = workshop.run(spec, members=[coded.version(), sparse_coded.version()])
    assert {"model.packed", "recipe.json", "report.json"} == set(fused.product.manifest.files)
    sizes = [job.product.manifest.metrics.served_bytes for job in (coded, sparse_coded, fused)]
    assert sizes[2] < 1.2 * (sizes[0] + sizes[1])


def test_a_packed_version_serves_and_teaches_like_others(workshop, coded):
    x = open_data(workshop.dataset).x["report"][:50]
    path = coded.product.directory / "model.packed"
    plain = load_engine(read_graph(path).SerializeToString())
    np.testing.assert_array_equal(*(predict_rows(engine, x, "probabilities") for engine in (load_engine(path), plain)))
    method = {"method": "distill", "teacher": "x", "student": {"type": "mlp", "hidden": [16]}, "control": False}
    student = workshop.run({"kind": "optimize", "method": method, "training": BRIEF}, teacher=[coded.version()])
    assert set(student.product.manifest.files) >= {"model.onnx"}


def test_code_sizes_count_what_is_written():
    kernel = np.repeat(np.float32([0, 1, 2, 3]), 1000).reshape(40, 100)
    sizes = code_sizes(kernel)
    assert (sizes["values"], sizes["numbers"], sizes["zeros"], sizes["float32_bytes"]) == (4, 4000, 1000, 16000)
    assert 1000 + 16 < sizes["codebook_and_indices_bytes"] <= 1000 + 16 + 6
    assert len(pack(onnx.ModelProto())) < 60


@pytest.mark.parametrize("kind", ["signal", "text", "table", "regression"])
def test_rows_of_every_kind_are_clustered(kind, tmp_path):
    workshop = workshop_of(kind, tmp_path)
    parent = workshop.run({"kind": "train", "name": "net", "architecture": ARCHITECTURES[kind], "training": SHORT})
    job = clustered(workshop, parent.version(), training={**SHORT, "epochs": 2})
    found = weights_of(job.product)
    assert job.report["method"]["kernels"]
    assert all(len(np.unique(found[name])) <= FEW for name in job.report["method"]["kernels"])
    assert (job.product.directory / "model.packed").exists()
