"""The connections of a SQL store: its own engine from a URL, or a small pool of its own beside
the application's.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...errors import ConfigurationError
from ...errors import SerializationError
from ..outage import log
from ..time_limit import TimeLimit
from . import options
from . import timeouts
from .failover import Failover
from .options import KEY
from .options import OPTIONS

ALLOWED = "a database URL, an Engine, or Flask-SQLAlchemy's object"
#: Connections beside an application's pool, in each process.
_BESIDE = 5
#: Seconds. SQLAlchemy's pool has nobody wait: who may borrow from it is known before.
_POOL_TIMEOUT = 0.1


class Connections:
    """One connection for each operation, of so many at once. Waits for one within the limit."""

    def __init__(
        self,
        engine: sa.Engine,
        limit: TimeLimit,
        most: int | None = None,
        ours: bool = True,
    ) -> None:
        """
        :param most: how many at once; ``None``: that is the engine's business.
        :param ours: whether nobody else uses this engine.
        """
        self.engine = engine
        self._limit = limit
        self._free = None if most is None else threading.BoundedSemaphore(most)
        self._failover = Failover(engine) if ours else None

    @contextlib.contextmanager
    def one(self) -> Iterator[sa.Connection]:
        if self._free is not None and not self._free.acquire(timeout=self._limit.left):
            raise PoolTimeout("all connections of the store are in use")
        try:
            with self._borrowed() as connection:
                try:
                    timeouts.shorten(connection, self._limit)
                    yield connection
                except (DBAPIError, SerializationError):
                    raise  # the answer has been read, or the connection is known to be broken
                except BaseException:
                    # Interrupted, by a signal's handler, say: SQLAlchemy sees to that only
                    # where it is no Exception. The answer would be taken for the next one.
                    connection.invalidate()
                    raise
        finally:
            if self._free is not None:
                self._free.release()

    def wrote(self, connection: sa.Connection) -> None:
        """A write went through on this connection."""
        if self._failover is not None:
            self._failover.wrote(connection)

    def _borrowed(self) -> sa.Connection:
        while True:
            connection = self._any()
            if self._failover is None or not self._failover.is_outdated(connection):
                return connection
            connection.invalidate()
            connection.close()

    def _any(self) -> sa.Connection:
        try:
            return self.engine.connect()
        except PoolTimeout:
            if self._free is None:
                raise
            # One should be free. Somebody was interrupted while borrowing or returning it, and
            # the pool will not have it back before garbage is collected.
            self.drop()
            return self.engine.connect()

    def drop(self) -> None:
        """Use none of them again. Those that other threads use now are closed when they have
        done with them: SQLAlchemy would leave them open in a pool that nobody has any more.
        """
        if self._failover is not None:
            self._failover.begin()
        left = self.engine.pool
        self.engine.dispose()
        sa.event.listen(left, "checkin", _close)
        left.dispose()  # what came back in between

    def forget(self) -> sa.Pool:
        """Use none of them again, and do not close them: they are another process's. Nobody
        else may either: whoever has the pool that is returned must keep it.
        """
        pool = self.engine.pool
        self.engine.dispose(close=False)
        return pool


class FromURL:
    """Makes engines for a URL: the first when the application starts, which tells whether it
    can work, another in each child process.
    """

    def __init__(self, url: str | sa.URL, given: Mapping[str, Any], limit: TimeLimit) -> None:
        self._url, self._limit = url, limit
        self._options = options.checked(given, pool_only=False)
        self._first: sa.Engine | None = self._made()

    def connections(self) -> Connections:
        engine, self._first = self._first or self._made(), None
        return Connections(engine, self._limit, _most(engine, self._options))

    def inherited(self) -> list[sa.Pool]:
        """The pools that a parent process has left here, forgotten."""
        return []

    def close(self, connections: Connections) -> None:
        connections.drop()

    def _made(self) -> sa.Engine:
        try:
            return self._engine(sa.make_url(self._url))
        except SQLAlchemyError as error:
            raise ConfigurationError(KEY, str(self._url), f"{ALLOWED} ({error})") from error
        except ImportError as error:
            raise ConfigurationError(
                KEY,
                str(self._url),
                "a URL whose driver is installed",
                f"{error}: pip install {error.name or 'the driver'}, or name another driver "
                "in the URL, such as postgresql+psycopg:// or mysql+pymysql://.",
            ) from error
        except (TypeError, ValueError) as error:
            keys = sorted(self._options)
            key, value = (OPTIONS, keys) if keys else (KEY, str(self._url))
            allowed = f"what create_engine takes ({error})"
            raise ConfigurationError(key, value, allowed) from error

    def _engine(self, url: sa.URL) -> sa.Engine:
        dialect: Any = url.get_dialect()
        if dialect.is_async:
            raise ConfigurationError(KEY, str(url), "a driver that is not asynchronous")
        rest, connect_args = options.converted(url, dialect.driver)
        connect_args |= self._options.get("connect_args", {})
        pool = self._options.get("poolclass") or dialect.get_pool_class(url)
        if "creator" not in self._options:
            _refuse_in_memory(pool, str(url))
        more = {"hide_parameters": True, **options.FIXED, **self._options}
        if pool is sa.pool.QueuePool and "pool" not in more:
            more.setdefault("pool_timeout", _POOL_TIMEOUT)
        engine = sa.create_engine(rest, **{**more, "connect_args": connect_args})
        _refuse_in_memory(type(engine.pool), str(url))
        timeouts.check(engine.dialect)
        if "creator" not in self._options:
            options.try_out(engine.dialect, rest, connect_args)
        sa.event.listen(engine, "do_connect", timeouts.connecting(self._limit))
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _log_ahead)
        return engine


class Beside:
    """Makes small pools of the store's own beside the pool of the application's engine, which
    connect as that engine does: with its arguments, its listeners and its ``do_connect``.

    A request that holds one of the application's connections never waits for a second one.
    """

    def __init__(self, engine: sa.Engine, given: Mapping[str, Any], limit: TimeLimit) -> None:
        if engine.dialect.is_async:
            raise ConfigurationError(KEY, str(engine.url), "a driver that is not asynchronous")
        _refuse_in_memory(type(engine.pool), str(engine.url))
        self._engine, self._limit = engine, limit
        self._options = options.checked(given, pool_only=True)
        self._ours = threading.local()
        self._as_it_is = _peculiar(engine)
        self._listens = False
        if self._as_it_is:
            log.info(
                "The engine in SESSION_SQLALCHEMY is used as it is, since it has %s: sessions "
                "share its pool, and its time limits hold.",
                self._as_it_is,
            )
            if self._options:
                raise ConfigurationError(
                    OPTIONS,
                    sorted(self._options),
                    f"nothing, since the engine is used as it is: it has {self._as_it_is}",
                )

    def connections(self) -> Connections:
        if self._as_it_is:
            shared = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            shared.hide_parameters = True  # they are the user's data, and errors are logged
            return Connections(shared, self._limit, ours=False)
        if not self._listens:
            # After the listeners of the application, which add a password, say.
            self._listens = True
            connect = timeouts.connecting(self._limit)

            @sa.event.listens_for(self._engine, "do_connect")
            def _(*arguments: Any) -> Any:
                return connect(*arguments) if getattr(self._ours, "connecting", 0) else None

        own = {
            "creator": self._connect,
            "poolclass": sa.pool.QueuePool,
            "pool_timeout": _POOL_TIMEOUT,
            "hide_parameters": True,
        }
        given = {"pool_size": _BESIDE, "max_overflow": 0, **self._options}
        made = sa.create_engine(self._engine.url, **{**own, **options.FIXED, **given})
        told = dict(self._engine.get_execution_options())
        told.pop("isolation_level", None)  # which would be set anew for each operation
        made.update_execution_options(**told)
        return Connections(made, self._limit, _most(made, given))

    def inherited(self) -> list[sa.Pool]:
        """The pools that a parent process has left here, forgotten. What the application's pool
        holds is the application's business, unless sessions use it.
        """
        if not self._as_it_is:
            return []
        return [Connections(self._engine, self._limit, ours=False).forget()]

    def close(self, connections: Connections) -> None:
        if not self._as_it_is:
            connections.drop()

    def _connect(self) -> Any:
        """A connection as the application's pool makes them, but not of that pool."""
        self._ours.connecting = True
        try:
            made = self._engine.pool.recreate().connect()
        finally:
            self._ours.connecting = False
        made.detach()
        driver: Any = made.dbapi_connection
        driver.commit()  # what a listener has set, and would be in the way of autocommit
        return driver


def of_flask_sqlalchemy(database: Any, bind_key: str | None) -> sa.Engine:
    """Known in an application context only."""
    engines: Mapping[str | None, sa.Engine] = database.engines
    if bind_key not in engines:
        allowed = f"one of {sorted(map(str, engines))}"
        raise ConfigurationError(f"{KEY}_BIND_KEY", bind_key, allowed)
    return engines[bind_key]


def _most(engine: sa.Engine, given: Mapping[str, Any]) -> int | None:
    """How many connections the pool lends at once."""
    if "pool" in given:
        return None
    size, more = given.get("pool_size", 5), given.get("max_overflow", 10)  # SQLAlchemy's own
    ordinary = type(engine.pool) is sa.pool.QueuePool and size > 0 and more >= 0
    return size + more if ordinary else None


def _peculiar(engine: sa.Engine) -> str:
    """What of the engine no pool beside it could have."""
    if type(engine.pool) is not sa.pool.QueuePool:
        return f"a pool of its own, {type(engine.pool).__name__}"
    creator = getattr(engine.pool, "_creator", None)
    ordinary = getattr(creator, "__module__", "") == sa.create_engine.__module__
    return "" if ordinary else "a creator"


def _close(_: Any, record: Any) -> None:
    record.invalidate()


def _log_ahead(connection: Any, _: Any) -> None:
    """Writers then do not wait for readers, and hold the lock for a fraction of the time
    (SQLite's manual: Write-Ahead Logging). The file remembers it.
    """
    # Refused while somebody writes, or switches, too: this connection works either way.
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")


def _refuse_in_memory(pool: type[sa.Pool], url: str) -> None:
    """SQLite has these pools for databases in memory: one for each thread, or one
    connection for all, on which our commit would be the application's.
    """
    if issubclass(pool, sa.pool.SingletonThreadPool | sa.pool.StaticPool):
        raise ConfigurationError(
            KEY,
            url,
            "a database with a connection for each thread",
            'In memory, SQLite has none: use SESSION_TYPE = "memory".',
        )


def in_folder(folder: str) -> sa.URL:
    """A SQLite file there. The folder is made if it is missing."""
    os.makedirs(folder, exist_ok=True)
    return sa.URL.create("sqlite", database=os.path.join(folder, "sessions.sqlite"))


@contextlib.contextmanager
def transaction(connection: sa.Connection) -> Iterator[None]:
    """On a connection that commits each statement otherwise."""
    sqlite = connection.dialect.name == "sqlite"
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else "BEGIN")
        yield
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.invalidate()  # the server rolls back when it is closed
        raise
