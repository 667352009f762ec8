"""Calls timed in turns, so that what happens to the machine happens to all of them."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import NamedTuple
from typing import TypeVar

N = TypeVar("N")

#: Calls of one kind in a row: as in a server that does nothing else, the caches of the
#: processor know it, and what was called before counts for little.
ROW = 50


class Spread(NamedTuple):
    """A figure that was measured in each round."""

    median: float
    quarter: float
    three_quarters: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        quarter, median, three_quarters = statistics.quantiles(values, n=4)
        return cls(median, quarter, three_quarters)

    def __format__(self, spec: str) -> str:
        """With a width and the digits after the point, such as ``22.1``."""
        width, _, digits = spec.partition(".")
        less = max(0, int(digits) - 1)
        text = (
            f"{self.median:.{digits}f} "
            f"({self.quarter:.{less}f} to {self.three_quarters:.{less}f})"
        )
        return f"{text:>{width}}"


def timed(
    calls: Mapping[N, Callable[[], object]], rounds: int, warm_up: int = 100
) -> dict[N, list[float]]:
    """Of each call, the median of its row in each round, in microseconds.

    The rows are in random order. Between them the garbage is collected, and not meanwhile: that
    would hit one call in a hundred, whoever has left the garbage.
    """
    names = list(calls)
    medians: dict[N, list[float]] = {name: [] for name in names}
    for name in names:
        for _ in range(warm_up):
            calls[name]()
    clock = time.perf_counter_ns
    gc.disable()
    try:
        for _ in range(rounds):
            gc.collect()
            for name in random.sample(names, len(names)):
                call, times = calls[name], []
                for _ in range(ROW):
                    began = clock()
                    call()
                    times.append(clock() - began)
                medians[name].append(statistics.median(times) / 1000)
    finally:
        gc.enable()
    return medians


def over(rows: Iterable[float], base: Iterable[float]) -> list[float]:
    """How much more, in each round."""
    return [row - less for row, less in zip(rows, base, strict=True)]


def ratio(rows: Iterable[float], base: Iterable[float]) -> Spread:
    """How many times as much, round by round."""
    return Spread.of(row / one for row, one in zip(rows, base, strict=True))
