"""Requests share runs, and each gets the answers for its own rows, whatever happens to its neighbours."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import OverloadedError
from app.serving.batching import Batch, Batcher
from app.serving.plans import Plan, Step

POISON = -1.0


class Doubling:
    """Answer every row with its double; refuse a batch that holds poison."""

    shape = (2,)
    dtype = "float32"
    outputs = ("double", "row")
    graph_bytes = 0

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.free = threading.Event()
        self.free.set()

    def run(self, inputs: Any, outputs: Sequence[str]) -> list[Any]:
        assert self.free.wait(30)
        self.batches.append(len(inputs))
        if (inputs == POISON).any():
            raise ValueError("poison")
        return [2 * inputs if name == "double" else inputs.copy() for name in outputs]


def plan_of(engine: Doubling, **given: Any) -> Plan:
    return Plan(Step(1, engine, 1), **{"most_rows": 16, "least_rows": 1, **given})  # type: ignore[arg-type]


def rows_of(number: int, count: int) -> Any:
    return np.full((count, 2), number, dtype=np.float32)


def batcher(threads: int = 1, most_waiting_rows: int = 10_000, seen: list[Batch] | None = None) -> Batcher:
    return Batcher(threads=threads, most_waiting_rows=most_waiting_rows, on_batch=([] if seen is None else seen).append)


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=40),
    threads=st.integers(1, 3),
    most_rows=st.integers(1, 32),
    at_once=st.booleans(),
)
def test_no_caller_gets_rows_of_another(counts: list[int], threads: int, most_rows: int, at_once: bool) -> None:
    engine, seen = Doubling(), list[Batch]()
    known = {"steps": (Step(1, engine, 1, "x", 0.0),), "outputs": frozenset({"double", "row"})} if at_once else {}  # type: ignore[arg-type]
    plan = plan_of(engine, most_rows=most_rows, **known)

    async def ask(number: int, count: int) -> None:
        outputs = ["double", "row"] if number % 3 else ["double"]
        answer = await run.run("graph", plan, rows_of(number, count), outputs, "label")
        np.testing.assert_array_equal(answer.arrays[0], 2 * rows_of(number, count))
        assert len(answer.arrays) == len(outputs)

    async def ask_all() -> None:
        await asyncio.gather(*(ask(number, count) for number, count in enumerate(counts)))

    run = batcher(threads, seen=seen)
    asyncio.run(ask_all())
    run.close()
    assert sum(batch.rows for batch in seen) == sum(counts) == sum(engine.batches)
    assert run.waiting_rows == 0


def test_what_arrives_while_the_engine_is_busy_shares_a_run() -> None:
    engine = Doubling()
    engine.free.clear()

    async def ask_all() -> None:
        asked = [asyncio.ensure_future(run.run("graph", plan, rows_of(n, 1), ["double"], "")) for n in range(3)]
        await asyncio.sleep(0.05)
        asked += [asyncio.ensure_future(run.run("graph", plan, rows_of(n, 1), ["double"], "")) for n in range(40)]
        await asyncio.sleep(0.05)
        engine.free.set()
        await asyncio.gather(*asked)

    run, plan = batcher(), plan_of(engine)
    asyncio.run(ask_all())
    run.close()
    assert engine.batches == [3, 16, 16, 8]


def test_one_bad_request_fails_alone() -> None:
    engine = Doubling()
    engine.free.clear()

    async def ask_all() -> list[Any]:
        numbers = [1, 2, POISON, 4, 5, 6, 7, 8]
        asked = [run.run("graph", plan, rows_of(n, 1), ["double"], "") for n in numbers]  # type: ignore[arg-type]
        waiting = asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(0)
        engine.free.set()
        return await waiting

    run, plan = batcher(), plan_of(engine)
    answers = asyncio.run(ask_all())
    run.close()
    assert isinstance(answers[2], ValueError)
    for number, answer in zip([1, 2, 4, 5, 6, 7, 8], answers[:2] + answers[3:], strict=True):
        np.testing.assert_array_equal(answer.arrays[0], 2 * rows_of(number, 1))


def test_more_rows_than_may_wait_are_refused_and_those_that_wait_are_answered() -> None:
    engine = Doubling()
    engine.free.clear()

    async def ask_all() -> None:
        running = asyncio.ensure_future(run.run("graph", plan, rows_of(1, 1), ["double"], ""))
        await asyncio.sleep(0.05)
        waiting = asyncio.ensure_future(run.run("graph", plan, rows_of(2, 8), ["double"], ""))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await run.run("graph", plan, rows_of(3, 1), ["double"], "")
        engine.free.set()
        await asyncio.gather(running, waiting)

    run, plan = batcher(most_waiting_rows=8), plan_of(engine)
    asyncio.run(ask_all())
    run.close()


def test_rows_of_a_caller_who_left_are_not_computed() -> None:
    engine = Doubling()
    engine.free.clear()

    async def ask_all() -> None:
        running = asyncio.ensure_future(run.run("graph", plan, rows_of(1, 1), ["double"], ""))
        await asyncio.sleep(0.05)
        left = asyncio.ensure_future(run.run("graph", plan, rows_of(2, 5), ["double"], ""))
        stays = asyncio.ensure_future(run.run("graph", plan, rows_of(3, 2), ["double"], ""))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.sleep(0)
        engine.free.set()
        await asyncio.gather(running, stays)

    run, plan = batcher(), plan_of(engine)
    asyncio.run(ask_all())
    run.close()
    assert engine.batches == [1, 2]
    assert run.waiting_rows == 0


def test_a_lone_request_with_many_rows_is_shared_among_the_threads() -> None:
    engine = Doubling()

    async def ask() -> None:
        answer = await run.run("graph", plan, rows_of(1, 32), ["double"], "")
        assert answer.arrays[0].shape == (32, 2)

    run, plan = batcher(threads=2), plan_of(engine, most_rows=64, least_rows=4)
    asyncio.run(ask())
    run.close()
    assert sorted(engine.batches) == [16, 16]


def test_models_take_turns() -> None:
    busy, other = Doubling(), Doubling()
    order: list[object] = []

    async def ask_all() -> None:
        busy.free.clear()
        first = asyncio.ensure_future(run.run("busy", plan_of(busy, most_rows=1), rows_of(0, 1), ["double"], "busy"))
        await asyncio.sleep(0.05)
        asked = [run.run("busy", plan_of(busy, most_rows=1), rows_of(n, 1), ["double"], "busy") for n in range(20)]
        waiting = asyncio.gather(*asked, run.run("other", plan_of(other), rows_of(1, 1), ["double"], "other"))
        await asyncio.sleep(0.01)
        busy.free.set()
        await asyncio.gather(first, waiting)

    run = Batcher(threads=1, most_waiting_rows=100, on_batch=lambda batch: order.append(batch.label))
    asyncio.run(ask_all())
    run.close()
    assert order.index("other") <= 2


def test_those_who_wait_when_the_service_leaves_are_told_to_come_again() -> None:
    engine = Doubling()
    engine.free.clear()

    async def ask() -> None:
        running = asyncio.ensure_future(run.run("graph", plan, rows_of(1, 1), ["double"], ""))
        await asyncio.sleep(0.05)
        waiting = asyncio.ensure_future(run.run("graph", plan, rows_of(2, 1), ["double"], ""))
        await asyncio.sleep(0)
        threading.Timer(0.1, engine.free.set).start()
        await asyncio.to_thread(run.close)
        with pytest.raises(OverloadedError):
            await waiting
        assert (await running).arrays[0].shape == (1, 2)

    run, plan = batcher(), plan_of(engine)
    asyncio.run(ask())
