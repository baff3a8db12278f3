"""Make plans for graphs: at once a plain one, and later the one that measuring has shown to be the fastest."""

import hashlib
import json
import platform
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from app.logging import get_logger
from app.serving import openvino_engine
from app.serving.plans import Plan, Step
from app.serving.runtime import CUDA, Engine, has_cuda, load_engine, plain_bytes
from app.serving.tuning import Candidate, tune

log = get_logger(__name__)
EngineChoice = Literal["auto", "onnxruntime", "openvino"]
_BASE = "onnxruntime/1"
_MAIN_OUTPUTS = ("probabilities", "prediction")


class PlanMaker:
    """Load graphs within a budget of threads, and remember between starts what was measured."""

    def __init__(self, memory: Path, *, threads: int, engine: EngineChoice = "auto", tune: bool = True) -> None:
        self._memory = memory
        self._threads = threads
        self._engine = engine
        self.tunes = tune

    def load(self, path: Path) -> Plan:
        """Return a plan that serves at once: ONNX Runtime on one thread, warmed up by one row of the graph's shape."""
        engine = load_engine(path)
        engine.run(np.zeros((1, *engine.shape), dtype=engine.dtype), _main(engine))
        return Plan(Step(1, engine, 1, _BASE))

    def improve(self, path: Path, plan: Plan) -> Plan:
        """Return the fastest plan for a graph; it takes seconds where nothing is remembered of it."""
        graph = plain_bytes(path)
        base = plan.base.engine
        candidates = self._candidates(graph, base)
        if not candidates:
            return plan
        place = self._memory / f"{self._digest(graph, candidates)}.json"
        remembered = _recall(place, base, candidates)
        if remembered is not None:
            return remembered
        found = tune(base, candidates, _main(base), threads=self._threads)
        _remember(place, found)
        return found

    def _candidates(self, graph: bytes, base: Engine) -> list[Candidate]:
        found: list[Candidate] = []
        if self._engine != "openvino" and has_cuda():
            found.append(Candidate("cuda/1", 1, partial(load_engine, graph, provider=CUDA)))
        for threads in sorted({1, self._threads}):
            if self._engine != "openvino" and threads > 1:
                found.append(Candidate(f"onnxruntime/{threads}", threads, partial(load_engine, graph, threads=threads)))
            if self._engine != "onnxruntime" and openvino_engine.is_installed():
                load = partial(openvino_engine.OpenVinoEngine, graph, _main(base), like=base, threads=threads)
                found.append(Candidate(f"openvino/{threads}", threads, load))
        return found

    def _digest(self, graph: bytes, candidates: Sequence[Candidate]) -> str:
        """Name what a measurement holds for: this graph, these ways to run it, on this kind of processor."""
        known: list[Any] = [_processor(), self._threads, *(_version(name) for name in ("onnxruntime", "openvino"))]
        told = json.dumps([*known, *(candidate.name for candidate in candidates)])
        return hashlib.sha256(graph + told.encode()).hexdigest()


def _main(engine: Engine) -> tuple[str, ...]:
    return next(((name,) for name in _MAIN_OUTPUTS if name in engine.outputs), engine.outputs[:1])


def _remember(place: Path, plan: Plan) -> None:
    """Write down which engine was fastest; without that the next start measures again."""
    steps = [[step.at_least_rows, step.name, step.seconds] for step in plan.steps]
    told = {"outputs": sorted(plan.outputs), "steps": steps, "most_rows": plan.most_rows, "least_rows": plan.least_rows}
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial_file = place.with_suffix(f".{id(plan)}.partial")
        partial_file.write_text(json.dumps(told), encoding="utf-8")
        partial_file.replace(place)
    except OSError as failed:
        log.warning("tuning_not_remembered", reason=str(failed))


def _recall(place: Path, base: Engine, candidates: Sequence[Candidate]) -> Plan | None:
    """Return the plan that was measured before, with its engines loaded; None where there is none that works."""
    by_name = {candidate.name: candidate for candidate in candidates}
    try:
        told = json.loads(place.read_text(encoding="utf-8"))
        engines = {_BASE: Step(1, base, 1, _BASE)}
        for _, name, _ in told["steps"]:
            if name not in engines:
                engines[name] = Step(1, by_name[name].load(), by_name[name].threads, name)
    except FileNotFoundError:
        return None
    except Exception as failed:  # noqa: BLE001 - a runtime raises whatever it likes, and measuring again always works
        log.warning("tuning_not_recalled", reason=str(failed)[:300])
        return None
    return Plan(
        engines[_BASE],
        frozenset(told["outputs"]),
        tuple(
            Step(rows, engines[name].engine, engines[name].threads, name, seconds)
            for rows, name, seconds in told["steps"]
        ),
        told["most_rows"],
        told["least_rows"],
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
