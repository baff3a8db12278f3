"""What serves a graph is chosen by measuring, and only among what answers the same."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.serving import openvino_engine
from app.serving.loading import PlanMaker
from app.serving.tuning import Candidate, tune
from tests.api.builders import single_graph


class Slow:
    """Answer ones, in a time of its own for a run and for a row."""

    shape = (2,)
    dtype = "float32"
    outputs = ("probabilities",)
    graph_bytes = 0

    def __init__(self, run_seconds: float, row_seconds: float, answer: float = 1.0) -> None:
        self.run_seconds = run_seconds
        self.row_seconds = row_seconds
        self.answer = answer

    def run(self, inputs: Any, outputs: Sequence[str]) -> list[Any]:
        return [np.full((len(inputs), 1), self.answer, dtype=np.float32) for _ in outputs]


def candidate(name: str, engine: Slow, threads: int = 1) -> Candidate:
    return Candidate(name, threads, lambda: engine)  # type: ignore[arg-type,return-value]


def tuned(base: Slow, *candidates: Candidate, threads: int = 1) -> Any:
    candidates = (candidate("onnxruntime/1", base), *candidates)
    return tune(base, candidates, ["probabilities"], threads=threads, timer=told)  # type: ignore[arg-type]


def told(engine: Any, rows: Any, _outputs: Any) -> float:
    """Return the time that an engine says it takes: how busy the machine is must not decide a test."""
    seconds: float = engine.run_seconds + engine.row_seconds * len(rows)
    return seconds


def test_each_batch_goes_to_what_is_fastest_for_it() -> None:
    plan = tuned(Slow(0.0, 0.004), candidate("onnxruntime/other", Slow(0.02, 0.0001)))
    assert plan.step_for(1, ["probabilities"]).name == "onnxruntime/1"
    assert plan.step_for(64, ["probabilities"]).name == "onnxruntime/other"
    assert plan.step_for(1000, ["probabilities"]).name == "onnxruntime/other"
    assert plan.most_rows == 64


@pytest.mark.parametrize(("one_thread_seconds", "two_threads_seconds", "chosen"), [(5e-4, 3e-4, 1), (1e-2, 6e-3, 2)])
def test_a_lone_row_is_split_among_threads_only_where_that_saves_much(
    one_thread_seconds: float, two_threads_seconds: float, chosen: int
) -> None:
    split = candidate("onnxruntime/2", Slow(0.0, two_threads_seconds), threads=2)
    plan = tuned(Slow(0.0, one_thread_seconds), split, threads=2)
    assert plan.step_for(1, ["probabilities"]).threads == chosen


def test_one_runtime_answers_all_batches() -> None:
    plan = tuned(Slow(0.0, 0.004), candidate("openvino/1", Slow(0.008, 0.0001)))
    assert {step.name for step in plan.steps} == {"openvino/1"}


def test_batches_that_do_not_pay_are_not_made() -> None:
    plan = tuned(Slow(0.0, 0.004))
    assert plan.most_rows == 1


def test_other_outputs_are_left_to_the_engine_that_answers_all() -> None:
    plan = tuned(Slow(0.0, 0.004), candidate("openvino/1", Slow(0.0, 0.0001)))
    assert plan.step_for(1, ["probabilities", "member.0.probabilities"]) is plan.base


def test_an_engine_that_answers_something_else_is_left_out() -> None:
    plan = tuned(Slow(0.0, 0.004), candidate("openvino/1", Slow(0.0, 0.0, answer=1.001)))
    assert {step.name for step in plan.steps} == {"onnxruntime/1"}


def test_an_engine_that_cannot_be_loaded_is_left_out() -> None:
    def fail() -> Any:
        raise RuntimeError("no such operator")

    plan = tuned(Slow(0.0, 0.001), Candidate("broken", 1, fail))
    assert {step.name for step in plan.steps} == {"onnxruntime/1"}
    alone = tune(Slow(0.0, 0.001), [Candidate("broken", 1, fail)], ["probabilities"], threads=1, timer=told)  # type: ignore[arg-type]
    assert alone.step_for(1, ["probabilities"]) is alone.base


def test_two_threads_must_be_twice_as_fast_for_batches_but_not_for_one_row() -> None:
    plan = tuned(Slow(0.0, 0.004), candidate("onnxruntime/2", Slow(0.0, 0.003), threads=2), threads=2)
    assert plan.step_for(1, ["probabilities"]).name == "onnxruntime/2"
    assert plan.step_for(64, ["probabilities"]).name == "onnxruntime/1"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(single_graph(0).SerializeToString())
    return path


@pytest.mark.skipif(not openvino_engine.is_installed(), reason="OpenVINO has no wheel for this machine")
@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_a_real_graph_is_tuned_once_and_answers_the_same(graph: Path, tmp_path: Path, engine: Any) -> None:
    maker = PlanMaker(tmp_path / "tuning", threads=2, engine=engine)
    plain = maker.load(graph)
    found = maker.improve(graph, plain)
    again = PlanMaker(tmp_path / "tuning", threads=2, engine=engine).improve(graph, plain)
    assert [(step.at_least_rows, step.name) for step in again.steps] == [
        (step.at_least_rows, step.name) for step in found.steps
    ]
    rows = np.random.default_rng(1).random((5, 2, 2, 1), dtype=np.float32)
    expected = plain.base.engine.run(rows, ["probabilities"])[0]
    for step in (*found.steps, *again.steps):
        np.testing.assert_allclose(step.engine.run(rows, ["probabilities"])[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not openvino_engine.is_installed(), reason="OpenVINO has no wheel for this machine")
def test_openvino_answers_outputs_in_the_order_asked_for(graph: Path, tmp_path: Path) -> None:
    plain = PlanMaker(tmp_path, threads=1).load(graph)
    engine = openvino_engine.OpenVinoEngine(
        graph.read_bytes(), ["logits", "probabilities"], like=plain.base.engine, threads=1
    )
    rows = np.random.default_rng(1).random((3, 2, 2, 1), dtype=np.float32)
    names = ["probabilities", "logits"]
    for got, expected in zip(engine.run(rows, names), plain.base.engine.run(rows, names), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_runtime_that_kills_its_process_is_done_without(graph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deadly" / "openvino"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", encoding="utf-8")
    maker = PlanMaker(tmp_path / "tuning", threads=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder.parent), *sys.path]))
        found = maker.improve(graph, maker.load(graph))
    assert {step.name.partition("/")[0] for step in found.steps} == {"onnxruntime"}


def test_a_damaged_note_of_a_measurement_is_measured_again(graph: Path, tmp_path: Path) -> None:
    maker = PlanMaker(tmp_path / "tuning", threads=2)
    plain = maker.load(graph)
    maker.improve(graph, plain)
    for note in (tmp_path / "tuning").iterdir():
        note.write_text("{}", encoding="utf-8")
    assert maker.improve(graph, plain).steps
