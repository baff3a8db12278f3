"""Fine-tuning, and soups of fine-tunes: one network whose weights are the mean of several."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file

from app.domain.errors import InvalidEnsembleError
from app.domain.job_errors import NoGainError
from app.domain.network import Network
from app.serving.runtime import load_engine, predict_rows
from tests.worker.methods.jobs import Job, Workshop, digits
from worker.context import Stopped
from worker.optimize.soup import Pot, score_of
from worker.rows import Data, open_data

DEEP = {"type": "resnet", "width": 8, "blocks": 1, "dropout": 0.1}
TRAINING = {"epochs": 12, "batch_size": 25, "optimizer": {"type": "adam", "learning_rate": 0.01}}
TUNING = {**TRAINING, "epochs": 2, "optimizer": {"type": "adam", "learning_rate": 0.005}}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Workshop:
    root = tmp_path_factory.mktemp("soup")
    return Workshop(root / "jobs", digits(root / "digits", train=400))


@pytest.fixture(scope="module")
def data(images) -> Data:
    return open_data(images.dataset)


@pytest.fixture(scope="module")
def ancestor(images) -> Job:
    return images.run({"kind": "train", "name": "deep", "architecture": DEEP, "training": TRAINING})


@pytest.fixture(scope="module")
def tuned(images, ancestor) -> list[Job]:
    return [fine_tune(images, ancestor, name=f"tuned-{seed}", seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def uniform(images, ancestor, tuned) -> Job:
    return stir(images, ancestor, tuned, recipe="uniform")


@pytest.fixture(scope="module")
def greedy(images, ancestor, tuned) -> Job:
    return stir(images, ancestor, tuned, recipe="greedy")


def fine_tune(workshop: Workshop, parent: Job, **given) -> Job:
    method = {"method": "fine_tune", "parent": f"{parent.product.name_hint}/1", **given.pop("method", {})}
    spec = {"kind": "optimize", "method": method, "training": TUNING, **given}
    return workshop.run(spec, parent=[parent.version()])


def stir(workshop: Workshop, ancestor: Job, members: list[Job], *, recipe: str = "greedy", **given) -> Job:
    names = [{"model": f"{member.product.name_hint}/1"} for member in members]
    method = {"method": "soup", "ancestor": "deep/1", "recipe": recipe, "members": names}
    running = {name: given.pop(name) for name in ("stop_after", "reason") if name in given}
    spec = {"kind": "ensemble", "name": "soup", "method": method, **given}
    versions = [member.version() for member in members]
    return workshop.run(spec, parent=[ancestor.version()], members=versions, **running)


def weights_of(job: Job) -> dict[str, np.ndarray]:
    return load_file(job.product.directory / "weights.safetensors")


def answers_of(job: Job, rows: np.ndarray) -> np.ndarray:
    return predict_rows(load_engine(job.product.directory / "model.onnx"), rows, "probabilities")


def test_a_fine_tune_is_its_parent_with_other_weights(ancestor, tuned):
    own, old = tuned[0].product.manifest, ancestor.product.manifest
    assert own.files["network.json"] == old.files["network.json"]
    assert (own.method, own.metrics.macs) == ("fine_tune", old.metrics.macs)
    assert [(link.role, link.version_id) for link in own.links] == [("parent", "id-of-deep")]
    report = tuned[0].report
    assert report["baseline"]["against"] == "its parent deep/1"
    assert report["gate"] is None
    assert "Faster" not in json.dumps(report["verdict"])
    before, after = weights_of(ancestor), weights_of(tuned[0])
    assert all(np.abs(after[name] - before[name]).max() > 0 for name in before if name.endswith("kernel"))


def test_a_fine_tune_starts_where_its_parent_ended(images, ancestor, data):
    slow = {**TUNING, "epochs": 1, "optimizer": {"type": "adam", "learning_rate": 1e-8}}
    job = fine_tune(images, ancestor, training=slow)
    accuracy = (answers_of(ancestor, data.x["selection"]).argmax(1) == data.y["selection"]).mean()
    assert job.report["method"]["before_fine_tuning"]["selection_accuracy"] == pytest.approx(accuracy)
    for name, values in weights_of(ancestor).items():
        if "moving" not in name:
            np.testing.assert_allclose(weights_of(job)[name], values, atol=1e-5)


def test_a_fine_tune_depends_on_its_seed_alone(images, ancestor, tuned):
    again = fine_tune(images, ancestor, name="tuned-1", seed=1)
    for name, values in weights_of(tuned[1]).items():
        np.testing.assert_array_equal(weights_of(again)[name], values)
    assert np.abs(weights_of(tuned[0])["answer/kernel"] - weights_of(tuned[1])["answer/kernel"]).max() > 0


def test_a_step_of_a_chain_fine_tunes_what_pruning_left_and_keeps_its_zeros(images, ancestor):
    steps = [{"method": "prune", "structure": "unstructured", "ratio": 0.6, "rounds": 1}, {"method": "fine_tune"}]
    method = {"method": "chain", "parent": "deep/1", "max_drop": None, "steps": steps}
    job = images.run({"kind": "optimize", "method": method, "training": TUNING}, parent=[ancestor.version()])
    kernels = [values for name, values in weights_of(job).items() if name.endswith("kernel")]
    zeros = sum(int((values == 0).sum()) for values in kernels) / sum(values.size for values in kernels)
    assert zeros == pytest.approx(0.6, abs=0.01)
    assert [step["method"] for step in job.report["method"]["steps"]] == ["prune", "fine_tune"]


def test_a_uniform_soup_is_one_network_with_the_mean_of_all_weights(ancestor, tuned, uniform):
    manifest = uniform.product.manifest
    assert (manifest.kind, manifest.method) == ("single", "soup")
    assert manifest.metrics.parameters == ancestor.product.manifest.metrics.parameters
    assert manifest.files["network.json"] == ancestor.product.manifest.files["network.json"]
    links = [(link.role, link.version_id, link.weight) for link in manifest.links]
    assert links[0] == ("parent", "id-of-deep", None)
    assert links[1:] == [("member", f"id-of-tuned-{seed}", pytest.approx(1 / 3)) for seed in range(3)]
    parts = [weights_of(member) for member in tuned]
    for name, values in weights_of(uniform).items():
        if "moving" not in name:
            np.testing.assert_allclose(values, np.mean([part[name] for part in parts], axis=0), atol=1e-6)


def test_a_soup_is_compared_with_its_best_member_and_with_the_mean_of_its_members_answers(uniform, tuned):
    against = [found["against"] for found in uniform.report["comparisons"]]
    best = max(tuned, key=lambda member: member.accuracy).product.name_hint
    assert against == [f"its best member {best}/1", "the plain mean of its members' answers"]
    assert uniform.accuracy >= min(member.accuracy for member in tuned) - 0.01


def test_trap_26_statistics_are_recomputed_and_the_report_has_the_figures_before_and_after(uniform, data):
    told = uniform.report["method"]["statistics"]
    answers = answers_of(uniform, data.x["selection"])
    assert told["after"]["selection_accuracy"] == pytest.approx((answers.argmax(1) == data.y["selection"]).mean())
    assert told["after"]["selection_accuracy"] >= told["before"]["selection_accuracy"] - 0.01


def test_trap_26_statistics_that_do_not_fit_the_weights_are_what_recomputing_mends(ancestor, data):
    network = Network.model_validate_json((ancestor.product.directory / "network.json").read_bytes())
    whole = weights_of(ancestor)
    spoilt = {name: values + 3 if "moving" in name else values for name, values in whole.items()}
    pots = [Pot(network, [given, given], 0, data) for given in (spoilt, whole)]
    before, expected = (score_of(answers_for(pot, pot.mean([0, 1])), data) for pot in pots)
    assert before < 0.5
    assert pots[0].score([0, 1]) == pytest.approx(expected, abs=0.02)


def answers_for(pot: Pot, weights: dict[str, np.ndarray]) -> np.ndarray:
    from worker.learning import engine_of

    return predict_rows(engine_of(pot.network, weights), pot.data.x["selection"], "probabilities")


def test_trap_26_the_mean_of_networks_from_different_starts_is_far_worse_than_both(images, ancestor, tuned, data):
    stranger = images.run({"kind": "train", "architecture": DEEP, "training": TRAINING, "seed": 1})
    network = Network.model_validate_json((ancestor.product.directory / "network.json").read_bytes())
    pot = Pot(network, [weights_of(job) for job in (ancestor, stranger, *tuned[:2])], 0, data)
    alone = [pot.score([place]) for place in range(4)]
    assert min(alone) > 0.85
    assert pot.score([0, 1]) < min(alone) - 0.2
    assert pot.score([2, 3]) > min(alone) - 0.02


def test_a_greedy_soup_is_never_below_its_best_member_on_the_selection_rows(greedy, tuned, data):
    told = greedy.report["method"]["members"]
    labels = np.asarray(data.y["selection"])
    alone = [(answers_of(member, data.x["selection"]).argmax(1) == labels).mean() for member in tuned]
    assert [member["selection_accuracy"] for member in told] == pytest.approx(alone)
    assert (answers_of(greedy, data.x["selection"]).argmax(1) == labels).mean() >= max(alone)
    assert all(member["why"] for member in told)
    shares = [link.weight for link in greedy.product.manifest.links if link.role == "member"]
    assert [share > 0 for share in shares] == [member["taken"] for member in told]
    assert sum(shares) == pytest.approx(1)


@settings(deadline=None)
@given(arrays(np.float32, 5, elements=st.floats(-1e6, 1e6, width=32)), st.integers(1, 100))
def test_the_mean_of_equal_weights_is_these_weights_to_the_bit(values, copies):
    pot = Pot(None, [{"answer/kernel": values}] * copies, 0, None)
    mean = pot.mean(range(copies))["answer/kernel"]
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(mean, values)


def test_rows_count_by_their_weight_where_members_are_chosen(tuned, regressions, data):
    answers, labels = answers_of(tuned[0], data.x["selection"]), np.asarray(data.y["selection"])
    counted = np.arange(len(labels)) % 3 == 0
    weighed = replace(data, weights={"selection": counted.astype(np.float32)})
    assert score_of(answers, weighed) == pytest.approx((answers.argmax(1) == labels)[counted].mean())
    numbers = open_data(regressions.dataset)
    targets = np.asarray(numbers.y["selection"])
    halves = (np.arange(len(targets)) < 50).astype(np.float32)
    wrong = targets + np.where(halves[:, None] > 0, 1.0, 9.0)
    assert score_of(wrong, replace(numbers, weights={"selection": halves})) == pytest.approx(-1)


def test_a_soup_of_one_and_the_same_gains_nothing_and_says_so(images, ancestor):
    with pytest.raises(NoGainError, match="No difference from its best member"):
        stir(images, ancestor, [ancestor, ancestor], require_gain=True)


def test_a_member_with_other_layers_is_refused(images, ancestor):
    other = {"kind": "train", "name": "wide", "architecture": {**DEEP, "width": 12}, "training": TUNING}
    with pytest.raises(InvalidEnsembleError, match="wide/1 has not the layers of deep/1"):
        stir(images, ancestor, [ancestor, images.run(other)])


def test_who_cancels_need_not_wait_until_every_mean_was_scored(images, ancestor, tuned):
    with pytest.raises(Stopped):
        stir(images, ancestor, tuned, stop_after=2, reason="cancel")
    assert images.last.reporter.steps[-1] == (2, 6)


def test_regressions_without_normalization_are_averaged_too(regressions):
    architecture = {"type": "mlp", "hidden": [16], "dropout": 0.0}
    training = {**TUNING, "epochs": 4}
    parent = regressions.run({"kind": "train", "name": "deep", "architecture": architecture, "training": training})
    members = [fine_tune(regressions, parent, name=f"tuned-{seed}", seed=seed) for seed in (0, 1)]
    worst = max(member.product.manifest.metrics.rmse for member in members)
    for recipe in ("uniform", "greedy"):
        job = stir(regressions, parent, members, recipe=recipe)
        assert job.product.manifest.metrics.rmse <= worst * 1.02
        assert job.report["method"]["statistics"] is None
