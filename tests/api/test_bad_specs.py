"""A wrong job spec is answered with the exact problem before anything is written."""

# ruff: noqa: E501 - the table reads best with one case a line

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from sqlalchemy import update
from starlette.testclient import TestClient

from app.db.datasets import get_dataset
from app.db.session import reading
from app.db.tables import ModelVersion
from app.domain.datasets import DatasetManifest
from app.domain.network import trace
from app.domain.presets import MLP, build_network
from app.domain.specs import posted_spec_adapter
from tests.api.builders import Registry, assert_problem

CNN = {"architecture": {"type": "cnn", "filters": [4]}}


def train(**changes: Any) -> dict[str, Any]:
    return {"kind": "train", "name": "new", "dataset": "pets", "architecture": {"type": "mlp"}, **changes}


def optimize(**method: Any) -> dict[str, Any]:
    return {"kind": "optimize", "name": "new", "dataset": "pets", "method": method}


def prune(**method: Any) -> dict[str, Any]:
    return {**optimize(method="prune", parent="pets-mlp", **method), "training": small()}


def chain(*steps: dict[str, Any], parent: str = "pets-mlp") -> dict[str, Any]:
    return {**optimize(method="chain", parent=parent, steps=list(steps)), "training": small()}


def distill(*, teacher: str = "pets-mlp", **method: Any) -> dict[str, Any]:
    student = {"type": "mlp", "hidden": [4]}
    return {**optimize(method="distill", teacher=teacher, student=student, **method), "training": small()}


def search(space: dict[str, Any]) -> dict[str, Any]:
    return {**train(training=small()), "kind": "search", "space": space}


def fuse(*members: Any, **method: Any) -> dict[str, Any]:
    chosen = {"method": "parallel", "members": list(members), **method}
    return {"kind": "ensemble", "name": "new", "dataset": "pets", "method": chosen, "training": {"batch_size": 4}}


def then(**options: Any) -> dict[str, Any]:
    return {"method": "distill", "student": {"type": "mlp", "hidden": [4]}, **options}


def graph(*layers: dict[str, Any]) -> dict[str, Any]:
    return train(architecture={"type": "graph", "layers": list(layers)}, training={"batch_size": 4})


def small(**training: Any) -> dict[str, Any]:
    return {"batch_size": 4, **training}


CASES: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("an unknown kind", train(kind="brew"), 422, "unknown-component", "/kind"),
    ("no kind", {"name": "new"}, 422, "invalid-request", "/kind"),
    ("an unknown architecture", train(architecture={"type": "cn"}), 422, "unknown-component", "/architecture/type"),
    ("an unknown layer", graph({"type": "lambda", "name": "f"}), 422, "unknown-component", "/architecture/layers/0/type"),
    ("an unknown optimizer", train(training={"optimizer": {"type": "adamx"}}), 422, "unknown-component", "/training/optimizer/type"),
    ("an unknown method", optimize(method="shrink"), 422, "unknown-component", "/method/method"),
    ("an unknown data set", train(dataset="pest"), 422, "dataset-not-found", "/dataset"),
    ("text layers on images", train(architecture={"type": "textcnn"}, training=small()), 422, "shape-mismatch", "/architecture"),
    ("0 epochs", train(training={"epochs": 0}), 422, "out-of-range", "/training/epochs"),
    ("-1 epochs", train(training={"epochs": -1}), 422, "out-of-range", "/training/epochs"),
    ("a billion epochs", train(training={"epochs": 10**9}), 422, "out-of-range", "/training/epochs"),
    ("a batch of 0", train(training={"batch_size": 0}), 422, "out-of-range", "/training/batch_size"),
    ("a batch beyond the rows", train(training={"batch_size": 13}), 422, "out-of-range", "/training/batch_size"),
    ("a learning rate of 0", train(training={"optimizer": {"type": "adam", "learning_rate": 0}}), 422, "out-of-range", "/training/optimizer/learning_rate"),
    ("a learning rate of 11", train(training={"optimizer": {"type": "adam", "learning_rate": 11}}), 422, "out-of-range", "/training/optimizer/learning_rate"),
    ("all units dropped", train(architecture={"type": "mlp", "dropout": 1.0}), 422, "out-of-range", "/architecture/dropout"),
    ("true for a number", train(training={"epochs": True}), 422, "invalid-request", "/training/epochs"),
    ("text for a number", train(training={"epochs": "3"}), 422, "invalid-request", "/training/epochs"),
    ("a billion units", train(architecture={"type": "mlp", "hidden": [10**9]}, training=small()), 422, "model-too-large", "/architecture"),
    ("Dense(10**9)", graph({"type": "flatten", "name": "f"}, {"type": "dense", "name": "d", "units": 10**9}), 422, "model-too-large", "/architecture"),
    ("10,000 layers", graph(*({"type": "flatten", "name": f"a{index}"} for index in range(10_000))), 422, "model-too-large", "/architecture"),
    ("a convolution to nothing", graph({"type": "conv2d", "name": "c", "filters": 2, "kernel_size": 3, "padding": "valid"}), 422, "invalid-architecture", "/architecture"),
    ("10,000 wrong layers", graph(*({"type": "flatten", "nane": "a"} for _ in range(10_000))), 422, "unknown-field", "/architecture/layers/0/nane"),
    ("a cycle", graph({"type": "dense", "name": "a", "units": 3, "inputs": ["a"]}), 422, "invalid-architecture", "/architecture"),
    ("Python code", train(architecture={"type": "mlp", "custom_objects": "os.system"}), 422, "unknown-field", "/architecture/custom_objects"),
    ("a callback", train(training={"callbacks": ["x.y.Z"]}), 422, "unknown-field", "/training/callbacks"),
    ("a webhook", train(webhook_url="http://169.254.169.254/"), 422, "unknown-field", "/webhook_url"),
    ("an unknown teacher", optimize(method="distill", teacher="nobody", student={"type": "mlp"}), 422, "reference-not-found", "/method/teacher"),
    ("an unknown alias", optimize(method="convolve", parent="pets-cnn@nobody"), 422, "reference-not-found", "/method/parent"),
    ("an unknown version", optimize(method="convolve", parent="pets-cnn/9"), 422, "reference-not-found", "/method/parent"),
    ("a version that is none", optimize(method="convolve", parent="pets-cnn/x"), 422, "invalid-name", "/method/parent"),
    ("a teacher of another shape", optimize(method="distill", teacher="mini-cnn", student={"type": "mlp"}), 422, "shape-mismatch", "/method/teacher"),
    ("layers of an ensemble", optimize(method="convolve", parent="pets-duo"), 422, "method-not-applicable", "/method/parent"),
    ("neither parent nor architecture", optimize(method="share_weights"), 422, "invalid-request", "/method"),
    ("0 members", fuse(), 422, "invalid-ensemble", "/method/members"),
    ("1,000 members", fuse(*[CNN] * 1000), 422, "invalid-ensemble", "/method/members"),
    ("a member that is no model", fuse({"model": "nobody"}), 422, "reference-not-found", "/method/members/0/model"),
    ("a member of another shape", fuse(CNN, {"model": "mini-cnn"}), 422, "shape-mismatch", "/method/members/1/model"),
    ("an ensemble of itself", {**fuse({"model": "pets-duo"}), "name": "pets-duo"}, 422, "invalid-ensemble", "/method/members/0/model"),
    ("a stacked ensemble", fuse(CNN, {"model": "pets-duo"}, method="stack"), 422, "invalid-ensemble", "/method/members/1/model"),
    ("a cascade of one", fuse(CNN, method="cascade"), 422, "invalid-ensemble", "/method/members"),
    ("fewer thresholds than gates", fuse(CNN, CNN, CNN, method="cascade", thresholds=[0.5]), 422, "invalid-ensemble", "/method"),
    ("a threshold above 1", fuse(CNN, CNN, method="cascade", thresholds=[1.5]), 422, "out-of-range", "/method/thresholds/0"),
    ("a cascade repeated", {**fuse(CNN, CNN, method="cascade"), "seeds": 3}, 422, "method-not-applicable", "/seeds"),
    ("a cascade without a member", {**fuse(CNN, CNN, method="cascade"), "min_members": 1}, 422, "invalid-ensemble", "/min_members"),
    ("sets from too few rows", {**fuse(CNN, CNN), "conformal": 0.001}, 422, "invalid-ensemble", "/conformal"),
    ("sets of a cascade", {**fuse(CNN, CNN, method="cascade"), "conformal": 0.3}, 422, "invalid-ensemble", "/conformal"),
    ("101 members by counting", fuse({**CNN, "count": 100}, CNN), 422, "invalid-ensemble", "/method/members"),
    ("more members wanted than there are", {**fuse(CNN, CNN), "min_members": 3}, 422, "invalid-ensemble", "/min_members"),
    ("a serial ensemble without a member", {**fuse(CNN, CNN, method="serial"), "min_members": 1}, 422, "invalid-ensemble", "/min_members"),
    ("as many weights as entries, not as members", fuse({**CNN, "count": 2}, weights=[1]), 422, "invalid-ensemble", "/method"),
    ("a student of another kind of rows", {**fuse(CNN, CNN), "then": then(student={"type": "textcnn"})}, 422, "shape-mismatch", "/then/student"),
    ("a student with hints", {**fuse(CNN, CNN), "then": then(hints={"student_layer": "dense1", "teacher_layer": "dense1"})}, 422, "method-not-applicable", "/then/hints"),
    ("a student by folds of a serial teacher", {**fuse(CNN, method="serial"), "then": then(transfer={"labels": "out_of_fold"})}, 422, "method-not-applicable", "/then/transfer/labels"),
    ("a student from rows that are not there", {**fuse(CNN), "then": then(transfer={"unlabelled": "nothing"})}, 422, "dataset-not-found", "/then/transfer/unlabelled"),
    ("more rounds of more members", fuse(CNN, CNN, method="serial", rounds=3), 422, "invalid-ensemble", "/method"),
    ("a shrinkage of residuals", fuse(CNN, method="serial", shrinkage=0.5), 422, "invalid-ensemble", "/method"),
    ("samme and balanced classes", {**fuse(CNN, method="serial", type="samme"), "training": small(class_weights="balanced")}, 422, "invalid-ensemble", "/training/class_weights"),
    ("samme and mixup", {**fuse(CNN, method="serial", type="samme"), "training": small(augmentation={"mixup": 0.2})}, 422, "invalid-ensemble", "/training/augmentation/mixup"),
    ("folds of groups that are not there", fuse(CNN, method="stack", split="grouped"), 422, "invalid-ensemble", "/method/split"),
    ("folds of times that are not there", fuse(CNN, method="stack", split="time"), 422, "invalid-ensemble", "/method/split"),
    ("more folds than rows", fuse(CNN, method="stack", folds=13), 422, "invalid-ensemble", "/method/folds"),
    ("a leaky stack of one fold", fuse(CNN, CNN, method="stack", folds=1), 422, "out-of-range", "/method/folds"),
    ("a leaky stack without folds", fuse(CNN, CNN, method="stack", folds=None), 422, "invalid-request", "/method/folds"),
    ("a leaky stack by a split that leaves nothing out", fuse(CNN, CNN, method="stack", split="none"), 422, "unknown-component", "/method/split"),
    ("a leaky stack by its labels", fuse(CNN, CNN, method="stack", labels="in_sample"), 422, "unknown-field", "/method/labels"),
    ("weights fitted on report rows", fuse(CNN, CNN, weights="report"), 422, "unknown-component", "/method/weights"),
    ("weights fitted on rows by name", fuse(CNN, CNN, fit_on="report"), 422, "unknown-field", "/method/fit_on"),
    ("members that learn from report rows", fuse({**CNN, "rows": "report"}), 422, "unknown-component", "/method/members/0/rows"),
    ("a threshold chosen on report rows", fuse(CNN, CNN, method="cascade", rows="report"), 422, "unknown-field", "/method/rows"),
    ("a temperature fitted on report rows", {**fuse(CNN, CNN), "calibrate": "report"}, 422, "invalid-request", "/calibrate"),
    ("an unknown meta-learner", fuse(CNN, method="stack", meta="forest"), 422, "unknown-component", "/method/meta"),
    ("weights of 0", fuse(CNN, CNN, weights=[0, 0]), 422, "invalid-ensemble", "/method"),
    ("a negative weight", fuse(CNN, CNN, weights=[1, -1]), 422, "invalid-ensemble", "/method/weights/1"),
    ("too few weights", fuse(CNN, CNN, weights=[1]), 422, "invalid-ensemble", "/method"),
    ("an unknown weighting", fuse(CNN, weights="convecs"), 422, "unknown-component", "/method/weights"),
    ("a broken member", fuse({"architecture": {"type": "cnn", "filterz": [4]}}), 422, "unknown-field", "/method/members/0/architecture/filterz"),
    ("a member too large", fuse(CNN, {"architecture": {"type": "mlp", "hidden": [10**8]}}), 422, "model-too-large", "/method/members/1/architecture"),
    ("an epoch number for a ratio", prune(ratio=5), 422, "out-of-range", "/method/ratio"),
    ("an unknown criterion", prune(criterion="l3"), 422, "unknown-component", "/method/criterion"),
    ("normalization that is not there", prune(criterion="bn_gamma"), 422, "method-not-applicable", "/method/criterion"),
    ("channels scored for single weights", prune(structure="unstructured", criterion="taylor"), 422, "method-not-applicable", "/method/criterion"),
    ("too little to prune", prune(ratio=0.01), 422, "method-not-applicable", "/method/ratio"),
    ("layers of a quantized version", optimize(method="factorize", parent="pets-int8"), 422, "method-not-applicable", "/method/parent"),
    ("a pruned ensemble", optimize(method="prune", parent="pets-duo"), 422, "method-not-applicable", "/method/parent"),
    ("bits that are gone already", optimize(method="quantize", parent="pets-int8"), 422, "method-not-applicable", "/method/parent"),
    ("an unknown mode", optimize(method="quantize", parent="pets-mlp", mode="int4"), 422, "unknown-component", "/method/mode"),
    ("repeats of nothing random", {**optimize(method="quantize", parent="pets-mlp", mode="float16"), "seeds": 3}, 422, "method-not-applicable", "/seeds"),
    ("repeats of a search", {**search({"/training/epochs": {"low": 3, "high": 9}}), "seeds": 3}, 422, "method-not-applicable", "/seeds"),
    ("repeats of trained members", {**fuse(CNN), "seeds": 3}, 422, "method-not-applicable", "/seeds"),
    ("layers without convolution", optimize(method="convolve", parent="pets-mlp", to="separable"), 422, "method-not-applicable", "/method/to"),
    ("layers that do not exist", optimize(method="share_weights", parent="pets-mlp", groups=[["dense1", "nowhere"]]), 422, "method-not-applicable", "/method/groups"),
    ("layers of unequal shapes", optimize(method="share_weights", parent="pets-mlp", groups=[["dense1", "dense2"]]), 422, "shape-mismatch", "/method/groups"),
    ("nothing alike to find", optimize(method="share_weights", parent="pets-mlp", groups="found"), 422, "method-not-applicable", "/method/groups"),
    ("one cluster", optimize(method="cluster", parent="pets-mlp", clusters=1), 422, "out-of-range", "/method/clusters"),
    ("more energy than there is", optimize(method="factorize", parent="pets-mlp", energy=1.5), 422, "out-of-range", "/method/energy"),
    ("no steps", chain(), 422, "out-of-range", "/method/steps"),
    ("an unknown step", chain({"method": "shrink"}), 422, "unknown-component", "/method/steps/0/method"),
    ("a parent within a step", chain({"method": "prune", "parent": "pets-mlp"}), 422, "unknown-field", "/method/steps/0/parent"),
    ("steps after numbers", chain({"method": "quantize"}, {"method": "prune"}), 422, "invalid-request", "/method/steps/1/method"),
    ("new structure after zeros", chain({"method": "prune", "structure": "unstructured"}, {"method": "factorize"}), 422, "invalid-request", "/method/steps/1/method"),
    ("a step that cannot be applied", chain({"method": "prune"}, {"method": "convolve"}), 422, "method-not-applicable", "/method/steps/1/to"),
    ("a step's training that does not fit", chain({"method": "prune", "training": small(augmentation={"byte_dropout": 0.1})}), 422, "shape-mismatch", "/method/steps/0/training/augmentation/byte_dropout"),
    ("a step's batch beyond the rows", chain({"method": "prune", "training": {"batch_size": 13}}), 422, "out-of-range", "/method/steps/0/training/batch_size"),
    ("steps on an ensemble", chain({"method": "cluster"}, parent="pets-duo"), 422, "method-not-applicable", "/method/parent"),
    ("hints of a layer that is not there", distill(hints={"student_layer": "dense1", "teacher_layer": "nowhere"}), 422, "method-not-applicable", "/method/hints"),
    ("hints of an ensemble", distill(teacher="pets-duo", hints={"student_layer": "dense1", "teacher_layer": "dense1"}), 422, "method-not-applicable", "/method/hints"),
    ("copies that nothing changes", distill(transfer={"augmented_copies": 2}), 422, "invalid-request", "/method/transfer/augmented_copies"),
    ("mixed rows of two folds", distill(transfer={"augmented_copies": 2, "labels": "out_of_fold"}) | {"training": small(augmentation={"mixup": 0.2})}, 422, "invalid-request", "/method/transfer/labels"),
    ("hints weighed by class", distill(hints={"student_layer": "a", "teacher_layer": "b"}) | {"training": small(class_weights="balanced")}, 422, "invalid-request", "/method/hints"),
    ("copies of a step that nothing changes", chain({"method": "distill", "student": {"type": "mlp"}, "transfer": {"augmented_copies": 2}}), 422, "invalid-request", "/method/steps/0/transfer/augmented_copies"),
    ("more than a step's whole soft loss", chain({"method": "distill", "student": {"type": "mlp"}, "alpha": 2}), 422, "invalid-request", "/method/steps/0/alpha"),
    ("unlabelled rows that are not there", distill(transfer={"unlabelled": "pest"}), 422, "dataset-not-found", "/method/transfer/unlabelled"),
    ("unlabelled rows of another shape", distill(transfer={"unlabelled": "mini"}), 422, "shape-mismatch", "/method/transfer/unlabelled"),
    ("more than the whole soft loss", distill(alpha=2), 422, "invalid-request", "/method/alpha"),
    ("a search of nothing", search({}), 422, "out-of-range", "/space"),
    ("a place that is not in the spec", search({"/architecture/hiden": {"choices": [[3], [4]]}}), 422, "unknown-field", "/space/~1architecture~1hiden"),
    ("a value that cannot work", search({"/training/batch_size": {"low": 4, "high": 400}}), 422, "out-of-range", "/space/~1training~1batch_size/high"),
    ("a range upside down", search({"/training/epochs": {"low": 9, "high": 3}}), 422, "invalid-request", "/space/~1training~1epochs"),
    ("an unknown objective", {**search({"/training/epochs": {"low": 3, "high": 9}}), "objectives": ["speed"]}, 422, "unknown-component", "/objectives/0"),
    ("0 trials", {**search({"/training/epochs": {"low": 3, "high": 9}}), "trials": 0}, 422, "out-of-range", "/trials"),
    ("a name too long for its members", {**fuse(CNN), "name": "n" * 62}, 422, "invalid-name", "/name"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "code", "slug", "pointer"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs?validate_only=true"])
def test_a_wrong_spec_is_refused(
    refusing: TestClient, path: str, spec: dict[str, Any], code: int, slug: str, pointer: str
) -> None:
    problem = assert_problem(refusing.post(path, json=spec), code, slug)
    assert problem["errors"][0]["pointer"] == pointer
    assert problem["errors"][0]["type"] == slug


@pytest.mark.parametrize(
    ("spec", "help_text"),
    [
        (train(training={"epochs": -1}), "at least 1 and at most 10,000"),
        (train(architecture={"type": "cn"}), "Did you mean `cnn`?"),
        (train(dataset="pest"), "Did you mean `pets`?"),
        (train(architecture={"type": "mlp", "hiden": [3]}), "Did you mean `hidden`?"),
        (train(training={"batch_size": 13}), "at most 12"),
        (train(name="A"), "1 to 63 of a-z"),
        (prune(criterion="l3"), "Allowed: l1, l2, bn_gamma, taylor."),
        (optimize(method="quantize", parent="pets-int8"), "GET /v1/models/pets-int8/versions/1/lineage"),
        (optimize(method="convolve", parent="pets-duo"), "distill the ensemble"),
        (chain({"method": "quantize"}, {"method": "prune"}), "then cluster, then quantize"),
        (search({"/architecture/hiden": {"choices": [[3], [4]]}}), "Did you mean `hidden`?"),
        (distill(hints={"student_layer": "dense1", "teacher_layer": "nowhere"}), "dense1"),
        (train(kind="brew"), "Allowed: train, optimize, ensemble, search, predict."),
    ],
)
def test_a_refusal_says_how_to_mend_it(refusing: TestClient, spec: dict[str, Any], help_text: str) -> None:
    assert help_text in refusing.post("/v1/jobs", json=spec).json()["hint"]


def test_trap_18_no_field_of_a_job_that_learns_takes_the_name_of_a_row_set() -> None:
    """Which rows fit, which select and which are only measured is not for a spec to say."""
    schema = posted_spec_adapter.json_schema()
    # A batch prediction learns nothing: there the caller does say which rows to answer.
    schema["$defs"].pop("PredictSpec")

    def allowed(node: Any) -> Iterator[str]:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node if isinstance(node, list) else ()):
            yield from {"enum": value, "const": [value]}.get(key) or allowed(value)

    values = set(allowed(schema))
    assert {"stratified", "convex", "bootstrap", "ensemble"} <= values
    assert not {"selection", "report"} & values


def test_both_shapes_are_named(refusing: TestClient) -> None:
    spec = optimize(method="distill", teacher="mini-cnn", student={"type": "mlp"})
    detail = refusing.post("/v1/jobs", json=spec).json()["detail"]
    assert "[3, 3, 1]" in detail
    assert "[2, 2, 1]" in detail


def test_several_wrong_fields_are_all_named(refusing: TestClient) -> None:
    spec = train(training={"epochs": -1, "batch_size": 0}, architecture={"type": "mlp", "dropout": 2})
    problem = refusing.post("/v1/jobs", json=spec).json()
    pointers = {error["pointer"] for error in problem["errors"]}
    assert pointers == {"/training/epochs", "/training/batch_size", "/architecture/dropout"}


def test_a_member_that_can_no_longer_serve_is_refused(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    version_id = registry.add_model("pets-cnn")
    for state in ("corrupted", "deleted"):
        with registry.sessions.begin() as session:
            session.execute(update(ModelVersion).where(ModelVersion.id == version_id).values(state=state))
        problem = assert_problem(client.post("/v1/jobs", json=fuse({"model": "pets-cnn/1"})), 409, "model-not-ready")
        assert state in problem["detail"]


def add_trained(registry: Registry, name: str) -> None:
    """Register a network with weights of full rank, as a worker does."""
    registry.add_dataset()
    with reading(registry.sessions) as session:
        schema = DatasetManifest.model_validate(get_dataset(session, "pets").manifest).dataset_schema
    network = build_network(MLP(hidden=(8, 6)), schema)
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in trace(network).variables.items()}
    network_file = registry.put_bytes(network.model_dump_json().encode())
    files = {"network.json": network_file, "weights.safetensors": registry.put_bytes(save(weights))}
    registry.add_model(name, files=files)


def test_trap_39_an_energy_at_which_no_layer_shrinks_is_refused_by_the_parents_weights(
    client: TestClient, registry: Registry
) -> None:
    add_trained(registry, "pets-net")
    alone = {**optimize(method="factorize", parent="pets-net", energy=1.0), "training": small()}
    first = chain({"method": "factorize", "energy": 1.0}, {"method": "prune"}, parent="pets-net")
    for spec, pointer in ((alone, "/method/energy"), (first, "/method/steps/0/energy")):
        problem = assert_problem(client.post("/v1/jobs", json=spec), 422, "method-not-applicable")
        assert "needs the rank" in problem["detail"]
        assert [field["pointer"] for field in problem["errors"]] == [pointer]
    later = chain({"method": "prune"}, {"method": "factorize", "energy": 1.0}, parent="pets-net")
    for spec in (later, {**alone, "method": {**alone["method"], "energy": 0.3}}):
        assert client.post("/v1/jobs", params={"validate_only": True}, json=spec).status_code == 200
