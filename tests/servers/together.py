"""The servers of one run of the tests."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor

from .base import Server
from .mariadb import MariaDB
from .memcached import Memcached
from .mongodb import MongoDB
from .pgbouncer import PgBouncer
from .postgresql import PostgreSQL
from .redis import Redis


class Servers:
    """All that the tests of one run use: each started once, all at the same time."""

    def __init__(self) -> None:
        postgresql = PostgreSQL()
        kinds = (Redis(), Memcached(), MongoDB(), postgresql, MariaDB(), PgBouncer(postgresql))
        self.all: dict[str, Server] = {server.name: server for server in kinds}
        self._starting: dict[str, Future[None]] = {}
        self._pool = ThreadPoolExecutor(len(kinds))

    def begin(self, names: set[str]) -> None:
        needed = {needs for name in names if (needs := self.all[name].needs)}
        if needed:
            self.begin(needed)
        for name in names - self._starting.keys():
            server = self.all[name]
            before = self._starting.get(server.needs) if server.needs else None
            if server.program is not None and (before or not server.needs):
                self._starting[name] = self._pool.submit(_start, server, before)

    def get(self, name: str) -> Server | None:
        """The running server; ``None`` if it was not found on this machine."""
        self.begin({name})
        if name not in self._starting:
            return None
        self._starting[name].result()
        return self.all[name]

    def stop(self) -> None:
        for name in reversed(self._starting):  # none before those that need it
            self.all[name].stop()
        self._pool.shutdown()

    @property
    def started(self) -> set[str]:
        return set(self._starting)


def _start(server: Server, before: Future[None] | None) -> None:
    if before is not None:
        before.result()
    server.start()
