"""Make plans for graphs: at once a plain one, and later the one that measuring has shown to be the fastest."""

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from app.logging import get_logger
from app.serving import cuda_engine
from app.serving.plans import Plan, Step
from app.serving.runtime import Engine, load_engine, plain_bytes
from app.serving.tuning import Candidate
from app.serving.ways import BASE, EngineChoice, main_outputs, ways_to_run

log = get_logger(__name__)
_MEASURING_SECONDS = 300


class PlanMaker:
    """Load graphs within a budget of threads, and remember between starts what was measured."""

    def __init__(self, memory: Path, *, threads: int, engine: EngineChoice = "auto") -> None:
        self._memory = memory
        self._threads = threads
        self._engine: EngineChoice = engine

    def load(self, path: Path) -> Plan:
        """Return a plan that serves at once: ONNX Runtime on one thread, warmed up by one row of the graph's shape."""
        engine = load_engine(path)
        engine.run(np.zeros((1, *engine.shape), dtype=engine.dtype), main_outputs(engine))
        return Plan(Step(1, engine, 1, BASE))

    def improve(self, path: Path, plan: Plan) -> Plan:
        """Return the fastest plan for a graph; it takes seconds where nothing is remembered of it."""
        graph = plain_bytes(path)
        base = plan.base.engine
        candidates = ways_to_run(graph, base, engine=self._engine, threads=self._threads)
        place = self._memory / f"{self._digest(graph, candidates)}.json"
        found = recall(place, base, candidates)
        if found is None and self._measure(path, place):
            found = recall(place, base, candidates)
        return found or plan

    def _measure(self, path: Path, place: Path) -> bool:
        """Let a process of its own measure: a runtime that dies of a graph must not take the service with it."""
        for engine in dict.fromkeys((self._engine, "onnxruntime")):
            command = [
                sys.executable,
                "-P",
                "-m",
                "app.serving.measuring",
                str(path),
                str(place),
                str(self._threads),
                engine,
            ]
            try:
                ended = subprocess.run(
                    command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_MEASURING_SECONDS, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as failed:
                log.warning("graph_not_measured", engine=engine, reason=str(failed)[:300])
                continue
            if ended.returncode == 0:
                return True
            told = ended.stderr.decode(errors="replace")[-300:]
            log.warning("graph_not_measured", engine=engine, code=ended.returncode, reason=told)
        return False

    def _digest(self, graph: bytes, candidates: Sequence[Candidate]) -> str:
        """Name what a measurement holds for: this graph, these ways to run it, on this kind of processor and GPU."""
        known: list[Any] = [_processor(), self._threads, onnxruntime.__version__, _version("openvino")]
        known += cuda_engine.visible_gpus() if cuda_engine.is_installed() else []
        told = json.dumps([*known, *(candidate.name for candidate in candidates)])
        return hashlib.sha256(graph + told.encode()).hexdigest()


def remember(place: Path, plan: Plan) -> None:
    """Write down which engine was fastest; raise OSError."""
    steps = [[step.at_least_rows, step.name, step.seconds] for step in plan.steps]
    told = {"outputs": sorted(plan.outputs), "steps": steps, "most_rows": plan.most_rows, "least_rows": plan.least_rows}
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = place.with_suffix(f".{id(plan)}.partial")
    unfinished.write_text(json.dumps(told), encoding="utf-8")
    unfinished.replace(place)


def recall(place: Path, base: Engine, candidates: Sequence[Candidate]) -> Plan | None:
    """Return the plan that was measured before, with its engines loaded; None where there is none that works."""
    by_name = {candidate.name: candidate for candidate in candidates}
    try:
        told = json.loads(place.read_text(encoding="utf-8"))
        engines = {name: by_name[name].load() for name in {name for _, name, _ in told["steps"]}}
        steps = tuple(
            Step(rows, engines[name], by_name[name].threads, name, seconds) for rows, name, seconds in told["steps"]
        )
        return Plan(Step(1, base, 1, BASE), frozenset(told["outputs"]), steps, told["most_rows"], told["least_rows"])
    except FileNotFoundError:
        return None
    except Exception as failed:  # noqa: BLE001 - a runtime raises whatever it likes, and measuring again always works
        log.warning("tuning_not_recalled", reason=str(failed)[:300])
        return None


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
