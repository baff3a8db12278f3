"""Timing on engines whose times are known."""

import time
from collections import Counter
from functools import partial

import numpy as np
import pytest

from worker.timing import (
    BATCHES,
    Contestant,
    Plan,
    Ratio,
    orders_of,
    peak_memory_bytes,
    ratio_of_times,
    rows_per_second,
    time_side_by_side,
)


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


class Machine:
    """Be a machine with a clock of its own: its speed wanders, and it stalls now and then."""

    def __init__(self, seed, order):
        self.order, self.loaded = order, 0
        self.rng, self.seconds, self.slowness, self.last, self.diary = np.random.default_rng(seed), 0.0, 0.0, None, []

    def clock(self):
        return self.seconds

    def spend(self, seconds):
        self.slowness = 0.99 * self.slowness + self.rng.normal(0, 0.03)
        self.seconds += seconds * np.exp(self.slowness + abs(self.rng.normal(0, 0.05)))
        if self.rng.random() < 0.01:
            self.seconds += 20 * seconds


class Session:
    """Take a known time on a machine, a little more or less by where it was loaded, more when another ran before."""

    def __init__(self, name, machine, seconds):
        self.name, self.machine = name, machine
        machine.loaded += 1
        self.seconds = seconds * np.exp(machine.rng.normal(0, 0.02) + machine.order * (machine.loaded % 2))

    def run(self, inputs, outputs):
        is_cold, self.machine.last = self.machine.last != self.name, self.name
        self.machine.diary.append(self.name)
        self.machine.spend(self.seconds * (2 if is_cold else 1))
        return [inputs]


ROWS = np.zeros((256, 1), np.float32)


def race(seed, order=0.0, **seconds):
    machine = Machine(seed, order)
    sessions = [Contestant(partial(Session, name, machine, cost), ROWS, "x") for name, cost in seconds.items()]
    return machine, time_side_by_side(sessions, [1], seed=seed, clock=machine.clock)[1]


def test_nobody_is_first_more_often_in_loading_or_in_running():
    for seed in range(20):
        orders = list(orders_of(2, Plan(10, 4, 5), np.random.default_rng(seed)))
        assert len(orders) == 10
        assert Counter(order.loads[0] for order in orders) == {0: 5, 1: 5}
        for begin in (0, 2, 4, 6):  # every turn of all, and who had run just before
            assert Counter(order.turns[begin] for order in orders) == {0: 5, 1: 5}
    three = next(orders_of(3, Plan(2, 4, 5), np.random.default_rng(0)))
    assert Counter(three.turns) == {0: 4, 1: 4, 2: 4}
    assert three.turns[3:6] == three.turns[:3][::-1]


def test_what_is_loaded_second_has_no_advantage():
    ratios = [ratio_of_times(*race(seed, order=0.05, a=0.0001, b=0.0001)[1]).ratio for seed in range(60)]
    assert np.mean(ratios) == pytest.approx(1, abs=0.01)


def test_engines_take_turns_and_are_loaded_anew():
    machine, (own, other) = race(0, a=0.001, b=0.001)
    assert own.shape == other.shape == (10, 20)
    changes = sum(one != next_one for one, next_one in zip(machine.diary, machine.diary[1:], strict=False))
    assert changes >= 10 * 5
    slower, faster = own.mean(axis=1).max(), own.mean(axis=1).min()
    assert slower > faster


def test_the_interval_of_two_copies_of_one_model_holds_1_about_19_times_in_20_on_a_machine_that_drifts():
    found = [ratio_of_times(*race(seed, a=0.0001, b=0.0001)[1]) for seed in range(150)]
    held = [one.interval[0] <= 1 <= one.interval[1] for one in found]
    assert sum(held) >= 0.9 * len(held)
    below = sum(one.ratio < 1 for one in found)
    assert 0.35 * len(found) < below < 0.65 * len(found)  # nobody has an advantage


def test_a_real_difference_is_shown_on_a_machine_that_drifts():
    found = ratio_of_times(*race(0, own=0.0001, other=0.00015)[1])
    assert found.ratio == pytest.approx(1.5, rel=0.1)
    assert 1 < found.interval[0] < found.ratio < found.interval[1]


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((1.01, 1.2), "faster"),
        ((0.8, 0.99), "slower"),
        ((0.9, 1.1), "no difference shown"),
        ((1, 1.2), "no difference shown"),
    ],
)
def test_the_interval_decides_what_is_shown(interval, verdict):
    assert Ratio(sum(interval) / 2, interval).verdict == verdict


def test_two_copies_of_one_model_are_seldom_called_faster_or_slower():
    verdicts = Counter(ratio_of_times(*race(seed, a=0.0001, b=0.0001)[1]).verdict for seed in range(50))
    assert verdicts["no difference shown"] >= 44
    assert ratio_of_times(*race(0, own=0.0001, other=0.00015)[1]).verdict == "faster"
    assert ratio_of_times(*race(0, own=0.00015, other=0.0001)[1]).verdict == "slower"


def test_a_slow_engine_is_not_run_for_ever():
    machine, (times,) = race(0, slow=5.0)
    assert times.shape == (4, 2)
    assert len(machine.diary) < 35


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
