"""The time, as a test has it."""

from __future__ import annotations

import time


class Clock:
    """A clock that stands still until it is told to move. Starts at the real time, since
    servers that expire records themselves go by theirs.
    """

    def __init__(self) -> None:
        self.seconds = float(int(time.time()))

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
