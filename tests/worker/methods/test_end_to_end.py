"""Every method on real handwritten digits: from a spec to files that serve."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

from app.domain.errors import ShapeMismatchError
from app.domain.job_errors import MethodNotApplicableError, NoGainError
from app.domain.network import Network, trace
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.conftest import SMALL_MLP, TRAINING
from tests.worker.methods.jobs import Workshop, digits, report_of
from worker.package import file_ref

SHORT = {**TRAINING, "epochs": 4}


def optimize(method, **options):
    return {"kind": "optimize", "method": method, "training": TRAINING, **options}


def ensemble(method, **options):
    return {"kind": "ensemble", "method": method, "training": TRAINING, **options}


def members_of(jobs):
    return [{"model": f"{job.product.name_hint}/1"} for job in jobs]


def check_files(product):
    """Check that the manifest names every file by content and that the graph answers what the report says."""
    for name, reference in product.manifest.files.items():
        assert file_ref(product.directory / name) == reference
    report = report_of(product)
    assert report["metrics"] == json.loads(product.manifest.metrics.model_dump_json())
    assert report["model"]["sha256"] == product.manifest.files["model.onnx"].sha256
    assert report["row_hashes"]["rows_in_two_sets"] == 0
    return report


def test_a_trained_network_is_far_better_than_guessing(parent):
    report = check_files(parent.product)
    assert set(parent.product.manifest.files) == {"network.json", "weights.safetensors", "model.onnx", "report.json"}
    assert parent.accuracy > 0.9
    low, high = report["metrics"]["accuracy_interval"]
    assert low < parent.accuracy < high
    assert report["parity"]["max_difference"] <= 1e-4
    assert report["baseline"]["verdict"] == "better"
    assert [epoch["epoch"] for epoch in report["history"]] == list(range(TRAINING["epochs"]))
    steps = [step for step, _ in parent.reporter.steps]
    assert steps == sorted(steps)
    assert parent.reporter.steps[-1][0] == parent.reporter.steps[-1][1] == TRAINING["epochs"] * 16


def test_a_restored_network_gives_the_reported_figures(parent, workshop):
    engine = load_engine(parent.product.directory / "model.onnx")
    rows, labels = (np.load(workshop.dataset.files[f"report_{kind}"]) for kind in "xy")
    answers = predict_rows(engine, rows, "probabilities")
    assert (answers.argmax(1) == labels).mean() == pytest.approx(parent.accuracy)


def test_trap_17_the_reported_loss_is_the_mean_of_minus_log_p(parent, workshop):
    engine = load_engine(parent.product.directory / "model.onnx")
    rows, labels = (np.load(workshop.dataset.files[f"report_{kind}"]) for kind in "xy")
    answers = predict_rows(engine, rows, "probabilities")
    by_hand = -np.log(answers[np.arange(len(labels)), labels]).mean()
    assert parent.product.manifest.metrics.nll == pytest.approx(by_hand, rel=1e-5)


def test_measuring_needs_no_training_framework():
    code = (
        "import sys, worker.measure; print([name for name in ('tensorflow', 'keras', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("weights", ["uniform", "convex", "greedy", [1.0, 1.0, 2.0]])
def test_parallel_fusion_says_whether_it_beats_its_best_member(workshop, trio, weights):
    spec = ensemble({"method": "parallel", "members": members_of(trio), "weights": weights})
    job = workshop.run(spec, members=[member.version() for member in trio])
    report = check_files(job.product)
    assert job.accuracy >= max(member.accuracy for member in trio) - 0.02
    assert report["parity"]["max_difference"] <= 1e-5
    assert report["baseline"]["against"].startswith("its best member")
    assert report["comparisons"][1]["against"] == "the plain mean of its members"
    assert report["baseline"]["verdict"] in ("better", "worse", "no difference shown")
    assert sum(" at batch " not in line for line in report["verdict"]["summary"]) == 2
    recipe = json.loads((job.product.directory / "recipe.json").read_bytes())
    assert sum(member["weight"] for member in recipe["members"]) == pytest.approx(1)
    assert [link.version_id for link in job.product.manifest.links] == [m.version().version_id for m in trio]
    parts = [member.product.manifest.metrics.parameters for member in trio]
    assert job.product.manifest.metrics.parameters == sum(parts)


def test_trap_21_the_order_of_members_does_not_change_a_fusion(workshop, trio):
    answers = []
    rows = np.load(workshop.dataset.files["report_x"])
    for order in ([0, 1, 2], [2, 0, 1]):
        jobs = [trio[place] for place in order]
        spec = ensemble({"method": "parallel", "members": members_of(jobs)})
        job = workshop.run(spec, members=[member.version() for member in jobs])
        answers.append(predict_rows(load_engine(job.product.directory / "model.onnx"), rows, "probabilities"))
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_a_member_given_twice_is_stored_once(workshop, dense):
    spec = ensemble({"method": "parallel", "members": members_of([dense, dense]), "weights": "uniform"})
    job = workshop.run(spec, members=[dense.version(), dense.version()])
    metrics, own = job.product.manifest.metrics, dense.product.manifest.metrics
    assert metrics.parameters == own.parameters
    assert metrics.served_bytes < 1.5 * own.served_bytes
    assert job.report["method"]["agreement"]["mutual_information"] == pytest.approx(0, abs=1e-6)


def test_a_required_gain_that_is_not_shown_fails_the_job(workshop, dense):
    spec = ensemble({"method": "parallel", "members": members_of([dense])}, require_gain=True)
    with pytest.raises(NoGainError, match="No difference from its best member"):
        workshop.run(spec, members=[dense.version()])


def test_trap_14_members_of_other_seeds_differ_from_the_start(trio):
    first, second = (load_file(job.product.directory / "weights.safetensors") for job in trio[:2])
    assert all(np.abs(first[name] - second[name]).max() > 0 for name in first if name.endswith("kernel"))
    assert trio[0].report["history"][0]["loss"] != trio[1].report["history"][0]["loss"]


def test_serial_fusion_sums_members_that_correct_each_other(workshop):
    members = [{"architecture": SMALL_MLP, "seed": seed, "training": SHORT} for seed in range(3)]
    job = workshop.run(ensemble({"method": "serial", "members": members}))
    *parts, fused = job.products
    report = check_files(fused)
    rounds = report["method"]["rounds"]
    assert 1 <= len(parts) == len(rounds) <= 3
    assert [link.version_id for link in fused.manifest.links] == [f"#{place}" for place in range(len(parts))]
    assert job.accuracy >= parts[0].manifest.metrics.accuracy - 0.02
    assert all(part.manifest.kind == "single" for part in parts)
    assert [member["digest"] for member in report["method"]["members"]] == [part.manifest.digest for part in parts]


def test_trap_23_the_sum_only_ever_gets_better(workshop):
    members = [{"architecture": SMALL_MLP, "seed": seed, "training": {**SHORT, "epochs": 2}} for seed in range(3)]
    job = workshop.run(ensemble({"method": "serial", "members": members}))
    rounds = job.report["method"]["rounds"]
    assert len(rounds) > 1
    for name in ("train_loss", "selection_loss", "target_norm"):
        figures = [found[name] for found in rounds]
        assert figures == sorted(figures, reverse=True)


def test_stacking_says_whether_it_beats_its_best_member(workshop, parent, dense):
    jobs = [parent, dense]
    spec = ensemble({"method": "stack", "members": members_of(jobs), "folds": 2})
    job = workshop.run(spec, members=[member.version() for member in jobs])
    report = check_files(job.product)
    assert job.accuracy >= max(member.accuracy for member in jobs) - 0.02
    assert report["parity"]["max_difference"] <= 1e-5
    assert report["method"]["folds"] == 2
    assert job.product.manifest.metrics.parameters > sum(m.product.manifest.metrics.parameters for m in jobs)
    assert {"recipe.json", "weights.safetensors", "model.onnx", "report.json"} == set(job.product.manifest.files)


def test_an_ensemble_cannot_be_stacked_again(workshop, dense):
    fused = workshop.run(ensemble({"method": "parallel", "members": members_of([dense])}), members=[dense.version()])
    spec = ensemble({"method": "stack", "members": members_of([fused])})
    with pytest.raises(MethodNotApplicableError, match="cannot be trained again"):
        workshop.run(spec, members=[fused.version()])


def test_a_shared_parent_is_smaller_and_not_faster(workshop):
    architecture = {"type": "resnet", "width": 8, "blocks": 3}
    parent = workshop.run({"kind": "train", "architecture": architecture, "training": TRAINING})
    spec = optimize({"method": "share_weights", "parent": "resnet/1", "groups": 1})
    job = workshop.run(spec, parent=[parent.version()])
    report = check_files(job.product)
    notes, directory = report["method"], job.product.directory
    assert job.accuracy >= parent.accuracy - 0.03
    assert notes["parameters_before"] == parent.product.manifest.metrics.parameters
    assert notes["parameters_after"] == job.product.manifest.metrics.parameters < notes["parameters_before"]
    assert notes["macs_after"] == notes["macs_before"]
    assert notes["before_fine_tuning"]["selection_accuracy"] < 1
    assert "not time" in notes["saves"]
    assert "faster" not in json.dumps(report)
    network = Network.model_validate_json((directory / "network.json").read_bytes())
    stored = load_file(directory / "weights.safetensors")
    assert set(stored) == set(trace(network).variables)
    initializers = onnx.load(directory / "model.onnx").graph.initializer
    kernels = {init.name for init in initializers if "shared" in init.name and "kernel" in init.name}
    assert len(kernels) == 2
    assert job.product.manifest.metrics.served_bytes < 0.75 * parent.product.manifest.metrics.served_bytes


@pytest.mark.parametrize("to", ["separable", "gap"])
def test_a_convolved_parent_is_cheaper_and_about_as_good(workshop, parent, to):
    job = workshop.run(optimize({"method": "convolve", "parent": "cnn/1", "to": to}), parent=[parent.version()])
    notes = check_files(job.product)["method"]
    assert job.accuracy >= parent.accuracy - 0.04
    assert notes["macs_after"] < notes["macs_before"]
    assert notes["started_at_random"] == []
    assert job.report["baseline"]["against"] == "its parent cnn/1"
    assert job.product.manifest.links[0].role == "parent"


def test_what_has_no_start_learns_from_its_parent(workshop, dense):
    job = workshop.run(optimize({"method": "convolve", "parent": "mlp/1", "to": "conv"}), parent=[dense.version()])
    notes = check_files(job.product)["method"]
    assert job.accuracy >= dense.accuracy - 0.02
    assert notes["started_at_random"]
    assert "parent's probabilities" in notes["learned_from"]


def test_an_ensemble_has_no_layers_to_rewrite(workshop, dense):
    fused = workshop.run(ensemble({"method": "parallel", "members": members_of([dense])}), members=[dense.version()])
    spec = optimize({"method": "convolve", "parent": "fused/1", "to": "gap"})
    with pytest.raises(MethodNotApplicableError, match="no layers of its own"):
        workshop.run(spec, parent=[fused.version()])


def test_a_reference_that_takes_other_rows_is_refused(workshop, regressions, dense):
    spec = {**optimize({"method": "distill", "teacher": "mlp/1", "student": {"type": "mlp"}})}
    with pytest.raises(ShapeMismatchError):
        regressions.run(spec, teacher=[dense.version()])


def test_trap_18_permuted_labels_score_chance(tmp_path):
    workshop = Workshop(tmp_path / "jobs", digits(tmp_path / "digits", permuted=True))
    spec = {"kind": "train", "training": {**SHORT, "epochs": 3}}
    jobs = [workshop.run({**spec, "architecture": SMALL_MLP, "seed": seed}) for seed in (0, 1)]
    fused = workshop.run(
        ensemble({"method": "parallel", "members": members_of(jobs), "weights": "greedy"}),
        members=[job.version() for job in jobs],
    )
    for job in (*jobs, fused):
        assert 0.04 < job.accuracy < 0.17


def test_trap_18_weights_are_fitted_without_a_look_at_the_report_rows(workshop, trio, tmp_path):
    spec = ensemble({"method": "parallel", "members": members_of(trio)})
    weights = []
    for labels in (None, np.zeros(497, np.int64)):
        files = dict(workshop.dataset.files)
        if labels is not None:
            files["report_y"] = tmp_path / "report_y.npy"
            np.save(files["report_y"], labels)
        blind = type(workshop)(tmp_path / f"jobs-{len(weights)}", workshop.dataset.model_copy(update={"files": files}))
        job = blind.run(spec, members=[member.version() for member in trio])
        weights.append([link.weight for link in job.product.manifest.links])
    assert weights[0] == weights[1]


def test_regressions_train_fuse_and_distill(regressions):
    training = {**TRAINING, "epochs": 6}
    spec = {"kind": "train", "architecture": {"type": "mlp", "hidden": [32], "dropout": 0.0}, "training": training}
    jobs = [regressions.run({**spec, "seed": seed}) for seed in (0, 1)]
    versions = [job.version() for job in jobs]
    assert jobs[0].report["baseline"]["verdict"] == "better"
    new = [{"architecture": spec["architecture"], "seed": seed} for seed in (0, 1)]
    fused = [
        regressions.run(ensemble({"method": "parallel", "members": members_of(jobs)}), members=versions),
        regressions.run(
            ensemble({"method": "stack", "members": members_of(jobs), "folds": 2}, training=training), members=versions
        ),
        regressions.run(ensemble({"method": "serial", "members": new}, training=training)),
    ]
    worst = max(job.product.manifest.metrics.rmse for job in jobs)
    for job in fused:
        check_files(job.product)
        assert job.product.manifest.metrics.rmse <= worst * 1.05
        assert job.product.manifest.metrics.accuracy is None
    student = {"type": "mlp", "hidden": [16], "dropout": 0.0}
    taught = optimize({"method": "distill", "teacher": "a/1", "student": student, "control": False}, training=training)
    job = regressions.run(taught, teacher=[fused[0].version()])
    assert job.report["method"]["gap_kept"] is None
