"""The job protocol's pure part: states, outcomes, time constants and the retry policy."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Phase = Literal[
    "waiting_retry", "preparing", "training", "predicting", "checkpointing", "registering", "cancelling", "draining"
]
Outcome = Literal[
    "succeeded",
    "cancelled",
    "drained",
    "lost",
    "failed",
    "fenced",
    "oom",
    "stalled",
    "accelerator_lost",
    "store_away",
    "retried",
]
Charge = Literal["interruptions", "losses_without_progress", "failures", "none"]
TERMINAL_STATES: frozenset[State] = frozenset({"succeeded", "failed", "cancelled"})

# Workers claim only jobs whose `min_protocol` they know; raise it when a spec or artifact changes incompatibly.
PROTOCOL = 4
# What the same recipe means; raise it when equal specs no longer make equal models.
RECIPE_PROTOCOL = 2
# The kind of the jobs that train several members of an ensemble as one graph.
TOGETHER = "train_together"
MAXIMUM_LOSSES = 3
MAXIMUM_FAILURES = 3
MAXIMUM_ATTEMPTS = 50
MAXIMUM_BACKOFF_SECONDS = 360.0


class Timing(BaseModel):
    """Hold the protocol's time constants, in seconds; tests use short ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heartbeat_seconds: float = Field(5.0, gt=0)
    lease_seconds: float = Field(30.0, gt=0)
    reap_seconds: float = Field(5.0, gt=0)
    reap_slack_seconds: float = Field(2.0, ge=0)
    dispatch_seconds: float = Field(1.0, gt=0)
    redispatch_seconds: float = Field(15.0, gt=0)
    poll_seconds: float = Field(1.0, gt=0)
    idle_poll_seconds: float = Field(15.0, gt=0)
    cancel_grace_seconds: float = Field(10.0, gt=0)
    drain_cap_seconds: float = Field(60.0, gt=0)
    stall_seconds: float = Field(300.0, gt=0)
    checkpoint_seconds: float = Field(60.0, gt=0)
    backoff_seconds: float = Field(10.0, ge=0)

    @property
    def self_stop_seconds(self) -> float:
        """Return how long a supervisor may publish without a confirmed heartbeat: five sixths of the lease."""
        return self.lease_seconds * 5 / 6


@dataclass(frozen=True)
class Retry:
    """Say what becomes of a job after an attempt that did not finish it."""

    state: State
    charge: Charge
    backoff_seconds: float
    error_slug: str | None = None


def backoff(attempt: int, base_seconds: float) -> float:
    """Return base * 2^attempt seconds, at most 360; the caller adds jitter of 0.5 to 1."""
    return min(MAXIMUM_BACKOFF_SECONDS, base_seconds * 2.0**attempt)


def decide_retry(
    outcome: Outcome, *, losses_without_progress: int, failures: int, attempts: int, base_seconds: float = 10.0
) -> Retry:
    """Decide, from the counters before this outcome, whether a job runs again and what is charged for it."""
    if outcome in ("drained", "accelerator_lost"):
        return Retry("queued", "interruptions", 0.0 if outcome == "drained" else base_seconds)
    if outcome == "store_away":
        lasting = attempts >= MAXIMUM_ATTEMPTS
        return Retry(
            "failed" if lasting else "queued", "interruptions", base_seconds, "retries-exhausted" if lasting else None
        )
    if outcome == "lost":
        exhausted = losses_without_progress + 1 >= MAXIMUM_LOSSES or attempts >= MAXIMUM_ATTEMPTS
        return _retry(
            "losses_without_progress", losses_without_progress, base_seconds, "poison-job" if exhausted else None
        )
    if outcome == "oom":
        return _retry("failures", failures, base_seconds, "job-out-of-memory" if failures >= 1 else None)
    if outcome in ("stalled", "retried"):
        exhausted = failures + 1 >= MAXIMUM_FAILURES or attempts >= MAXIMUM_ATTEMPTS
        return _retry("failures", failures, base_seconds, "retries-exhausted" if exhausted else None)
    return Retry("failed", "none", 0.0, "job-failed")


def _retry(charge: Charge, count: int, base_seconds: float, error_slug: str | None) -> Retry:
    return Retry("failed" if error_slug else "queued", charge, backoff(count, base_seconds), error_slug)
