"""PgBouncer, which hands a connection to PostgreSQL on after each transaction."""

from __future__ import annotations

import re
from pathlib import Path

from .base import Server
from .postgresql import greets
from .postgresql import PostgreSQL
from .postgresql import url

#: The first version that can keep track of prepared statements, and does so by default.
_KEEPS_TRACK = (1, 21)


class PgBouncer(Server):
    """In front of the tests' PostgreSQL, which must have been started."""

    name = "pgbouncer"
    needs = "postgresql"
    variable = "PGBOUNCER"
    programs = ("pgbouncer",)
    folders = ("usr/sbin", "usr/local/bin", "opt/homebrew/bin")
    refuses_root = True

    def __init__(self, behind: PostgreSQL) -> None:
        super().__init__()
        self.behind = behind

    def prepare(self, folder: Path) -> None:
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": 10,
            "max_client_conn": 500,
        }
        if self._version_numbers() >= _KEEPS_TRACK:
            settings["max_prepared_statements"] = 0
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        database = f"* = host=127.0.0.1 port={self.behind.port} user=postgres"
        text = f"[databases]\n{database}\n\n[pgbouncer]\n{lines}"
        (folder / "pgbouncer.ini").write_text(text)

    def command(self, folder: Path) -> list[str]:
        return [str(self.program), str(folder / "pgbouncer.ini")]

    def answers(self) -> bool:
        return greets(self.port)

    @property
    def url(self) -> str:
        return url(self.port)

    def _version_numbers(self) -> tuple[int, ...]:
        return tuple(map(int, re.findall(r"\d+", self.version)))
