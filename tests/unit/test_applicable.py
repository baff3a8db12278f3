"""What is refused before anything is trained, and that the dry run agrees with the rewriting of real weights."""

from typing import Any

import numpy as np
import pytest

from app.domain.applicable import Planned, Source, check_applicable, check_seeds
from app.domain.datasets import DatasetSchema
from app.domain.errors import InvalidInputError, InvalidRequestError, LeanfuseError, ModelTooLargeError
from app.domain.job_errors import MethodNotApplicableError
from app.domain.layer_base import Shape
from app.domain.models import VersionManifest
from app.domain.network import Network, SizeLimits, trace
from app.domain.presets import build_network
from app.domain.specs import OptimizeSpec, TrainSpec, job_spec_adapter
from app.domain.surgery.convolution import convolve
from app.domain.surgery.factorization import factorize
from app.domain.surgery.sharing import find_groups, share
from tests.factories import version_manifest

ROWS = {"train": 100, "selection": 20, "report": 20}
SHAPES: dict[str, Shape] = {"image": (8, 8, 1), "signal": (40, 1), "text": (32,), "table": (6,)}
LIMITS = SizeLimits()
ARCHITECTURES: list[tuple[str, dict[str, Any]]] = [
    ("image", {"type": "mlp", "hidden": [16, 16]}),
    ("image", {"type": "cnn", "filters": [4, 8]}),
    ("image", {"type": "resnet", "width": 4, "blocks": 2}),
    ("image", {"type": "separable_cnn"}),
    ("signal", {"type": "cnn1d"}),
    ("text", {"type": "textcnn"}),
    ("text", {"type": "ngrams", "hidden": [16, 16]}),
    ("table", {"type": "mlp", "hidden": [16, 16]}),
]
METHODS: list[dict[str, Any]] = [
    {"method": "share_weights", "groups": 1},
    {"method": "convolve", "to": "conv"},
    {"method": "convolve", "to": "separable"},
    {"method": "convolve", "to": "gap"},
    {"method": "factorize", "energy": 0.01},
]


def schema_of(features: str) -> DatasetSchema:
    dtype = "uint8" if features in ("image", "text") else "float32"
    fields = {"features": features, "shape": SHAPES[features], "dtype": dtype, "classes": ("a", "b", "c")}
    return DatasetSchema.model_validate({**fields, "rows": ROWS})


def network_of(features: str, architecture: dict[str, Any]) -> Network:
    spec = {"kind": "train", "name": "n", "dataset": "d", "architecture": architecture}
    parsed = job_spec_adapter.validate_python(spec, strict=False)
    assert isinstance(parsed, TrainSpec)
    return build_network(parsed.architecture, schema_of(features))


def optimize(method: dict[str, Any], **given: Any) -> OptimizeSpec:
    referred = {} if "architecture" in method else {"teacher" if method["method"] == "distill" else "parent": "old"}
    spec = {"kind": "optimize", "name": "n", "dataset": "d", "method": referred | method, **given}
    parsed = job_spec_adapter.validate_python(spec, strict=False)
    assert isinstance(parsed, OptimizeSpec)
    return parsed


def check(
    method: dict[str, Any],
    network: Network | None,
    *,
    features: str = "image",
    manifest: VersionManifest | None = None,
    **given: Any,
) -> list[Planned]:
    source = Source("old/1", manifest or version_manifest(), network)
    return check_applicable(optimize(method, **given), source, schema_of(features), limits=LIMITS)


def really(method: dict[str, Any], network: Network) -> Network:
    """Rewrite the network with weights, as the worker does."""
    generator = np.random.default_rng(0)
    weights = {
        name: generator.normal(size=shape).astype(np.float32) for name, shape in trace(network).variables.items()
    }
    if method["method"] == "share_weights":
        made = share(network, find_groups(network, method["groups"]))
    elif method["method"] == "convolve":
        made = convolve(network, weights, to=method["to"]).network
    else:
        made = factorize(network, weights, energy=method["energy"]).network
    trace(made)
    return made


@pytest.mark.parametrize(("features", "architecture"), ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: "-".join(map(str, method.values())))
def test_the_dry_run_refuses_exactly_what_the_rewriting_refuses(
    features: str, architecture: dict[str, Any], method: dict[str, Any]
) -> None:
    network = network_of(features, architecture)
    try:
        made: Network | None = really(method, network)
    except (MethodNotApplicableError, InvalidInputError) as refusal:
        made, why = None, refusal.detail
    if made is None:
        with pytest.raises((MethodNotApplicableError, InvalidInputError)) as caught:
            check(method, network, features=features)
        assert why in caught.value.detail
        assert caught.value.errors[0].pointer.startswith("/method/")
    else:
        planned = check(method, network, features=features)
        assert method["method"] == "factorize" or planned[0].network == made


@pytest.mark.parametrize("method", ["share_weights", "convolve", "prune", "factorize", "cluster"])
def test_what_has_no_layers_is_told_what_to_name_instead(method: str) -> None:
    for manifest, instead in (
        (version_manifest(kind="ensemble", method="parallel"), "distill the ensemble"),
        (version_manifest(method="quantize"), "Name its own parent"),
        (version_manifest(method="import"), "that Leanfuse trained"),
    ):
        with pytest.raises(MethodNotApplicableError) as caught:
            check({"method": method}, None, manifest=manifest)
        assert instead in caught.value.hint
        assert caught.value.errors[0].pointer == "/method/parent"


def test_an_ensemble_may_be_quantized_and_may_teach() -> None:
    ensemble = version_manifest(kind="ensemble", method="parallel")
    assert check({"method": "quantize"}, None, manifest=ensemble) == []
    [student] = check({"method": "distill", "student": {"type": "mlp"}}, None, manifest=ensemble)
    assert student.times == 2


def test_a_student_without_a_control_is_trained_once() -> None:
    network = network_of("image", {"type": "mlp"})
    [student] = check({"method": "distill", "student": {"type": "mlp"}, "control": False}, network)
    assert student.times == 1


def test_teachers_of_folds_are_planned() -> None:
    network = network_of("image", {"type": "cnn"})
    method = {"method": "distill", "student": {"type": "mlp"}, "transfer": {"labels": "out_of_fold", "folds": 3}}
    assert [item.times for item in check(method, network)] == [2, 3]
    serial = version_manifest(kind="ensemble", method="serial")
    with pytest.raises(MethodNotApplicableError, match="serial") as caught:
        check(method, None, manifest=serial)
    assert caught.value.errors[0].pointer == "/method/transfer/labels"


def chain(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"method": "chain", "steps": list(steps)}


def test_a_step_is_checked_on_what_the_step_before_it_made() -> None:
    network = network_of("image", {"type": "cnn"})
    gap = {"method": "convolve", "to": "gap"}
    assert len(check(chain(gap, {"method": "cluster"}), network)) == 2
    with pytest.raises(MethodNotApplicableError) as caught:
        check(chain(gap, gap), network)
    assert caught.value.errors[0].pointer == "/method/steps/1/to"


def test_a_student_is_what_the_steps_after_it_change() -> None:
    ensemble = version_manifest(kind="ensemble", method="parallel")
    student = {"method": "distill", "student": {"type": "mlp", "hidden": [8]}}
    planned = check(chain(student, {"method": "prune"}, {"method": "quantize"}), None, manifest=ensemble)
    assert [item.times for item in planned] == [2, 1]
    assert planned[0].network == planned[1].network


def test_steps_in_an_order_that_loses_something_are_refused() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check(chain({"method": "cluster"}, {"method": "factorize"}), network_of("image", {"type": "mlp"}))
    assert caught.value.errors[0].pointer == "/method/steps/1/method"


def test_a_steps_own_training_is_planned() -> None:
    steps = chain({"method": "prune", "training": {"epochs": 3}}, {"method": "cluster"})
    planned = check(steps, network_of("image", {"type": "cnn"}), training={"epochs": 7})
    assert [(item.training.epochs, item.pointer) for item in planned] == [
        (3, "/method/steps/0/training"),
        (7, "/training"),
    ]


def test_what_would_become_too_large_is_refused() -> None:
    network = network_of("image", {"type": "cnn", "filters": [4, 8]})
    source = Source("old/1", version_manifest(), network)
    spec = optimize({"method": "convolve", "to": "separable", "width": 8.0})
    with pytest.raises(ModelTooLargeError) as caught:
        check_applicable(spec, source, schema_of("image"), limits=SizeLimits(parameters=trace(network).parameters))
    assert caught.value.errors[0].pointer == "/method/to"


@pytest.mark.parametrize(
    ("method", "refused"),
    [
        ({"method": "quantize", "mode": "float16"}, True),
        ({"method": "quantize", "mode": "dynamic_int8"}, True),
        (chain({"method": "quantize", "mode": "float16"}), True),
        ({"method": "quantize"}, False),
        (chain({"method": "prune"}, {"method": "quantize", "mode": "float16"}), False),
    ],
)
def test_repeats_are_refused_only_where_nothing_is_random(method: dict[str, Any], refused: bool) -> None:
    found: list[LeanfuseError] = []
    try:
        check_seeds(optimize(method, seeds=3))
    except MethodNotApplicableError as wrong:
        found.append(wrong)
    assert [wrong.errors[0].pointer for wrong in found] == (["/seeds"] if refused else [])
