"""Decide whether a training can be cut into cycles, each of which ends in a member of its own."""

from app.domain.errors import InvalidEnsembleError
from app.domain.pointing import pointing_at
from app.domain.training_specs import CosineSchedule, TrainingSpec


def check_cycles(training: TrainingSpec) -> None:
    """Raise InvalidEnsembleError unless every cycle starts at the full learning rate and comes to rest at its end."""
    schedule = training.schedule
    if not isinstance(schedule, CosineSchedule):
        with pointing_at("/training/schedule"):
            raise InvalidEnsembleError(
                f"Snapshots need a learning rate that falls to zero in every cycle, which `{schedule.type}` does not.",
                hint='Set the schedule to {"type": "cosine"}, or leave it out.',
            )
    if schedule.warmup_fraction:
        with pointing_at("/training/schedule/warmup_fraction"):
            raise InvalidEnsembleError(
                "A restart is the full learning rate at once, which takes the network out of the last cycle's minimum.",
                hint="Leave `warmup_fraction` at 0.",
            )
    if training.early_stopping:
        with pointing_at("/training/early_stopping"):
            raise InvalidEnsembleError(
                "A cycle that is stopped early has not come to rest, and its member is no snapshot of a minimum.",
                hint="Leave `early_stopping` out; fewer `epochs` make shorter cycles.",
            )
