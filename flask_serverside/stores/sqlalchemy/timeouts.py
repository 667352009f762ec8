"""Connections that keep to the time limit of the operation, whatever they wait for: the
server's name and address, TLS, the login, an answer, its last byte.

Each driver has other names for its limits, or has none.
"""

from __future__ import annotations

import contextlib
import functools
import math
import socket
import threading
import time
from collections.abc import Callable
from collections.abc import Generator
from typing import Any

import sqlalchemy as sa

from ..time_limit import TimeLimit

#: The first version of psycopg whose generators are told that nothing is ready yet.
_TOLD = (3, 2)
#: Seconds between two looks at the time. A driver that waits for an answer is woken by it.
_INTERVAL = 0.1
#: Seconds beyond the limit in which PostgreSQL is told that nobody waits for the answer.
_CANCELLING = 0.1
#: MySQL's numbers of what its own clients say.
_CANNOT_CONNECT, _CANNOT_LOG_IN, _LOST = 2003, 2059, 2013

Parameters = dict[str, Any]


def check(dialect: sa.Dialect) -> None:
    """:raises ImportError: the driver is too old to be given a limit."""
    if getattr(dialect, "psycopg_version", _TOLD) < _TOLD:
        raise ImportError("an older psycopg waits without a limit", name="'psycopg>=3.2'")


def connecting(limit: TimeLimit) -> Callable[..., Any]:
    """What SQLAlchemy calls to connect (its event ``do_connect``): makes a connection that
    keeps to the limit, or changes the parameters where the driver has some for that.

    A limit in the URL can only be a shorter one. Drivers that are not named here keep theirs.
    """

    @functools.cache
    def kept(kind: Callable[..., Any], driver: Any) -> Any:
        return kind(driver, limit)

    def connect(dialect: Any, _: Any, arguments: Any, parameters: Parameters) -> Any:
        if dialect.driver in _SETTINGS:
            _SETTINGS[dialect.driver](parameters, limit)
        for name, convert in _LIMITS.get(dialect.driver, {}).items():
            left = convert(limit.left)
            if not 0 < float(parameters.get(name) or 0) <= left:
                parameters[name] = left
        kind = _CONNECTIONS.get(dialect.driver)
        return None if kind is None else kept(kind, dialect.dbapi)(*arguments, **parameters)

    return connect


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


_LIMITS: dict[str, dict[str, Callable[[float], float]]] = {
    "pysqlite": {"timeout": float},
    "psycopg2": {"connect_timeout": _whole, "tcp_user_timeout": lambda s: int(s * 1000)},
    "mysqldb": dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), _whole),
}


def shorten(connection: sa.Connection, limit: TimeLimit) -> None:
    """SQLite has one limit for each connection, on waiting for a lock: set it to what is left
    now. Asks nobody.
    """
    if connection.dialect.driver == "pysqlite":
        driver: Any = connection.connection.dbapi_connection
        driver.execute(f"PRAGMA busy_timeout = {max(1, int(limit.left * 1000))}")


def _prepare_nothing(parameters: Parameters, _: TimeLimit) -> None:
    """A pooler such as PgBouncer may lead each statement to another process of the server,
    which does not know what was prepared.
    """
    parameters.setdefault("prepare_threshold", None)


def _impatient_psycopg(psycopg: Any, limit: TimeLimit) -> Callable[..., Any]:
    """Psycopg's Connection, which by itself waits for an answer forever: libpq has no limit
    but for connecting (whole seconds, two at least), and the server's own does not help when
    the server is stuck.
    """
    shares = _Shares()

    def limited(waiting: Any, seconds: float, finish: Callable[[], None]) -> Any:
        return _limited(waiting, seconds, finish, psycopg.OperationalError)

    class ImpatientConnection(psycopg.Connection):  # type: ignore[misc]
        @classmethod
        def _connect_gen(cls, *arguments: Any, **options: Any) -> Generator[Any, Any, Any]:
            """What psycopg does for each address to log in there."""
            waiting = super()._connect_gen(*arguments, **options)
            return (yield from limited(waiting, shares.take(limit.left), lambda: None))

        def wait(self, waiting: Any, interval: float = _INTERVAL, **_: Any) -> Any:
            """As the method that this replaces, except that Ctrl-C does not wait, too, for the
            server to cancel what it is at: the pool drops the connection.
            """
            waiting = limited(waiting, limit.left, self._give_up)
            return psycopg.waiting.wait(waiting, self.pgconn.socket, interval=interval)

        def _give_up(self) -> None:
            """A server that waits for a lock does not notice that we have gone: it keeps a
            process for each of us, until it has no more for anybody.
            """
            if psycopg.capabilities.has_cancel_safe():  # an older one waits without a limit
                with contextlib.suppress(psycopg.Error):
                    self.cancel_safe(timeout=_CANCELLING)
            self.pgconn.finish()

    def connect(*arguments: Any, **parameters: Any) -> Any:
        told = psycopg.conninfo.conninfo_to_dict(
            *(part for part in arguments if isinstance(part, str)),
            host=parameters.get("host"),
        )
        shares.left = str(told.get("host") or "").count(",") + 1
        return ImpatientConnection.connect(*arguments, **parameters)

    return connect


class _Shares(threading.local):
    """How the time is shared among the hosts that are yet to be tried."""

    left = 1

    def take(self, seconds: float) -> float:
        share = seconds / max(1, self.left)
        self.left -= 1
        return share


def _limited(
    waiting: Any, seconds: float, finish: Callable[[], None], error: type[Exception]
) -> Generator[Any, Any, Any]:
    """One of psycopg's generators: it yields what it waits for on the socket, and is sent what
    is ready or, after each interval, that nothing is.
    """
    ends = time.monotonic() + seconds
    try:
        wanted = next(waiting)
        while True:
            ready = yield wanted
            if time.monotonic() > ends:
                finish()
                raise error("no answer in time")
            wanted = waiting.send(ready)
    except StopIteration as done:
        return done.value


def _for_mysql(parameters: Parameters, limit: TimeLimit) -> None:
    """What MySQL calls utf8 has three bytes for a letter: not enough for all. And a server goes
    on waiting for a lock, 50 seconds by default, when nobody waits for its answer any more.
    """
    seconds = _whole(limit.seconds)
    waits = f"SET SESSION innodb_lock_wait_timeout={seconds}, lock_wait_timeout={seconds}"
    parameters.setdefault("init_command", waits)
    if parameters.get("charset") != "utf8mb4":
        parameters["charset"] = "utf8mb4"
        parameters.pop("collation", None)  # of the other one


def _impatient_pymysql(pymysql: Any, limit: TimeLimit) -> Any:
    """PyMySQL's Connection, whose own limits hold for each byte that it waits for."""

    class ImpatientConnection(pymysql.connections.Connection):  # type: ignore[misc]
        connect_timeout: float | None

        def connect(self, sock: Any = None) -> None:
            self._heard = bytearray()
            seconds = self.connect_timeout = self._left(self.connect_timeout)
            try:
                if sock is None and not self.unix_socket and not self.bind_address:
                    sock = _reach(self.host, self.port, seconds)
                super().connect(sock)
            except OSError as error:
                text = f"Can't connect to MySQL server on {self.host!r} ({error})"
                raise pymysql.err.OperationalError(_CANNOT_CONNECT, text) from error
            except RuntimeError as error:  # a library that the login needs
                text = f"{error}: pip install 'pymysql[rsa]', or connect with TLS"
                raise pymysql.err.OperationalError(_CANNOT_LOG_IN, text) from error

        def _read_bytes(self, size: int) -> bytes:
            try:
                while len(self._heard) < size:
                    self._sock.settimeout(self._left(self._read_timeout))
                    some = self._sock.recv(65_536)
                    if not some:
                        raise OSError("it has closed the connection")
                    self._heard += some
            except OSError as error:
                self._force_close()
                text = f"Lost connection to MySQL server during query ({error})"
                raise pymysql.err.OperationalError(_LOST, text) from error
            except BaseException:  # interrupted: the rest would be taken for the next answer
                self._force_close()
                raise
            data = bytes(self._heard[:size])
            del self._heard[:size]
            return data

        def _write_bytes(self, data: bytes) -> None:
            # One limit for all of it, and for the handshake of TLS, which may follow.
            self._sock.settimeout(self._left(self._write_timeout))
            self._current_timeout = self._write_timeout  # so that it is not set again
            super()._write_bytes(data)

        def _left(self, given: float | None) -> float:
            return min(limit.left, given or math.inf)

    return ImpatientConnection


def _reach(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first of the host's addresses that answers."""
    limit = TimeLimit()
    limit.start(seconds)
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failed: OSError = OSError("the name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        reached = socket.socket(family, kind, protocol)
        reached.settimeout(limit.left / (len(addresses) - number))
        try:
            reached.connect(address)
        except OSError as error:
            failed = error
            reached.close()
        except BaseException:
            reached.close()
            raise
        else:
            reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reached.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return reached
    raise failed


_CONNECTIONS = {"psycopg": _impatient_psycopg, "pymysql": _impatient_pymysql}
_SETTINGS: dict[str, Callable[[Parameters, TimeLimit], None]] = {
    "psycopg": _prepare_nothing,
    "pymysql": _for_mysql,
    "mysqldb": _for_mysql,
}
