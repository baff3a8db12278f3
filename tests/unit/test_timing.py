"""Timing on engines whose times are known."""

import time

import numpy as np
import pytest

from worker.timing import BATCHES, peak_memory_bytes, ratio_of_medians, rows_per_second, time_side_by_side


class Sleeper:
    """Answer after a time that depends on the batch; note who ran when."""

    def __init__(self, name, seconds_per_run, seconds_per_row=0.0, diary=None):
        self.name, self.diary = name, [] if diary is None else diary
        self.seconds_per_run, self.seconds_per_row = seconds_per_run, seconds_per_row
        self.shape, self.dtype, self.outputs = (1,), "float32", ("prediction",)

    def run(self, inputs, outputs):
        self.diary.append((self.name, len(inputs)))
        time.sleep(self.seconds_per_run + self.seconds_per_row * len(inputs))
        return [inputs]


ROWS = np.zeros((256, 1), np.float32)


def test_engines_take_turns():
    diary = []
    engines = [Sleeper(name, 0.001, diary=diary) for name in "ab"]
    times = time_side_by_side(engines, ROWS[:1], "prediction")
    assert len(times[0]) == len(times[1]) >= 20
    names = "".join(name for name, _ in diary)
    assert names[6:].startswith("aaaaabbbbbaaaaabbbbb")


def test_a_slow_engine_is_not_run_for_ever():
    times = time_side_by_side([Sleeper("slow", 0.3)], ROWS[:1], "prediction")
    assert 5 <= len(times[0]) < 20


def test_the_ratio_of_times_says_how_many_times_less_one_engine_takes():
    rng = np.random.default_rng(0)
    own, other = rng.normal(1, 0.05, 100), rng.normal(3, 0.15, 100)
    found = ratio_of_medians(own, other)
    assert found.ratio == pytest.approx(3, abs=0.1)
    assert found.interval[0] < found.ratio < found.interval[1]


def test_the_interval_of_engines_that_are_alike_holds_1_about_19_times_in_20():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        low, high = ratio_of_medians(*rng.normal(1, 0.05, (2, 100)), resamples=200).interval
        held += low <= 1 <= high
    assert held >= 88


def test_throughput_is_that_of_the_best_batch():
    engine = Sleeper("steady", 0.01)
    found = rows_per_second(engine, ROWS, "prediction")
    assert {size for _, size in engine.diary} == set(BATCHES)
    assert 64 / 0.01 < found <= 256 / 0.01


def test_batches_stop_growing_once_they_are_slow():
    engine = Sleeper("slow", 0.0, seconds_per_row=0.01)
    rows_per_second(engine, ROWS, "prediction")
    assert {size for _, size in engine.diary} == {32, 64}


def test_memory_grows_by_what_is_held():
    before = peak_memory_bytes()
    held = np.ones(200_000_000 // 8)
    assert peak_memory_bytes() >= before
    assert peak_memory_bytes() > held.nbytes
