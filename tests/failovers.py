"""Failovers behind one address: a proxy, a name, a cloud's endpoint. The old server takes no
more writes, the address leads to the new one, and the connections that there are stay.

Nothing that was acknowledged is lost: the new server has all that the old one has.
"""

from __future__ import annotations

import contextlib
import subprocess
from abc import ABC
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deployments import ask
from deployments import caught_up
from deployments import Replicated
from deployments import running
from deployments import wait_until
from proxy import Proxy
from servers import MariaDB
from servers import PostgreSQL
from servers import Server


class Pair(ABC):
    """Two servers, one of which stands behind the address."""

    old: Any
    new: Any

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._started():
            self.proxy = Proxy(self.old.port)
            with contextlib.closing(self.proxy):
                yield

    @property
    def url(self) -> str:
        url: str = self.old.url
        return url.replace(str(self.old.port), str(self.proxy.port))

    def fail_over(self) -> None:
        self._hand_over()
        self.proxy.lead_to(self.new.port)
        self.old, self.new = self.new, self.old
        self._follow()

    @abstractmethod
    def _started(self) -> contextlib.AbstractContextManager[None]:
        """Both of them, the new one as a replica."""

    @abstractmethod
    def _hand_over(self) -> None:
        """The old one takes no more writes, and the new one does, once it has all."""

    @abstractmethod
    def _follow(self) -> None:
        """The one that was given up, now ``new``, becomes a replica, for the next time."""


class RedisPair(Pair):
    def __init__(self) -> None:
        self.old = Replicated()
        self.new = Replicated(self.old)

    @contextmanager
    def _started(self) -> Iterator[None]:
        with running([self.old]), running([self.new]):
            yield

    def _hand_over(self) -> None:
        ask(self.old, "CLIENT PAUSE", 20_000, "WRITE")  # those who write wait
        wait_until(lambda: caught_up(self.old, self.new))
        ask(self.new, "REPLICAOF", "NO", "ONE")
        ask(self.old, "REPLICAOF", "127.0.0.1", self.new.port)
        ask(self.old, "CLIENT UNPAUSE")  # those who wait are told READONLY
        wait_until(lambda: caught_up(self.new, self.old))

    def _follow(self) -> None:
        """It does already: a server is demoted before its address leads elsewhere."""


#: The SQL that makes the tables of users and their rights.
TABLES = ("mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data")


class Granting(MariaDB):
    """With users and their rights: who may do all may also write when it is read-only."""

    number = 1

    def prepare(self, folder: Path) -> None:
        # What mariadb-install-db does, which takes a program of another package.
        assert self.program is not None
        roots = self.program.resolve().parents[1], Path("/usr")
        shares = [root / "share" / name for root in roots for name in ("mysql", "mariadb")]
        share = next(share for share in shares if (share / f"{TABLES[0]}.sql").exists())
        statements = ["CREATE DATABASE mysql;", "USE mysql;"]
        statements += [(share / f"{name}.sql").read_text() for name in TABLES]
        subprocess.run(
            [*self.command(folder), "--bootstrap", "--skip-log-bin"],
            input="\n".join(statements).encode(),
            check=True,
            capture_output=True,
        )

    def command(self, folder: Path) -> list[str]:
        usual = [part for part in super().command(folder) if part != "--skip-grant-tables"]
        replicated = [
            f"--server-id={self.number}",
            f"--tmpdir={folder}",  # names of temporary files are the same for all servers
            f"--log-bin={folder / 'binlog'}",
            "--log-slave-updates",
            "--binlog-format=ROW",
            "--innodb-flush-log-at-trx-commit=2",  # the replica must keep pace
        ]
        return usual + replicated

    @property
    def url(self) -> str:
        return f"mysql+pymysql://sessions:sessions@127.0.0.1:{self.port}/test"

    def ask(self, *statements: str) -> Any:
        import pymysql

        options = {"user": "root", "port": self.port, "autocommit": True}
        with pymysql.connect(host="127.0.0.1", **options) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchone()


class MariaDBPair(Pair):
    def __init__(self) -> None:
        self.old, self.new = Granting(), Granting()
        self.new.number = 2

    @contextmanager
    def _started(self) -> Iterator[None]:
        with running([self.old, self.new]):
            for server in (self.old, self.new):
                server.ask(
                    "CREATE USER IF NOT EXISTS sessions@'127.0.0.1' IDENTIFIED BY 'sessions'",
                    "GRANT ALL ON test.* TO sessions@'127.0.0.1'",
                    "RESET MASTER",  # so far they have done the same
                )
            self._follow()
            yield

    def _hand_over(self) -> None:
        self.old.ask("SET GLOBAL read_only = 1")  # waits for those who write
        [position] = self.old.ask("SELECT @@gtid_current_pos")
        assert self.new.ask(f"SELECT MASTER_GTID_WAIT('{position}', 20)") == (0,)
        self.new.ask("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0")

    def _follow(self) -> None:
        self.new.ask(
            "SET GLOBAL read_only = 1",
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={self.old.port},"
            " MASTER_USER='root', MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=current_pos",
            "START SLAVE",
        )


class Standby(PostgreSQL):
    """Its data is a copy of another one's, which it follows."""

    def __init__(self, primary: PostgreSQL) -> None:
        super().__init__()
        self._primary = primary

    def prepare(self, folder: Path) -> None:
        self.program = self._primary.program  # which may have been copied to where it can run
        assert self.program is not None
        subprocess.run(
            [
                self.program.parent / "pg_basebackup",
                f"--dbname={self._primary.dsn}",
                f"--pgdata={folder / 'data'}",
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            **self._owner(),
        )
        # The old one takes no writes any more, and the new one is to take them.
        with (folder / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write("\ndefault_transaction_read_only = off\n")


class PostgreSQLPair(Pair):
    """The one that was given up stays as it is, with its connections, and is read-only: a new
    standby is made for the next time.
    """

    def __init__(self) -> None:
        self.old = PostgreSQL()
        self._all: list[Server] = [self.old]

    @contextmanager
    def _started(self) -> Iterator[None]:
        try:
            self.old.start()
            self._follow()
            yield
        finally:
            for server in self._all:
                server.kill()
                server.stop()

    def _hand_over(self) -> None:
        with _connection(self.old) as old:
            old.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            old.execute("SELECT pg_reload_conf()")
            # The server tells all its processes before it makes a new one that knows.
            wait_until(lambda: _told(self.old))
            busy = (
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
            )
            wait_until(lambda: old.execute(busy).fetchone() == (0,))
            [position] = old.execute("SELECT pg_current_wal_lsn()").fetchone()
        with _connection(self.new) as new:
            there = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
            wait_until(lambda: new.execute(there).fetchone()[0])
            new.execute("SELECT pg_promote()")

    def _follow(self) -> None:
        self.new = Standby(self.old)
        self._all.append(self.new)
        self.new.start()


@contextmanager
def _connection(server: PostgreSQL) -> Iterator[Any]:
    import psycopg

    with psycopg.connect(server.dsn, autocommit=True) as connection:
        yield connection


def _told(server: PostgreSQL) -> bool:
    with _connection(server) as connection:
        found: bool = connection.execute("SHOW default_transaction_read_only").fetchone() == (
            "on",
        )
        return found
