"""Time calls one by one."""

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

Given = TypeVar("Given")


def spread_ms(seconds: Iterable[float]) -> dict[str, float]:
    """Return median, 95th percentile and maximum in milliseconds."""
    p50, p95, highest = np.percentile(np.array(list(seconds)) * 1000, (50, 95, 100))
    return {"p50_ms": round(p50, 3), "p95_ms": round(p95, 3), "max_ms": round(highest, 3)}


def seconds_of(call: Callable[[Given], Any], given: Iterable[Given]) -> list[float]:
    """Call with each of `given`, and return how long each call took."""
    taken = []
    for one in given:
        started = time.perf_counter()
        call(one)
        taken.append(time.perf_counter() - started)
    return taken
