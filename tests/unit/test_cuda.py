"""A GPU answers what the processor does, and a row's answer does not depend on the rows beside it."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving import cuda_engine
from app.serving.cuda_engine import FixedRows, load_cuda_engine, visible_gpus
from app.serving.loading import PlanMaker
from app.serving.runtime import load_engine
from app.serving.tuning import tune
from app.serving.ways import ways_to_run
from benchmarks.scale.cost import network_of
from benchmarks.serving.graphs import ensemble, members

OUTPUTS = ["probabilities"]
ROWS = np.random.default_rng(0).random((200, 28, 28, 1), dtype=np.float32)


@cache
def fused() -> bytes:
    """Return four CNNs in one graph."""
    content: bytes = ensemble(members(4, network_of("small"))).SerializeToString()
    return content


@cache
def missing() -> str:
    """Tell why no GPU can be used; empty where one can."""
    if not cuda_engine.is_installed():
        return "this build of ONNX Runtime knows no GPUs: install onnxruntime-gpu in place of onnxruntime"
    try:
        load_cuda_engine(fused(), OUTPUTS)
    except RuntimeError as failed:
        return str(failed)
    return ""


@pytest.fixture
def gpu() -> None:
    """Skip where there is no GPU."""
    if missing():
        pytest.skip(missing())


class Doubling:
    """Answer rows twice as large, and note how many came at once."""

    shape = (2,)
    dtype = "float32"
    outputs = ("twice", "same")
    graph_bytes = 5

    def __init__(self) -> None:
        self.seen: list[int] = []

    def run(self, inputs: Any, outputs: Sequence[str]) -> list[Any]:
        self.seen.append(len(inputs))
        return [inputs * 2 if name == "twice" else inputs for name in outputs]


@given(count=st.integers(0, 30), rows=st.integers(1, 12))
def test_an_engine_of_fixed_rows_answers_any_number_of_them(count: int, rows: int) -> None:
    inner = Doubling()
    engine = FixedRows(inner, rows)  # type: ignore[arg-type]
    inputs = np.random.default_rng(count).random((count, 2), dtype=np.float32)
    same, twice = engine.run(inputs, ["same", "twice"])
    np.testing.assert_array_equal(same, inputs)
    np.testing.assert_array_equal(twice, inputs * 2)
    assert set(inner.seen) == {rows}
    assert len(inner.seen) == max(1, -(-count // rows))


def test_a_provider_that_cannot_be_used_is_an_error() -> None:
    unknown = pytest.warns(UserWarning, match="not in available provider names")
    with unknown, pytest.raises(RuntimeError, match="SomethingElse cannot be used here"):
        load_engine(fused(), provider=("SomethingElse", {}))


@pytest.mark.skipif(not cuda_engine.is_installed(), reason="this build of ONNX Runtime knows no GPUs")
def test_without_a_gpu_the_processor_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = tmp_path / "model.onnx"
    path.write_bytes(fused())
    maker = PlanMaker(tmp_path / "tuning", threads=1)
    found = maker.improve(path, maker.load(path))
    assert found.steps
    assert not [step.name for step in found.steps if step.name.startswith("cuda")]


def test_what_was_measured_holds_for_the_gpus_that_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 11\n", encoding="utf-8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert visible_gpus(tmp_path) == ["Model: \t\t NVIDIA H200", "0"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus(tmp_path / "none") == ["all"]


@pytest.mark.usefixtures("gpu")
def test_a_gpu_answers_as_the_processor_does() -> None:
    expected = load_engine(fused()).run(ROWS, OUTPUTS)[0]
    got = load_cuda_engine(fused(), OUTPUTS).run(ROWS, OUTPUTS)[0]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_too_an_answer_does_not_depend_on_who_else_is_asking() -> None:
    engine = load_cuda_engine(fused(), OUTPUTS)
    together = engine.run(ROWS, OUTPUTS)[0]
    for start, stop in ((0, 1), (7, 8), (3, 40), (60, 130), (199, 200)):
        np.testing.assert_array_equal(engine.run(ROWS[start:stop], OUTPUTS)[0], together[start:stop])


@pytest.mark.usefixtures("gpu")
def test_a_gpu_is_chosen_where_it_is_the_fastest() -> None:
    base = load_engine(fused())
    candidates = ways_to_run(fused(), base, engine="onnxruntime", threads=os.cpu_count() or 1)

    def told(engine: Any, _rows: Any, _outputs: Any) -> float:
        return 1.0 if isinstance(engine, FixedRows) else 2.0

    plan = tune(base, candidates, OUTPUTS, threads=os.cpu_count() or 1, timer=told)
    assert {step.name.partition("/")[0] for step in plan.steps} <= {"cuda", "cuda.merged"}
    np.testing.assert_allclose(
        plan.steps[-1].engine.run(ROWS, OUTPUTS)[0], base.run(ROWS, OUTPUTS)[0], rtol=1e-5, atol=1e-5
    )
