"""A space is refused with the place, the reason and what is allowed, before anything is trained."""

import json

import pytest

from app.domain.datasets import DatasetSchema
from app.domain.errors import (
    InvalidInputError,
    InvalidRequestError,
    ModelTooLargeError,
    OutOfRangeError,
    ShapeMismatchError,
    UnknownComponentError,
    UnknownFieldError,
)
from app.domain.network import SizeLimits
from app.domain.search import apply_point, base_point, check_point, check_space, range_values
from app.domain.specs import Range, SearchSpec, TrainSpec, job_spec_adapter

ROWS = {"train": 1000, "selection": 300, "report": 300}
DIGITS = DatasetSchema(features="image", shape=(8, 8, 1), dtype="uint8", classes=tuple("0123456789"), rows=ROWS)
SCHEMAS = {
    "image": (DIGITS, {"type": "cnn", "filters": [8]}, "/architecture/filters/0"),
    "signal": (
        DatasetSchema(features="signal", shape=(40, 2), dtype="float32", classes=("a", "b"), rows=ROWS),
        {"type": "cnn1d", "filters": [8]},
        "/architecture/kernel_size",
    ),
    "text": (
        DatasetSchema(features="text", shape=(64,), dtype="uint8", classes=("a", "b"), rows=ROWS),
        {"type": "textcnn"},
        "/architecture/embedding",
    ),
    "table": (
        DatasetSchema(features="table", shape=(5,), dtype="float32", task="regression", rows=ROWS),
        {"type": "mlp", "hidden": [8]},
        "/architecture/hidden/0",
    ),
}


def spec_of(space, **changes) -> SearchSpec:
    body = {"kind": "search", "name": "found", "dataset": "digits", "architecture": {"type": "cnn"}, "space": space}
    found = job_spec_adapter.validate_json(json.dumps(body | changes))
    assert isinstance(found, SearchSpec)
    return found


def refused(space, kind: type[InvalidInputError] = InvalidInputError, **changes) -> InvalidInputError:
    """Return the error of a space, after checking that it says where, why and what to do."""
    with pytest.raises(kind) as caught:
        check_space(spec_of(space, **changes), DIGITS)
    assert caught.value.detail
    assert caught.value.hint
    assert caught.value.errors
    return caught.value


@pytest.mark.parametrize("features", SCHEMAS)
def test_width_depth_and_training_can_be_searched_on_every_kind_of_rows(features):
    schema, architecture, pointer = SCHEMAS[features]
    space = {
        pointer: {"low": 2, "high": 7},
        "/training/optimizer/learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
        "/training/optimizer/type": {"choices": ["adam", "adamw"]},
        "/training/global_clipnorm": {"low": 0.5, "high": 2.0},
    }
    spec = spec_of(space, architecture=architecture)
    check_space(spec, schema)
    assert check_point(spec, base_point(spec), schema).parameters > 0


def test_a_point_becomes_the_train_spec_that_would_make_the_same_model():
    spec = spec_of(
        {"/architecture/filters": {"choices": [[8], [8, 16]]}, "/training/epochs": {"low": 1, "high": 9}},
        training={"epochs": 3, "batch_size": 32},
        seed=7,
    )
    assert base_point(spec) == {"/architecture/filters": [32, 64], "/training/epochs": 3}
    chosen = apply_point(spec, {"/architecture/filters": [8, 16], "/training/epochs": 5})
    expected = {
        "kind": "train",
        "name": "found",
        "dataset": "digits",
        "architecture": {"type": "cnn", "filters": [8, 16]},
        "training": {"epochs": 5, "batch_size": 32},
        "seed": 7,
    }
    assert chosen == TrainSpec.model_validate_json(json.dumps(expected))
    assert apply_point(spec, base_point(spec)).architecture == spec.architecture


def test_a_place_that_does_not_exist_is_named_with_what_was_meant():
    error = refused({"/architecture/filtres": {"choices": [[8], [16]]}}, UnknownFieldError)
    assert error.errors[0].pointer == "/space/~1architecture~1filtres"
    assert "Did you mean `filters`?" in error.hint


def test_a_part_of_what_is_not_set_asks_to_set_it_first():
    space = {"/training/early_stopping/patience": {"low": 1, "high": 5}}
    assert "Set `/training/early_stopping` in the spec first" in refused(space, UnknownFieldError).hint
    check_space(spec_of(space, training={"early_stopping": {"patience": 3}}), DIGITS)


def test_a_place_beyond_a_list_or_below_a_number_says_what_stands_there():
    assert "0 to 1" in refused({"/architecture/filters/2": {"low": 4, "high": 8}}, UnknownFieldError).hint
    assert "single value" in refused({"/training/epochs/0": {"low": 4, "high": 8}}, UnknownFieldError).hint


def test_a_whole_and_its_part_are_not_searched_together():
    space = {"/architecture/filters": {"choices": [[8], [16]]}, "/architecture/filters/0": {"low": 4, "high": 8}}
    error = refused(space, InvalidRequestError)
    assert error.errors[0].pointer == "/space/~1architecture~1filters~10"


@pytest.mark.parametrize(
    ("pointer", "searched", "kind", "places"),
    [
        ("/architecture/dropout", {"low": 0.0, "high": 1.5}, OutOfRangeError, ["/high"]),
        ("/architecture/filters", {"low": 1, "high": 3}, InvalidRequestError, ["/low", "/high"]),
        ("/training/epochs", {"low": 1.0, "high": 9}, InvalidRequestError, ["/low", "/high"]),
        ("/architecture/filters", {"choices": [[8], [-8], [8, 8]]}, OutOfRangeError, ["/choices/1"]),
        ("/architecture/head", {"choices": ["gap", "max"]}, UnknownComponentError, ["/choices/1"]),
        ("/training/batch_size", {"low": 10, "high": 2000}, OutOfRangeError, ["/high"]),
        ("/training/augmentation/noise", {"low": 0.1, "high": 0.2}, ShapeMismatchError, ["/low", "/high"]),
        ("/training/epochs", {"choices": [2, 3, 2]}, InvalidRequestError, ["/choices/2"]),
    ],
)
def test_every_end_and_every_choice_must_fit_alone(pointer, searched, kind, places):
    error = refused({pointer: searched}, kind)
    place = "/space/" + pointer.replace("/", "~1")
    assert [found.pointer for found in error.errors] == [place + end for end in places]


def test_a_value_whose_network_cannot_be_built_is_refused():
    layers = [{"type": "flatten", "name": "flat"}, {"type": "dense", "name": "answer", "units": 10}]
    space = {"/architecture/layers/1/units": {"choices": [10, 12]}}
    error = refused(space, ShapeMismatchError, architecture={"type": "graph", "layers": layers})
    assert [found.pointer for found in error.errors] == ["/space/~1architecture~1layers~11~1units/choices/1"]


def test_an_objective_is_named_once():
    error = refused({"/training/epochs": {"low": 1, "high": 3}}, objectives=["accuracy", "bytes", "accuracy"])
    assert error.errors[0].pointer == "/objectives/2"


def test_a_space_beyond_the_limits_of_the_service_is_refused():
    spec = spec_of({"/architecture/filters": {"choices": [[8], [64]]}})
    with pytest.raises(ModelTooLargeError) as caught:
        check_space(spec, DIGITS, limits=SizeLimits(parameters=500))
    assert [found.pointer for found in caught.value.errors] == [
        f"/space/~1architecture~1filters/choices/{index}" for index in (0, 1)
    ]


def test_values_that_never_go_together_are_refused_as_a_whole():
    sometimes = {
        "/training/augmentation/mixup": {"low": 0.1, "high": 0.4},
        "/training/class_weights": {"choices": ["balanced", None]},
    }
    check_space(spec_of(sometimes), DIGITS)
    never = spec_of(
        {"/architecture/filters/0": {"low": 60, "high": 64}, "/architecture/filters/1": {"low": 60, "high": 64}},
        architecture={"type": "cnn", "filters": [1, 1]},
    )
    with pytest.raises(ModelTooLargeError, match="None of 16 points") as caught:
        check_space(never, DIGITS, limits=SizeLimits(parameters=60_000))
    assert caught.value.errors[0].pointer == "/space"


@pytest.mark.parametrize(
    ("searched", "values"),
    [
        (Range(low=1, high=2), [1, 2]),
        (Range(low=1, high=100, log=True), [1, 100, 3, 10, 32]),
        (Range(low=0.0, high=1), [0.0, 1.0, 0.25, 0.5, 0.75]),
    ],
)
def test_a_range_is_tried_at_its_ends_and_evenly_between(searched, values):
    assert range_values(searched) == pytest.approx(values)
    assert [type(value) for value in range_values(searched)] == [type(value) for value in values]
