"""The two log lines of an outage: one when the store goes away, one when it is back."""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger("flask_serverside")

#: Seconds between two lines that say "unavailable". Where one of several servers is down, the
#: store goes away and comes back with each request.
_APART = 10.0


class Outage:
    """Notices when the store stops and starts answering, and logs each once."""

    def __init__(self) -> None:
        #: Whether the log says that the store is away.
        self.told = False
        self._began = -_APART
        self._lock = threading.Lock()

    def failed(self, error: Exception) -> None:
        with self._lock:
            now = time.monotonic()
            if self.told or now - self._began < _APART:
                return
            self.told, self._began = True, now
        log.error("Session store unavailable: %s", error)

    def over(self) -> None:
        """The store has answered."""
        with self._lock:
            if not self.told:
                return
            self.told = False
        seconds = time.monotonic() - self._began
        log.info("The session store answers again, after %.1f seconds.", seconds)
