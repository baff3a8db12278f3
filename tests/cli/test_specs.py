"""Specs from files and flags."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli.main import main
from app.cli.specs import fill, read_settings, spec_of_kind
from app.cli.submit import source_of
from tests.cli.conftest import Small

NOWHERE = "http://127.0.0.1:9"


def test_flags_change_what_a_file_says(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text('{"name": "one", "training": {"epochs": 3, "batch_size": 8}}', encoding="utf-8")
    spec = fill(spec_of_kind(file, "train"), {"name": "two", "training.epochs": 5, "seed": None})
    assert spec == {"kind": "train", "name": "two", "training": {"epochs": 5, "batch_size": 8}}


def test_values_are_json_where_they_are_json() -> None:
    given = ["a=3", "b.c=[1, 2]", "d=true", "e=adam", "f=a=b", "g="]
    assert read_settings(given) == {"a": 3, "b.c": [1, 2], "d": True, "e": "adam", "f": "a=b", "g": ""}


@pytest.mark.parametrize("setting", ["epochs", "=3"])
def test_a_setting_without_a_path_or_a_value_is_refused(setting: str) -> None:
    with pytest.raises(typer.BadParameter, match="PATH=VALUE"):
        read_settings([setting])


def test_a_path_through_a_number_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="no object"):
        fill({"seed": 3}, {"seed.deep": 1})


def test_a_file_of_another_kind_is_told_with_the_right_command(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text('{"kind": "ensemble"}', encoding="utf-8")
    with pytest.raises(typer.BadParameter, match="leanfuse ensemble"):
        spec_of_kind(file, "train")


@pytest.mark.parametrize(
    ("method", "source"),
    [
        ({"parent": "cnn"}, "cnn"),
        ({"teacher": "trio@champion"}, "trio@champion"),
        ({"members": [{"model": "cnn"}, {"model": "mlp"}]}, "cnn"),
        ({"members": [{"architecture": {"type": "mlp"}}]}, None),
        ({"members": []}, None),
        ({}, None),
    ],
)
def test_a_method_starts_from_its_parent_teacher_or_first_member(method: dict[str, Any], source: str | None) -> None:
    assert source_of(method) == source


def submitted(small: Small, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Submit a job, and return what its spec says where the flags said something."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--url", small.url, "--json"])
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    job: dict[str, Any] = json.loads(shown.out)
    return job


def test_train_names_a_model_after_data_and_architecture(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--dataset", "pets", "--architecture", "mlp", "--epochs", "2", "--seed", "7", "--alias", "best")
    settings = ("-s", "architecture.hidden=[8]", "--set", "training.batch_size=4")
    job = submitted(small, capsys, "train", *flags, *settings)
    spec = job["spec"]
    assert (job["kind"], job["name"], spec["seed"], spec["alias"]) == ("train", "pets-mlp", 7, "best")
    assert spec["architecture"]["hidden"] == [8]
    assert (spec["training"]["epochs"], spec["training"]["batch_size"]) == (2, 4)


def test_optimize_takes_data_and_name_from_its_parent(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--method", "quantize", "--parent", "pets-cnn@champion", "--max-drop", "1.5")
    job = submitted(small, capsys, "optimize", *flags, "-s", "method.calibration_rows=10")
    assert (job["name"], job["dataset"], job["method"]) == ("pets-cnn-quantize", "pets", "quantize")
    assert job["spec"]["method"]["max_drop"] == 1.5


def test_distill_calls_its_parent_a_teacher(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--method", "distill", "--teacher", "pets-duo", "-s", "method.student.type=mlp")
    job = submitted(small, capsys, "optimize", *flags, "-s", "training.batch_size=4")
    assert (job["name"], job["method"]) == ("pets-duo-distill", "distill")


def test_ensemble_takes_its_data_from_the_first_member(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    job = submitted(small, capsys, "ensemble", "--method", "parallel", "-m", "pets-cnn/1", "-m", "pets-cnn/2")
    assert (job["name"], job["dataset"]) == ("pets-parallel", "pets")
    assert len(job["spec"]["method"]["members"]) == 2


def test_check_submits_nothing(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(list(small.client.jobs.list()))
    flags = ("--dataset", "pets", "--architecture", "mlp", "-s", "training.batch_size=4")
    found = submitted(small, capsys, "train", *flags, "--check")
    assert found["parameters"] > 0
    assert len(list(small.client.jobs.list())) == before


def test_a_wrong_field_is_told_by_its_place(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--dataset", "pets", "--architecture", "mlp", "-s", "training.epoch=5", "--url", small.url])
    assert ended.value.code == 2
    assert "Did you mean `epochs`" in capsys.readouterr().err
