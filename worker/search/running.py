"""One trial of a search: train the point as a train job would, and judge the graph that would be served."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.domain.datasets import digest_of
from app.domain.errors import InvalidInputError
from app.domain.job_errors import ExportMismatchError, TrainingDivergedError
from app.domain.network import Network, SizeLimits, Trace
from app.domain.presets import build_network
from app.domain.search import apply_point, check_point
from app.domain.specs import SearchSpec
from app.serving.runtime import load_engine, predict_rows
from worker.context import Reporter
from worker.learning import Trained, learn, plain_lesson
from worker.measure import judge
from worker.memory import is_out_of_memory
from worker.nn.export import to_onnx
from worker.rows import Data
from worker.search.asking import Pruned, Study, Watcher
from worker.search.trials import Outcome, Trial, TrialState
from worker.timing import Contestant, time_side_by_side

# What ends a trial, but not the search: the point cannot be built, trained or exported.
_INFEASIBLE = (InvalidInputError, TrainingDivergedError, ExportMismatchError)


@dataclass(frozen=True)
class Asked:
    """Hold a point that is to be tried, and the latencies of networks that were measured before, by digest."""

    number: int
    point: dict[str, Any]
    latencies: Mapping[str, float]


@dataclass(frozen=True)
class Trier:
    """Try points of a search on a data set."""

    spec: SearchSpec
    data: Data
    limits: SizeLimits
    study: Study

    def attempt(self, asked: Asked, reporter: Reporter, resume: Path | None) -> Outcome:
        """Train a point and judge it; whatever is wrong with the point becomes the trial's reason."""
        watcher = self.study.watch(reporter, resume) if self.study.prunes else None
        try:
            return self._trained(asked, watcher or reporter, resume, watcher)
        except Pruned:
            epochs = len(watcher.losses) if watcher else 0
            return _ended(asked, "pruned", f"behind half of the trials after epoch {epochs}", watcher)
        except _INFEASIBLE as wrong:
            return _ended(asked, "failed", wrong.detail, watcher)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return _ended(asked, "failed", "too large for this machine's memory", watcher)

    def _trained(self, asked: Asked, reporter: Reporter, resume: Path | None, watcher: Watcher | None) -> Outcome:
        schema = self.data.dataset_schema
        traced = check_point(self.spec, asked.point, schema, limits=self.limits)
        chosen = apply_point(self.spec, asked.point)
        network = build_network(chosen.architecture, schema)
        trained = learn(plain_lesson(chosen, network, self.data), reporter, resume)
        digest = digest_of(network.model_dump(mode="json"))
        figures = self._judge(network, trained, traced, asked.latencies.get(digest))
        trial = Trial(
            number=asked.number,
            point=asked.point,
            state="finished",
            figures=figures,
            epochs=len(trained.history),
            losses=tuple(watcher.losses) if watcher else (),
            network=digest,
        )
        return Outcome(trial, trained)

    def _judge(self, network: Network, trained: Trained, traced: Trace, latency_ms: float | None) -> dict[str, float]:
        """Measure the exported graph on the selection rows; equal networks are timed once, so that they stay equal."""
        data = self.data
        graph = to_onnx(network, trained.weights).SerializeToString()
        engine = load_engine(graph)
        answers = predict_rows(engine, data.x["selection"], data.output)
        found = judge(answers, np.asarray(data.y["selection"]), data.dataset_schema.task)
        name = "accuracy" if data.classification else "rmse"
        if latency_ms is None:
            row = np.asarray(data.x["selection"][:1], dtype=engine.dtype)
            timed = Contestant(partial(load_engine, graph), row, data.output)
            latency_ms = float(np.median(time_side_by_side([timed], [1])[1][0]))
        return {
            f"selection_{name}": float(found[name]),
            "latency_ms": latency_ms,
            "bytes": len(graph),
            "macs": traced.macs,
            "parameters": traced.parameters,
        }


def _ended(asked: Asked, state: TrialState, reason: str, watcher: Watcher | None) -> Outcome:
    losses = tuple(watcher.losses) if watcher else ()
    trial = Trial(asked.number, asked.point, state, reason=reason, epochs=len(losses), losses=losses)
    return Outcome(trial)
