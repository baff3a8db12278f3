import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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


@given(plan=plans, data=st.data())
def test_the_order_from_any_step_on_is_that_of_the_whole(plan, data):
    step = data.draw(st.integers(0, plan.steps))
    whole, rest = list(plan.places(0)), list(plan.places(step))
    assert len(rest) == len(whole) - step
    assert all(np.array_equal(one, other) for one, other in zip(whole[step:], rest, strict=True))


def test_epochs_and_seeds_differ_in_order():
    first, second = (next(Plan(50, 10, 2, seed).places(0)) for seed in (1, 2))
    assert not np.array_equal(first, second)
    first, second = (next(Plan(50, 10, 2, 1).places(step)) for step in (0, 5))
    assert not np.array_equal(first, second)
