"""What a data set must have for a fusion, and that specs of before are written as they were."""

from typing import Any

import pytest

from app.domain.datasets import DatasetSchema
from app.domain.ensemble_checks import check_fusion, split_of
from app.domain.ensemble_specs import Serial, Stack
from app.domain.errors import InvalidEnsembleError
from app.domain.specs import EnsembleSpec, job_spec_adapter

MEMBER = {"architecture": {"type": "mlp"}}


def schema(**given: Any) -> DatasetSchema:
    known = {"features": "table", "shape": (4,), "dtype": "float32", "classes": ("a", "b")}
    return DatasetSchema(**{**known, "rows": {"train": 100, "selection": 20, "report": 20}, **given})


def spec(**method: Any) -> EnsembleSpec:
    body = {"kind": "ensemble", "name": "new", "dataset": "set", "method": {"members": [MEMBER], **method}}
    found = job_spec_adapter.validate_python(body)
    assert isinstance(found, EnsembleSpec)
    return found


@pytest.mark.parametrize(
    ("given", "split"),
    [
        ({}, "stratified"),
        ({"train_groups": 9}, "grouped"),
        ({"train_times": 9}, "time"),
        ({"train_groups": 9, "train_times": 9}, "time"),
    ],
)
def test_folds_go_by_what_the_data_set_has(given: dict[str, int], split: str) -> None:
    own = spec(method="stack")
    assert isinstance(own.method, Stack)
    check_fusion(own, schema(**given))
    assert split_of(own.method, schema(**given)) == split


@pytest.mark.parametrize(
    ("method", "given", "pointer", "words"),
    [
        ({"split": "stratified"}, {"train_groups": 9}, "/method/split", "tear apart"),
        ({"split": "grouped", "folds": 5}, {"train_groups": 4}, "/method/split", "at least 5 groups"),
        ({"folds": 5}, {"train_times": 5}, "/method/folds", "at least 6 different times"),
        ({"passthrough": True}, {"shape": (1001,)}, "/method/passthrough", "1,001 numbers"),
        ({"passthrough": True}, {"features": "text", "dtype": "uint8"}, "/method/passthrough", "bytes of a text"),
    ],
)
def test_a_stack_is_told_what_the_data_set_lacks(
    method: dict[str, Any], given: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidEnsembleError, match=words) as refused:
        check_fusion(spec(method="stack", **method), schema(**given))
    assert [field.pointer for field in refused.value.errors] == [pointer]


def test_samme_needs_classes() -> None:
    with pytest.raises(InvalidEnsembleError, match="neither right nor wrong") as refused:
        check_fusion(spec(method="serial", type="samme"), schema(task="regression", classes=()))
    assert [field.pointer for field in refused.value.errors] == ["/method/type"]


def test_rounds_repeat_one_member_with_the_next_seeds() -> None:
    method = spec(method="serial", rounds=3, members=[{**MEMBER, "seed": 7}]).method
    assert isinstance(method, Serial)
    assert [member.seed for member in method.planned] == [7, 8, 9]


def test_specs_without_the_new_fields_are_written_as_they_always_were() -> None:
    assert set(spec(method="serial").method.model_dump()) == {"method", "type", "members"}
    assert set(spec(method="stack").method.model_dump()) == {"method", "members", "folds", "meta"}
