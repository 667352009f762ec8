"""Calls timed in turns, so that what happens to the machine happens to all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import NamedTuple


class Timing(NamedTuple):
    """Microseconds."""

    median: float
    quarter: float
    three_quarters: float

    def over(self, other: Timing) -> float:
        return self.median - other.median


def timed(
    calls: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 100
) -> dict[str, Timing]:
    """Each call once a round, in an order that turns."""
    names = list(calls)
    taken: dict[str, list[int]] = {name: [] for name in names}
    for name in names:
        for _ in range(warm_up):
            calls[name]()
    clock = time.perf_counter_ns
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            turned = number % len(names)
            for name in names[turned:] + names[:turned]:
                call = calls[name]
                began = clock()
                call()
                taken[name].append(clock() - began)
    finally:
        gc.enable()
    return {name: _timing(values) for name, values in taken.items()}


def _timing(nanoseconds: list[int]) -> Timing:
    quarter, median, three_quarters = statistics.quantiles(nanoseconds, n=4)
    return Timing(median / 1000, quarter / 1000, three_quarters / 1000)
