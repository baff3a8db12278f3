"""Which point to try next: Optuna's samplers, told what is recorded, so that a search can go on after a stop."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.domain.datasets import canonical_json
from app.domain.search import is_whole
from app.domain.specs import Choices, Range, SearchSpec
from worker.context import Reporter, StopReason
from worker.search.trials import Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    import optuna
    from optuna.distributions import BaseDistribution

STARTUP_TRIALS = 10
LOSSES = "losses.json"


class Pruned(Exception):  # noqa: N818 - an end that was decided, not an error
    """End a trial that stays behind the trials before it."""


class Study:
    """Ask for points and tell what they came to, each trial with a sampler of its own seed.

    The trials told are the whole state: a study that was told the same trials asks for the same point.
    """

    def __init__(self, spec: SearchSpec) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._spec = spec
        self._distributions = {pointer: _distribution(searched) for pointer, searched in spec.space.items()}
        # The median rule of Golovin et al. 2017: worse so far than half of the trials were at this epoch.
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, spec.training.epochs // 5))
        self._study = optuna.create_study(directions=["minimize"] * len(spec.objectives), pruner=pruner)
        self._asked: optuna.Trial | None = None

    @property
    def prunes(self) -> bool:
        """Say whether bad trials are ended early: only accuracy counts, and all trials have as many epochs."""
        return self._spec.objectives == ["accuracy"] and "/training/epochs" not in self._spec.space

    def ask(self, number: int) -> dict[str, Any]:
        """Return the point of a trial, by JSON pointer."""
        self._study.sampler = sampler_of(self._spec, number)
        self._asked = self._study.ask(self._distributions)
        return {pointer: _value(self._spec.space[pointer], found) for pointer, found in self._asked.params.items()}

    def watch(self, reporter: Reporter, resume: Path | None) -> "Watcher":
        """Return a reporter that ends the trial that was asked for last when it falls behind; the first never does."""
        return Watcher(reporter, self._asked, epochs=self._spec.training.epochs, resume=resume)

    def tell(self, trial: Trial) -> None:
        """Note a finished trial; one whose point lies outside of the space, as the spec's own may, teaches nothing."""
        from optuna.trial import TrialState, create_trial

        if self._asked is not None:
            values = self._losses(trial)
            self._study.tell(self._asked, values, state=TrialState.COMPLETE if values else TrialState.PRUNED)
            self._asked = None
            return
        parameters = self._parameters(trial.point)
        if parameters is None:
            return
        values = self._losses(trial)
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if values else TrialState.PRUNED,
                values=values,
                params=parameters,
                distributions=self._distributions,
                intermediate_values=dict(enumerate(trial.losses)),
            )
        )

    def _losses(self, trial: Trial) -> list[float] | None:
        return [trial.loss(objective) for objective in self._spec.objectives] if trial.figures else None

    def _parameters(self, point: Mapping[str, Any]) -> dict[str, Any] | None:
        found = {pointer: _parameter(self._spec.space[pointer], value) for pointer, value in point.items()}
        return None if None in found.values() else found


class Watcher:
    """Pass on what a training reports, show each epoch to the pruner, and raise Pruned when it says so."""

    def __init__(self, reporter: Reporter, trial: "optuna.Trial | None", *, epochs: int, resume: Path | None) -> None:
        self._reporter = reporter
        self._trial = trial
        self._epochs = epochs
        kept = resume / LOSSES if resume is not None else None
        self.losses: list[float] = json.loads(kept.read_text()) if kept is not None and kept.is_file() else []
        if trial is not None:
            for epoch, loss in enumerate(self.losses):
                trial.report(loss, epoch)

    def progress(self, step: int, total_steps: int) -> None:
        """Pass it on."""
        self._reporter.progress(step, total_steps)

    def metric(self, epoch: int, values: Mapping[str, float]) -> None:
        """Show the epoch to the pruner, except the last one: a trial that is through is worth its result."""
        self._reporter.metric(epoch, values)
        accuracy = values.get("selection_accuracy")
        loss = float(values["selection_loss"] if accuracy is None else -accuracy)
        if not np.isfinite(loss):
            return
        self.losses.append(loss)
        if self._trial is None:
            return
        self._trial.report(loss, epoch)
        if epoch + 1 < self._epochs and self._trial.should_prune():
            raise Pruned

    def log(self, text: str) -> None:
        """Pass it on."""
        self._reporter.log(text)

    def stop_requested(self) -> StopReason | None:
        """Pass the question on."""
        return self._reporter.stop_requested()

    def checkpoint_due(self) -> bool:
        """Pass the question on."""
        return self._reporter.checkpoint_due()

    def checkpoint(self, write: "Callable[[Path], None]", step: int) -> None:
        """Keep what the pruner was shown beside the state of the training."""

        def write_both(directory: Path) -> None:
            write(directory)
            (directory / LOSSES).write_text(json.dumps(self.losses))

        self._reporter.checkpoint(write_both, step)


def sampler_of(spec: SearchSpec, number: int) -> "optuna.samplers.BaseSampler":
    """Return the sampler of one trial, seeded by the search's seed and the trial's number alone.

    TPE (Bergstra et al. 2011; for several objectives Ozaki et al. 2022) learns from every trial and so finds a better
    front from up to a thousand trials, the most that a spec may ask for, than NSGA-II (Deb et al. 2002), which evolves
    generations of fifty; and it needs nothing but the trials themselves to go on after a stop.
    """
    import optuna

    seed = int(np.random.SeedSequence((spec.seed, number)).generate_state(1)[0])
    return optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed)


def _distribution(searched: Range | Choices) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(searched, Choices):
        return CategoricalDistribution(tuple(range(len(searched.choices))))
    if is_whole(searched):
        return IntDistribution(int(searched.low), int(searched.high), log=searched.log)
    return FloatDistribution(float(searched.low), float(searched.high), log=searched.log)


def _value(searched: Range | Choices, parameter: Any) -> Any:  # noqa: ANN401 - a choice may be any JSON value
    return searched.choices[parameter] if isinstance(searched, Choices) else parameter


def _parameter(searched: Range | Choices, value: Any) -> int | float | None:  # noqa: ANN401
    """Return what Optuna calls a value, or None where the space has no such value."""
    if isinstance(searched, Choices):
        return _index(searched.choices, value)
    numeric = isinstance(value, int if is_whole(searched) else int | float) and not isinstance(value, bool)
    return value if numeric and searched.low <= value <= searched.high else None


def _index(choices: Sequence[Any], value: object) -> int | None:
    text = canonical_json(value)  # not ==, for which true is 1
    return next((index for index, choice in enumerate(choices) if canonical_json(choice) == text), None)
