"""What the demo asks for, and how it judges what it gets; the demo itself is run by `make demo`."""

import json
from typing import Any

import pytest

from app.cli.demo import Result, judge
from app.cli.plan import FUSIONS, NAMES, SCALES, DatasetName, waves
from app.domain.specs import job_spec_adapter


def result(key: str, *, difference: float | None = None, **metrics: int) -> Result:
    baseline = None if difference is None else {"against": "its parent", "difference": difference, "verdict": "worse"}
    return Result(NAMES[key], 1, "optimize", {"metrics": metrics, "baseline": baseline})


@pytest.mark.parametrize("dataset", list(SCALES))
def test_every_spec_of_the_demo_is_valid(dataset: DatasetName) -> None:
    specs = [spec for wave in waves(dataset) for spec in wave]
    assert {job_spec_adapter.validate_json(json.dumps(spec)).name for spec in specs} == set(NAMES.values())


@pytest.mark.parametrize("dataset", list(SCALES))
def test_every_spec_builds_only_on_models_of_earlier_waves(dataset: DatasetName) -> None:
    known = set[str]()
    for wave in waves(dataset):
        for spec in wave:
            assert _references(spec.get("method", {})) <= known
        known |= {spec["name"] for spec in wave}


def _references(method: dict[str, Any]) -> set[str]:
    named = {method[role] for role in ("parent", "teacher") if role in method}
    return named | {member["model"] for member in method.get("members", []) if "model" in member}


def test_the_demo_fuses_in_each_of_the_three_ways() -> None:
    specs = {spec["name"]: spec for wave in waves("digits") for spec in wave}
    assert [specs[NAMES[key]]["method"]["method"] for key in FUSIONS] == ["parallel", "serial", "stack"]


@pytest.mark.parametrize(("difference", "holds"), [(0.01, True), (0.0, True), (-0.019, True), (-0.021, False)])
def test_a_method_may_stand_two_points_behind_its_baseline(difference: float, holds: bool) -> None:
    (check,) = judge([result("convolved", difference=difference)])
    assert check.holds is holds
    assert "its parent" in check.text


def test_a_pruned_model_must_also_compute_less() -> None:
    parent = {"parameters": 300, "macs": 900, "served_bytes": 1500}
    checks = judge([result("cnn", **parent), result("pruned", **(parent | {"parameters": 100, "served_bytes": 500}))])
    assert [check.text.split(": ")[1].split()[0] for check in checks if not check.holds] == ["macs"]


@pytest.mark.parametrize("figure", ["parameters", "weights_bytes", "served_bytes"])
def test_shared_weights_must_be_held_once_everywhere(figure: str) -> None:
    parent = {"parameters": 300, "weights_bytes": 1200, "served_bytes": 1500}
    shared = {"parameters": 100, "weights_bytes": 400, "served_bytes": 700} | {figure: parent[figure]}
    checks = judge([result("resnet", **parent), result("shared", difference=0.0, **shared)])
    assert [check.text.split(": ")[1].split()[0] for check in checks if not check.holds] == [figure]
