"""Which connections of a pool still lead to the right server after a failover."""

from __future__ import annotations

import math
import time
from typing import Any

import sqlalchemy as sa

#: Seconds for which, after a server was given up, connections to it may still be made.
_UNSETTLED = 30.0


class Failover:
    """Tells connections to a server that was given up from those to the new one.

    A server that was demoted can keep its connections, take new ones until the address leads
    elsewhere, and answer reads all the while. Once a write has reached the new server, nobody
    may read what stands on the old one: only a connection that has written since, or was made
    since, is known to lead to the new one.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._until = -math.inf
        #: When a write went through for the first time since; by then the new server is there.
        self._written = -math.inf
        sa.event.listen(engine, "connect", self._made)

    def _made(self, _: Any, record: Any) -> None:
        record.info[self] = time.monotonic()

    def begin(self) -> None:
        """A server was given up."""
        self._until, self._written = time.monotonic() + _UNSETTLED, -math.inf

    def wrote(self, connection: sa.Connection) -> None:
        """The server behind this connection takes writes."""
        if (now := time.monotonic()) < self._until:
            connection.info[self] = math.inf
            if self._written == -math.inf:
                self._written = now

    def is_outdated(self, connection: sa.Connection) -> bool:
        made: float = connection.info.get(self, math.inf)
        return made < self._written and time.monotonic() < self._until
