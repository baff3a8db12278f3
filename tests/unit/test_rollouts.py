"""Shares are sticky and grow; shadows are counted as they are; gates ask for what was measured."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from app.db.session import write_json
from app.domain.models import Metrics
from app.domain.rollouts import Gate, Tally, agreeing, check_gate, share_of

METRICS = Metrics(
    accuracy=0.9,
    parameters=1,
    macs=1,
    served_bytes=1000,
    weights_bytes=1,
    latency_ms_batch_1=2.0,
    latency_ms_batch_32=1.0,
)


@given(salt=st.text(max_size=10), key=st.text(max_size=20), shares=st.lists(st.integers(1, 100), min_size=2))
def test_a_key_that_gets_the_candidate_keeps_it_while_the_share_grows(salt: str, key: str, shares: list[int]) -> None:
    place = share_of(salt, key)
    assert 0 <= place < 100
    assert share_of(salt, key) == place
    chosen = [place < share for share in sorted(shares)]
    assert chosen == sorted(chosen)


@pytest.mark.parametrize("percent", [1, 10, 50, 90])
def test_a_share_is_what_it_says(percent: int) -> None:
    keys = 20_000
    chosen = sum(share_of("salt", f"user-{key}") < percent for key in range(keys))
    assert binom.ppf(1e-6, keys, percent / 100) <= chosen <= binom.isf(1e-6, keys, percent / 100)


def test_another_rollout_chooses_other_keys() -> None:
    first, second = ([share_of(salt, str(key)) < 50 for key in range(2000)] for salt in ("one", "two"))
    assert 800 < sum(left == right for left, right in zip(first, second, strict=True)) < 1200


answers = st.integers(1, 5).flatmap(
    lambda rows: st.tuples(
        *[st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=rows, max_size=rows)] * 2
    )
)


@given(requests=st.lists(st.tuples(answers, st.floats(0, 2), st.floats(0, 2)), max_size=12), parts=st.integers(1, 4))
def test_tallies_of_processes_add_up(requests: list[Any], parts: int) -> None:
    whole, separate = Tally(), [Tally() for _ in range(parts)]
    for index, ((stable, shadow), *seconds) in enumerate(requests):
        for tally in (whole, separate[index % parts]):
            tally.compare(np.array(stable), np.array(shadow), seconds=(seconds[0], seconds[1]))
    together = Tally()
    for tally in separate:
        together.add(json.loads(json.dumps(tally.as_json())))
    found, expected = together.as_json(), whole.as_json()
    assert found.pop("difference_sum") == pytest.approx(expected.pop("difference_sum"))
    assert found == expected


def test_a_report_tells_agreement_differences_and_latencies() -> None:
    tally = Tally()
    stable = np.array([[0.9, 0.1], [0.2, 0.8]])
    for _ in range(95):
        tally.compare(stable, stable, seconds=(0.001, 0.002))
    for _ in range(5):
        tally.compare(stable, stable[::-1], seconds=(0.001, 0.2))
    report = tally.report()
    assert (report["requests"], report["rows"], report["agreement"]) == (100, 200, 0.95)
    assert report["agreement_interval"][0] < 0.95 < report["agreement_interval"][1]
    assert report["mean_absolute_difference"] == pytest.approx(0.05 * 0.7)
    assert report["stable_latency_ms"]["p50"] == pytest.approx(1, rel=0.1)
    assert report["shadow_latency_ms"] == {"p50": pytest.approx(2, rel=0.1), "p95": pytest.approx(2, rel=0.1)}
    assert Tally().report()["agreement"] is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_agrees_with_nothing_and_spoils_no_mean(wrong: float) -> None:
    tally = Tally()
    stable = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], np.float32)
    shadow = np.array([[0.7, 0.3], [wrong, wrong], [0.5, 0.5]], np.float32)
    tally.compare(stable, shadow, seconds=(0.001, 0.001))
    tally.compare(shadow[1:2], shadow[1:2], seconds=(0.001, 0.001))
    report = tally.report()
    assert (report["rows"], report["unanswered_rows"], report["agreement"]) == (4, 2, 0.5)
    assert report["mean_absolute_difference"] == pytest.approx(0.1)
    Tally().add(json.loads(write_json(tally.as_json())))


def test_the_largest_numbers_differ_by_a_number() -> None:
    tally, largest = Tally(), np.finfo(np.float32).max
    tally.compare(np.array([[largest]]), np.array([[-largest]]), seconds=(0.001, 0.001))
    assert np.isfinite(tally.report()["mean_absolute_difference"])


def test_a_shadow_that_fails_does_not_agree() -> None:
    tally = Tally()
    tally.compare(np.eye(2), np.eye(2), seconds=(0.001, 0.001))
    tally.fail(6)
    report = tally.report()
    assert (report["agreement"], report["errors"], report["requests"]) == (0.25, 1, 1)
    assert report["mean_absolute_difference"] == 0


def test_numbers_agree_when_they_differ_by_a_hundredth() -> None:
    stable, shadow = np.array([[100.0], [100.0], [0.0], [-5.0]]), np.array([[100.9], [102.0], [0.0], [5.0]])
    assert agreeing(stable, shadow).tolist() == [True, False, True, False]


def test_every_condition_is_told_with_what_was_measured() -> None:
    better = METRICS.model_copy(update={"accuracy": 0.95})
    gate = Gate(min_accuracy=0.92, max_drop=0.01, max_latency_ms=1.0, max_bytes=1000, min_agreement=0.9, min_requests=1)
    found = {item.name: item for item in check_gate(gate, candidate=METRICS, stable=better, tally=Tally())}
    assert {name: item.holds for name, item in found.items()} == {
        "min_accuracy": False,
        "max_drop": False,
        "max_latency_ms": False,
        "max_bytes": True,
        "min_agreement": False,
        "min_requests": False,
    }
    assert found["max_drop"].measured == pytest.approx(0.05)
    assert found["min_agreement"].measured is None
    assert check_gate(Gate(), candidate=METRICS, stable=None, tally=Tally()) == []
