"""How long an operation of the store may still take, all its steps together."""

from __future__ import annotations

import threading
import time

#: Seconds. Less would mean "do not wait at all" to some drivers, or "wait forever" to others.
_LEAST = 0.001


class TimeLimit(threading.local):
    """The time limit of the operation that this thread is at."""

    _ends = 0.0
    #: Seconds that the operation has in all.
    seconds = 0.0

    def start(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, more than none even when time is over: the next step then fails at once."""
        return max(_LEAST, self._ends - time.monotonic())

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._ends
