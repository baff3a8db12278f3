"""What the end of an epoch decides, from its figures: the best weights, an early stop, a training that diverged."""

from collections.abc import Callable, Mapping
from math import isfinite

from app.domain.job_errors import TrainingDivergedError
from app.domain.training_specs import TrainingSpec
from worker.nn.training_state import Arrays, TrainingState


def refuse_divergence(epoch: int, figures: Mapping[str, float]) -> None:
    """Raise TrainingDivergedError when a figure of an epoch, counted from 0, is no longer a number."""
    wrong = [name for name, value in figures.items() if not isfinite(value)]
    if wrong:
        raise TrainingDivergedError(
            f"After epoch {epoch + 1} the {wrong[0].replace('_', ' ')} is {figures[wrong[0]]}.",
            hint="Lower the learning rate, or set global_clipnorm to 1.",
        )


def keep_the_best(
    state: TrainingState, figures: Mapping[str, float], training: TrainingSpec, weights: Callable[[], Arrays]
) -> None:
    """Remember the weights of the best score, equal ones by the loss; stop after `patience` epochs without gain."""
    loss, score, stopping = figures["selection_loss"], _score(figures, training), training.early_stopping
    if (score, -loss) > (state.best_score, -state.best_loss):
        state.best_score, state.best_loss, state.best_weights = score, loss, weights()
    if score > state.score_to_beat + (stopping.minimum_delta if stopping else 0.0):
        state.score_to_beat, state.epochs_without_gain = score, 0
    else:
        state.epochs_without_gain += 1
    state.stopped_early = stopping is not None and state.epochs_without_gain >= stopping.patience


def _score(figures: Mapping[str, float], training: TrainingSpec) -> float:
    """Return what is monitored, so that more is better."""
    if training.monitor == "loss" or "selection_accuracy" not in figures:
        return -figures["selection_loss"]
    return figures["selection_accuracy"]
