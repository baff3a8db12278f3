import pytest

from app.domain.jobs import MAXIMUM_ATTEMPTS, Outcome, Timing, backoff, decide_retry


def decide(outcome: Outcome, *, losses: int = 0, failures: int = 0, attempts: int = 1):
    return decide_retry(outcome, losses_without_progress=losses, failures=failures, attempts=attempts)


def test_a_drained_job_runs_again_at_once_and_is_charged_nothing_but_an_interruption() -> None:
    retry = decide("drained", failures=2, losses=2)
    assert (retry.state, retry.charge, retry.backoff_seconds) == ("queued", "interruptions", 0.0)


def test_the_third_loss_without_progress_is_a_poison_job() -> None:
    assert [decide("lost", losses=count).state for count in (0, 1, 2)] == ["queued", "queued", "failed"]
    assert decide("lost", losses=2).error_slug == "poison-job"


def test_no_job_is_attempted_for_ever() -> None:
    assert decide("lost", attempts=MAXIMUM_ATTEMPTS).state == "failed"
    assert decide("stalled", attempts=MAXIMUM_ATTEMPTS).state == "failed"


def test_out_of_memory_is_tried_once_more() -> None:
    assert [decide("oom", failures=count).state for count in (0, 1)] == ["queued", "failed"]
    assert decide("oom", failures=1).error_slug == "job-out-of-memory"


def test_a_retryable_failure_is_tried_three_times_in_all() -> None:
    assert [decide("retried", failures=count).state for count in (0, 1, 2)] == ["queued", "queued", "failed"]


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "fenced"])
def test_a_permanent_failure_is_never_tried_again(outcome: Outcome) -> None:
    assert decide(outcome).state == "failed"


def test_the_backoff_doubles_up_to_six_minutes() -> None:
    assert [backoff(attempt, 10.0) for attempt in (0, 1, 5, 6, 40)] == [10.0, 20.0, 320.0, 360.0, 360.0]


def test_a_supervisor_stops_publishing_before_its_lease_ends() -> None:
    timing = Timing()
    assert timing.heartbeat_seconds < timing.self_stop_seconds < timing.lease_seconds


def test_an_outage_of_the_store_costs_a_job_nothing_but_time() -> None:
    again = decide("store_away", failures=2)
    assert (again.state, again.charge, again.backoff_seconds) == ("queued", "interruptions", 10.0)
    assert decide("store_away", failures=2, attempts=50).error_slug == "retries-exhausted", "but not for ever"
