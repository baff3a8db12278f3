"""What a trial of a search came to, how it is kept, and which trials no other beats."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from app.domain.datasets import canonical_json
from app.domain.pareto import pareto_front
from app.domain.specs import Objective
from worker.learning import Trained, trained_codec
from worker.stages import Codec

TrialState: TypeAlias = Literal["finished", "repeated", "pruned", "failed"]
RECORD = "trial.json"
LATENCY_STEP = 1.05


@dataclass(frozen=True)
class Trial:
    """Record one trial.

    `point` goes by JSON pointer; `figures` are those of the exported graph on the selection rows: selection_accuracy or
    selection_rmse, latency_ms, bytes, macs, parameters. `losses` are what a pruner was shown, by epoch; `network` is
    the network's digest.
    """

    number: int
    point: dict[str, Any]
    state: TrialState
    figures: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    epochs: int = 0
    losses: tuple[float, ...] = ()
    network: str = ""

    def loss(self, objective: Objective) -> float:
        """Return what the objective wants low."""
        if objective == "accuracy":
            accuracy = self.figures.get("selection_accuracy")
            return self.figures["selection_rmse"] if accuracy is None else -accuracy
        return self.figures["latency_ms" if objective == "latency" else objective]

    def repeated(self, number: int) -> "Trial":
        """Return a later trial of the same point, which need not be trained again."""
        reason = f"the same point as trial {self.number}"
        return replace(self, number=number, state="repeated", reason=reason)


@dataclass(frozen=True)
class Outcome:
    """Hold a trial and, until it is kept, the network that it trained."""

    trial: Trial
    trained: Trained | None = None


def save_outcome(outcome: Outcome, directory: Path) -> None:
    """Keep a trial and its weights in a directory."""
    if outcome.trained is not None:
        trained_codec.save(outcome.trained, directory)
    (directory / RECORD).write_bytes(canonical_json(asdict(outcome.trial)))


def load_outcome(directory: Path) -> Outcome:
    """Read a trial back; its weights stay where they are, for `load_trained`."""
    kept = orjson.loads((directory / RECORD).read_bytes())
    return Outcome(Trial(**{**kept, "losses": tuple(kept["losses"])}))


outcome_codec: Codec[Outcome] = Codec(save_outcome, load_outcome)


def load_trained(directory: Path) -> Trained:
    """Read the network that a trial trained."""
    return trained_codec.load(directory)


def drop_trained(directory: Path) -> None:
    """Forget the weights of a trial that will not become a version; its record stays."""
    for path in directory.iterdir():
        if path.name != RECORD:
            path.unlink()


def front_of(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Return the finished trials that none beats in every objective, the most accurate last.

    Latencies count in steps of five per cent, since no median repeats more exactly; of equal trials the first counts.
    """
    finished = [trial for trial in trials if trial.state == "finished"]
    first: dict[tuple[float, ...], Trial] = {}
    for trial in finished:
        first.setdefault(tuple(_cost(trial, objective) for objective in objectives), trial)
    kept = [trial for trial, best in zip(first.values(), pareto_front(list(first)), strict=True) if best]
    return sorted(kept, key=lambda trial: (trial.loss("accuracy"), trial.number), reverse=True)


def _cost(trial: Trial, objective: Objective) -> float:
    loss = trial.loss(objective)
    return float(round(math.log(loss) / math.log(LATENCY_STEP))) if objective == "latency" else loss


def row_of(trial: Trial, front: Sequence[Trial]) -> dict[str, Any]:
    """Return a trial as a row of the report's table."""
    return {
        "trial": trial.number,
        "state": trial.state,
        "reason": trial.reason or None,
        "parameters": trial.point,
        "figures": trial.figures,
        "epochs": trial.epochs,
        "front": trial in front,
    }


def line_of(trial: Trial, trials: int) -> str:
    """Say what a trial came to in one line."""
    head = f"trial {trial.number}, {trial.number + 1}/{trials}"
    if not trial.figures:
        return f"{head}: {trial.state}, {trial.reason}"
    found = trial.figures
    quality = (
        f"accuracy {100 * found['selection_accuracy']:.1f} %"
        if "selection_accuracy" in found
        else f"rmse {found['selection_rmse']:.4g}"
    )
    text = f"{head}: {quality}, {found['latency_ms']:.3g} ms, {found['bytes'] / 1000:,.0f} kB"
    return f"{text} ({trial.reason})" if trial.reason else text
