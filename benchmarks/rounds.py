"""Calls timed in turns, so that what happens to the machine happens to all of them."""

from __future__ import annotations

import gc
import random
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

    def less(self, base: float) -> Timing:
        return Timing(*(value - base for value in self))

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.quarter:.0f} to {self.three_quarters:.0f})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


#: Calls of one kind in a row: as in a server that does nothing else, the caches of the
#: processor know it, and what was called before counts for little.
ROW = 50


def timed(
    calls: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 100
) -> dict[str, Timing]:
    """Each call in a row of :data:`ROW` a round, the rows in random order."""
    names = list(calls)
    taken: dict[str, list[int]] = {name: [] for name in names}
    for name in names:
        for _ in range(warm_up):
            calls[name]()
    clock = time.perf_counter_ns
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in random.sample(names, len(names)):
                call, times = calls[name], taken[name]
                for _ in range(ROW):
                    began = clock()
                    call()
                    times.append(clock() - began)
    finally:
        gc.enable()
    return {name: _timing(values) for name, values in taken.items()}


def _timing(nanoseconds: list[int]) -> Timing:
    quarter, median, three_quarters = statistics.quantiles(nanoseconds, n=4)
    return Timing(median / 1000, quarter / 1000, three_quarters / 1000)
