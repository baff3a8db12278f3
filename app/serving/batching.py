"""Answer requests of one graph together, and each with its own rows.

Everything here runs on one event loop, so nothing needs a lock; only an engine's run is given to a thread. A lane holds
the requests that may share a run: same graph, same outputs. It is emptied whenever threads are free, so a lone request
waits for nothing, and a batch is what arrived while the engines were busy.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import OverloadedError
from app.serving.plans import Plan, Step

Rows = NDArray[Any]
# A larger request is run in parts: side by side, in little memory, and without keeping others waiting for long.
_MOST_ROWS_OF_A_PART = 128
# What takes no longer than handing it to a thread and back is run on the event loop itself.
_AT_ONCE_SECONDS = 0.0002


class Answer(NamedTuple):
    """Hold the answers to some rows, one array for each output, and what they took."""

    arrays: list[Rows]
    queue_seconds: float
    run_seconds: float


class Batch(NamedTuple):
    """Tell of a batch that was run: for whom, how many rows, how long."""

    label: object
    rows: int
    seconds: float


@dataclass(eq=False)
class _Part:
    rows: Rows
    answer: "asyncio.Future[Answer]"
    arrived: float
    alone: bool = False


@dataclass(eq=False)
class _Lane:
    key: tuple[str, tuple[str, ...]]
    plan: Plan
    label: object
    waiting: deque[_Part] = field(default_factory=deque)


class Batcher:
    """Run requests in batches on a fixed number of threads, with a bounded queue."""

    def __init__(self, *, threads: int, most_waiting_rows: int, on_batch: Callable[[Batch], None]) -> None:
        self._threads = self._free_threads = threads
        self._most_waiting_rows = most_waiting_rows
        self._waiting_rows = 0
        self._on_batch = on_batch
        self._lanes: OrderedDict[tuple[str, tuple[str, ...]], _Lane] = OrderedDict()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._pump_is_due = False

    @property
    def waiting_rows(self) -> int:
        """Count the rows that wait for a thread."""
        return self._waiting_rows

    async def run(self, key: str, plan: Plan, rows: Rows, outputs: Sequence[str], label: object) -> Answer:
        """Return what the plan's engines answer for the rows [batch, ...].

        Args:
            key: Requests of equal key have equal graphs, so equal row shapes and dtypes.
            plan: How to run the graph; batches take the newest that was given.
            rows: As the engine takes them.
            outputs: Names of outputs.
            label: Whose batch it is, for whoever listens.

        Raises:
            OverloadedError: More rows wait than the queue holds.
        """
        if self._waiting_rows and self._waiting_rows + len(rows) > self._most_waiting_rows:
            raise OverloadedError("Too many predictions wait already.", hint="Try again in a moment.")
        parts = self._queue(self._lane(key, plan, outputs, label), rows)
        if len(parts) == 1:
            return await parts[0].answer
        return _joined(await asyncio.gather(*(part.answer for part in parts)))

    def close(self) -> None:
        """Let running batches end; what still waits is told to come again."""
        for lane in self._lanes.values():
            for part in lane.waiting:
                if not part.answer.done():
                    part.answer.set_exception(OverloadedError("The service is leaving.", hint="Try again in a moment."))
        self._lanes.clear()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _lane(self, key: str, plan: Plan, outputs: Sequence[str], label: object) -> _Lane:
        name = (key, tuple(outputs))
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(name, plan, label)
        lane.plan = plan
        return lane

    def _queue(self, lane: _Lane, rows: Rows) -> list[_Part]:
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        size = min(_MOST_ROWS_OF_A_PART, max(lane.plan.least_rows, -(-len(rows) // self._threads)))
        parts = [
            _Part(rows[start : start + size], loop.create_future(), now) for start in range(0, max(1, len(rows)), size)
        ]
        lane.waiting.extend(parts)
        self._waiting_rows += len(rows)
        self._pump_soon(loop)
        return parts

    def _pump_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start batches in the loop's next turn, so that requests that were read in this one share them."""
        if not self._pump_is_due:
            self._pump_is_due = True
            loop.call_soon(self._pump, loop)

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pump_is_due = False
        while self._lanes and self._free_threads > 0:
            lane = next(iter(self._lanes.values()))
            self._drop_abandoned(lane)
            if not lane.waiting:
                del self._lanes[lane.key]
                continue
            if not self._start_batch(lane, loop):
                return
            # Whoever had its turn goes to the end: one busy model does not starve the others.
            self._lanes.move_to_end(lane.key)

    def _start_batch(self, lane: _Lane, loop: asyncio.AbstractEventLoop) -> bool:
        """Start one batch of a lane, if there are threads enough for it."""
        outputs = lane.key[1]
        rows = self._rows_of_next_batch(lane)
        step = lane.plan.step_for(rows, outputs)
        if step.threads > self._free_threads and self._free_threads < self._threads:
            return False
        batch = self._take(lane, rows)
        if step.seconds_of(rows) <= _AT_ONCE_SECONDS:
            self._run_at_once(lane, batch, step)
            return True
        self._free_threads -= step.threads
        work = loop.run_in_executor(self._executor, _run, step, outputs, [part.rows for part in batch])
        work.add_done_callback(lambda done: self._finish(done, lane, batch, step))
        return True

    def _run_at_once(self, lane: _Lane, batch: Sequence[_Part], step: Step) -> None:
        """Run a batch here and now."""
        try:
            run = _run(step, lane.key[1], [part.rows for part in batch])
        except Exception as failed:  # noqa: BLE001 - a runtime raises whatever it likes
            self._fail(lane, batch, failed)
        else:
            self._succeed(lane, batch, run)

    def _drop_abandoned(self, lane: _Lane) -> None:
        """Forget rows whose callers have left or run out of time."""
        while lane.waiting and lane.waiting[0].answer.done():
            self._waiting_rows -= len(lane.waiting.popleft().rows)

    def _rows_of_next_batch(self, lane: _Lane) -> int:
        """Share what waits among the free threads, as far as batches do not become smaller than is worth while."""
        first = lane.waiting[0]
        if first.alone:
            return len(first.rows)
        waiting = sum(len(part.rows) for part in lane.waiting)
        threads = lane.plan.step_for(waiting, lane.key[1]).threads
        share = -(-waiting * threads // max(self._free_threads, threads))
        return max(len(first.rows), min(waiting, lane.plan.most_rows, max(share, lane.plan.least_rows)))

    def _take(self, lane: _Lane, rows: int) -> list[_Part]:
        batch: list[_Part] = []
        while lane.waiting and (not batch or len(lane.waiting[0].rows) <= rows):
            if batch and (batch[0].alone or lane.waiting[0].alone):
                break
            part = lane.waiting.popleft()
            self._waiting_rows -= len(part.rows)
            if not part.answer.done():
                batch.append(part)
                rows -= len(part.rows)
        return batch

    def _finish(self, done: "asyncio.Future[_Run]", lane: _Lane, batch: Sequence[_Part], step: Step) -> None:
        self._free_threads += step.threads
        self._pump_soon(done.get_loop())
        failed = asyncio.CancelledError() if done.cancelled() else done.exception()
        if failed is None:
            self._succeed(lane, batch, done.result())
        else:
            self._fail(lane, batch, failed)

    def _succeed(self, lane: _Lane, batch: Sequence[_Part], run: "_Run") -> None:
        self._on_batch(Batch(lane.label, sum(len(part.rows) for part in batch), run.ended - run.started))
        _hand_out(run, batch)

    def _fail(self, lane: _Lane, batch: Sequence[_Part], failed: BaseException) -> None:
        if len(batch) > 1:
            self._try_alone(lane, batch)
        elif not batch[0].answer.done():
            batch[0].answer.set_exception(failed)

    def _try_alone(self, lane: _Lane, batch: Sequence[_Part]) -> None:
        """Run each part of a failed batch by itself: the fault of one is not that of its neighbours."""
        for part in batch:
            part.alone = True
            self._waiting_rows += len(part.rows)
        # The lane may have been emptied and made anew since the batch was started.
        self._lanes.setdefault(lane.key, lane).waiting.extendleft(reversed(batch))


class _Run(NamedTuple):
    arrays: list[Rows]
    started: float
    ended: float


def _run(step: Step, outputs: Sequence[str], parts: Sequence[Rows]) -> _Run:
    """Run a batch in a thread."""
    started = time.perf_counter()
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    arrays = step.engine.run(rows, outputs)
    return _Run(arrays, started, time.perf_counter())


def _hand_out(run: _Run, batch: Sequence[_Part]) -> None:
    """Give each part the answers for its own rows."""
    start = 0
    for part in batch:
        own = slice(start, start + len(part.rows))
        start = own.stop
        if not part.answer.done():
            arrays = [array[own] for array in run.arrays]
            part.answer.set_result(Answer(arrays, run.started - part.arrived, run.ended - run.started))


def _joined(answers: Sequence[Answer]) -> Answer:
    arrays = [np.concatenate(parts) for parts in zip(*(answer.arrays for answer in answers), strict=True)]
    return Answer(
        arrays, max(answer.queue_seconds for answer in answers), sum(answer.run_seconds for answer in answers)
    )
