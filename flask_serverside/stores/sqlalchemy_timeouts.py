"""Time limits for SQL drivers, each of which has other names for them, or none."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import Any

import sqlalchemy as sa

#: The first version of psycopg whose generators are told that nothing is ready yet.
_TOLD = (3, 2)


def limit_waiting(engine: sa.Engine, timeout: float) -> None:
    """Have the engine's connections give up after ``timeout`` seconds, both when they are
    made and when they wait for an answer. What the URL says goes first.

    Drivers that are not named here keep their own limits.

    :raises ImportError: the driver is too old to be given one.
    """
    if getattr(engine.dialect, "psycopg_version", _TOLD) < _TOLD:
        raise ImportError("an older psycopg waits without a limit", name="'psycopg>=3.2'")
    whole = max(1, math.ceil(timeout))
    limits: dict[str, dict[str, Any]] = {
        "pysqlite": {"timeout": timeout},
        "psycopg": {"connect_timeout": whole},
        "psycopg2": {"connect_timeout": whole, "tcp_user_timeout": int(timeout * 1000)},
        "pymysql": dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), timeout),
        "mysqldb": dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), whole),
    }

    @sa.event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, args: Any, parameters: dict[str, Any]) -> Any:
        for name, value in limits.get(dialect.driver, {}).items():
            parameters.setdefault(name, value)
        if dialect.driver == "psycopg":
            return _impatient(dialect.dbapi, timeout).connect(*args, **parameters)
        if dialect.driver == "pymysql":
            try:
                return dialect.dbapi.connect(*args, **parameters)
            except RuntimeError as error:
                # MySQL's passwords take one more package, which PyMySQL misses late.
                raise dialect.dbapi.NotSupportedError(
                    f"{error}: pip install 'pymysql[rsa]', or connect with TLS"
                ) from error
        return None


def _impatient(psycopg: Any, timeout: float) -> Any:
    """Psycopg's Connection, which by itself waits for an answer forever: libpq has no limit
    but for connecting, and the server's own does not help when the server is stuck.
    """

    class ImpatientConnection(psycopg.Connection):  # type: ignore[misc]
        def wait(self, waiting: Any, interval: float = 0.1, **_: Any) -> Any:
            """As the method that this replaces, except that Ctrl-C does not wait, too, for the
            server to cancel what it is at: the pool drops the connection.
            """
            limited = self._limited(waiting)
            return psycopg.waiting.wait(limited, self.pgconn.socket, interval=interval)

        def _limited(self, waiting: Any) -> Generator[Any, Any, Any]:
            """One of psycopg's generators: it yields what it waits for on the socket, and is
            sent what is ready or, after each interval, that nothing is.
            """
            give_up_at = time.monotonic() + timeout
            try:
                wanted = next(waiting)
                while True:
                    ready = yield wanted
                    if time.monotonic() > give_up_at:
                        self.pgconn.finish()
                        raise psycopg.OperationalError(f"no answer within {timeout} seconds")
                    wanted = waiting.send(ready)
            except StopIteration as done:
                return done.value

    return ImpatientConnection
