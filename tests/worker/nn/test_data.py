import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.nn import data
from worker.nn.data import Plan

plans = st.builds(
    Plan, rows=st.integers(1, 40), batch_size=st.integers(1, 20), epochs=st.integers(1, 3), seed=st.integers(0, 99)
)


@given(plan=plans)
def test_every_epoch_visits_every_row_once_in_batches_of_nearly_equal_size(plan):
    batches = list(plan.places(0))
    assert len(batches) == plan.steps
    for epoch in range(plan.epochs):
        mine = batches[epoch * plan.steps_per_epoch : (epoch + 1) * plan.steps_per_epoch]
        assert sorted(np.concatenate(mine)) == list(range(plan.rows))
        sizes = {len(batch) for batch in mine}
        assert max(sizes) <= plan.batch_size
        assert max(sizes) - min(sizes) <= 1


@given(plan=plans, draws=st.data())
def test_the_order_from_any_step_on_is_that_of_the_whole(plan, draws):
    step = draws.draw(st.integers(0, plan.steps))
    whole, rest = list(plan.places(0)), list(plan.places(step))
    assert len(rest) == len(whole) - step
    assert all(np.array_equal(one, other) for one, other in zip(whole[step:], rest, strict=True))


def test_epochs_and_seeds_differ_in_order():
    first, second = (next(Plan(50, 10, 2, seed).places(0)) for seed in (1, 2))
    assert not np.array_equal(first, second)
    first, second = (next(Plan(50, 10, 2, 1).places(step)) for step in (0, 5))
    assert not np.array_equal(first, second)


@given(plan=plans)
def test_within_a_batch_places_ascend_so_that_files_are_read_forwards(plan):
    assert all((np.diff(places) > 0).all() for places in plan.places(0))


@pytest.mark.parametrize("mapped_bytes", [0, 2**40])
def test_rows_of_a_mapped_file_are_those_of_the_array_however_large_it_is(tmp_path, monkeypatch, mapped_bytes):
    monkeypatch.setattr(data, "MAPPED_BYTES", mapped_bytes)
    rows = np.random.default_rng(0).integers(0, 256, (3000, 7, 3)).astype(np.uint8)
    np.save(tmp_path / "x.npy", rows)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    places = np.random.default_rng(1).permutation(2000)[:1000]
    for part in (slice(None), slice(500, None)):
        found = data.read_rows(mapped[part], places)
        assert np.array_equal(found, rows[part][places])
        assert type(found) is np.ndarray


@settings(deadline=None)  # the first call imports Keras
@given(seconds_per_step=st.floats(1e-5, 3))
def test_the_pace_grows_by_degrees_and_keeps_to_its_time(seconds_per_step):
    from worker.nn.training import Pace

    pace = Pace(0.25)
    for _ in range(8):
        before = pace.steps
        pace.note(before, before * seconds_per_step)
        assert 1 <= pace.steps <= 4 * before
    assert pace.steps == 1 or pace.steps * seconds_per_step <= 0.25 * 1.001
