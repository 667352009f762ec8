"""Sessions in a SQL database: SQLite, PostgreSQL, MariaDB and MySQL, through SQLAlchemy Core.

Each operation is one statement in a short transaction of its own, on a connection of its
own. The application's own database session is never touched.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from collections.abc import Iterator
from typing import Any
from typing import Self
from typing import TYPE_CHECKING
from typing import Unpack

import sqlalchemy as sa
from sqlalchemy.exc import DataError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import InterfaceError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from .. import values
from ..errors import ConfigurationError
from ..errors import SerializationError
from . import sqlalchemy_examination
from .base import ATTEMPTS
from .base import log
from .base import StoreOptions
from .examination import Examination
from .index import IndexedStore
from .record import Record
from .sqlalchemy_table import sessions_table
from .sqlalchemy_table import Statements
from .sqlalchemy_timeouts import limit_waiting

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["SQLAlchemyStore", "sessions_table"]

KEY = "SESSION_SQLALCHEMY"
#: MariaDB and MySQL: ER_LOCK_DEADLOCK, ER_CHECKREAD; SQLSTATEs of PostgreSQL: a deadlock, a
#: transaction that cannot be put into an order.
_DEADLOCKS = {1213, 1020, "40P01", "40001"}

#: What comes of a row that we have not written.
_NO_RECORD = (TypeError, ValueError, AttributeError, OverflowError, DataError)

ALLOWED = "a database URL, an Engine, or Flask-SQLAlchemy's object"


class SQLAlchemyStore(IndexedStore):
    """One row a session.

    :param database: a URL, an :class:`sqlalchemy.engine.Engine`, or Flask-SQLAlchemy's
        object. An engine that is given keeps its own time limits.
    :param bind_key: which of Flask-SQLAlchemy's engines.
    :param create: whether to create the table on first use.
    :param purge_interval: seconds, about: creating a session removes a batch of expired
        rows if this process has not done so for this long. 0: never, leave it to
        ``flask_serverside.Session.purge``.
    """

    unavailable = (OperationalError, InterfaceError, PoolTimeout)
    failed = (SQLAlchemyError,)
    #: Fits twice into the 16 MiB that MariaDB takes by default in one packet, where each byte
    #: may have to be escaped.
    max_size = 8_000_000

    #: Rows removed by one statement of a purge.
    PURGE_BATCH = 1000
    #: Rows fetched by one statement when there is no end of them.
    LIST_BATCH = 1000

    def __init__(
        self,
        database: Any,
        *,
        table: str = "sessions",
        schema: str | None = None,
        bind_key: str | None = None,
        create: bool = True,
        purge_interval: float = 300,
        **options: Unpack[StoreOptions],
    ) -> None:
        super().__init__(**options)
        self.table = sessions_table(sa.MetaData(), table, schema)
        self._statements = Statements(self.table)
        self._bind_key = bind_key
        self._create_table = create
        self._purge_interval = purge_interval
        self._purge_due = self.now() + self._jittered_interval()
        self._ready = False
        self._flask_sqlalchemy: Any = None
        self._engine: sa.Engine | None = None
        self._ours = isinstance(database, str | sa.URL)
        if isinstance(database, str | sa.URL):
            self._engine = self._connect(database)
        elif isinstance(database, sa.Engine):
            self._engine = _for_sessions(database)
        elif hasattr(type(database), "engines"):
            self._flask_sqlalchemy = database
        else:
            raise ConfigurationError(KEY, database, ALLOWED)
        if bind_key is not None and self._flask_sqlalchemy is None:
            raise ConfigurationError(
                f"{KEY}_BIND_KEY",
                bind_key,
                f"nothing, since {KEY} is not Flask-SQLAlchemy's object",
            )

    @classmethod
    def from_app(cls, app: Flask, **options: Unpack[StoreOptions]) -> Self:
        config = app.config
        if KEY in config:
            database = config[KEY]
        else:
            os.makedirs(app.instance_path, exist_ok=True)
            database = sa.URL.create(
                "sqlite", database=os.path.join(app.instance_path, "sessions.sqlite")
            )
        return cls(
            database,
            table=values.text(config, f"{KEY}_TABLE", "sessions"),
            schema=values.optional_text(config, f"{KEY}_SCHEMA"),
            bind_key=values.optional_text(config, f"{KEY}_BIND_KEY"),
            create=values.boolean(config, f"{KEY}_CREATE", True),
            purge_interval=values.duration(config, "SESSION_PURGE_INTERVAL", 300, zero=True),
            **options,
        )

    def purge(self) -> int:
        total = 0
        while removed := self._call(self._purge_batch):
            total += removed
        return total

    def count(self, subject: str | None = None) -> int:
        if subject is not None:  # which a database may take for others, in other letters
            return super().count(subject)
        counted = sa.select(sa.func.count()).select_from(self.table)
        alive = (*self._asked(None, ""), self.table.c.expires > self.now())
        return int(self._call(self._scalar, counted.where(*alive)))

    def close(self) -> None:
        if self._ours and self._engine is not None:
            self._engine.dispose()

    def reset(self) -> None:
        if self._engine is not None:
            self._engine.dispose(close=False)

    def _connect(self, url: str | sa.URL) -> sa.Engine:
        try:
            parsed = sa.make_url(url)
            dialect = parsed.get_dialect()
            if dialect.is_async:
                raise ConfigurationError(KEY, str(url), "a driver that is not asynchronous")
            # As documented for custom pools; only its type lacks the method.
            _refuse_in_memory(dialect.get_pool_class(parsed), str(url))  # type: ignore[attr-defined]
            engine = sa.create_engine(
                parsed,
                isolation_level="AUTOCOMMIT",
                skip_autocommit_rollback=True,
                pool_reset_on_return=None,
                pool_timeout=self.timeout,
                hide_parameters=True,
            )
            limit_waiting(engine, self.timeout)
        except SQLAlchemyError as error:
            raise ConfigurationError(KEY, str(url), f"{ALLOWED} ({error})") from error
        except ImportError as error:
            raise ConfigurationError(
                KEY,
                str(url),
                "a URL whose driver is installed",
                f"{error}: pip install {error.name or 'the driver'}, or name another driver "
                "in the URL, such as postgresql+psycopg:// or mysql+pymysql://.",
            ) from error
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _log_ahead)
        return engine

    def _create(self, record: Record) -> bool:
        row = {"handle": record.handle, "created": record.created} | _changing(record)
        try:
            self._change(self._statements.create, row)
        except IntegrityError:
            return False
        if self._purge_interval and record.seen >= self._purge_due:
            self._purge_due = record.seen + self._jittered_interval()
            try:
                self._purge_batch()
            except SQLAlchemyError as error:  # the session itself is safely stored
                log.warning("Expired sessions could not be purged: %s", error)
        return True

    def _load(self, handle: str) -> Record | None:
        with self._connection() as connection:
            try:
                row = connection.execute(self._statements.load, {"of": handle}).one_or_none()
                return None if row is None else _record(handle, *row)
            except _NO_RECORD as error:
                raise SerializationError(
                    f"What is stored for session {handle} is not a record: {error}"
                ) from error

    def _records(self, subject: str | None, beginning: str) -> Iterator[Record]:
        handle = self.table.c.handle
        asked = list(self._asked(subject, beginning))
        wanted = sa.select(self.table).where(*asked)
        if subject is not None:
            # In one statement, which sees them all as they are at one moment.
            yield from self._read(wanted)
            return
        last: str | None = ""
        while last is not None:
            some = sa.select(handle).where(*asked, handle > last)
            batch = some.order_by(handle).limit(self.LIST_BATCH).subquery()
            first, last = last, self._scalar(sa.select(sa.func.max(batch.c.handle)))
            if last is not None:
                yield from self._read(wanted.where(handle > first, handle <= last))

    def _read(self, wanted: sa.Select[Any]) -> Iterator[Record]:
        """The records of these rows. One that cannot be read makes no other one unreadable."""
        with self._connection() as connection:
            try:
                records = [_record(*row).checked() for row in connection.execute(wanted)]
            except (*_NO_RECORD, SerializationError):
                handles = wanted.with_only_columns(self.table.c.handle)
                records = [
                    record
                    for handle in connection.scalars(handles).all()
                    for record in self._legible(self._load, handle)
                ]
        yield from records

    def _asked(self, subject: str | None, beginning: str) -> Iterator[Any]:
        columns = self.table.c
        yield columns.lifetime > 0
        if subject is not None:
            yield columns.subject == subject
        if beginning:
            yield columns.handle.between(beginning, beginning + "g")  # they are hexadecimal

    def _scalar(self, statement: sa.Select[Any]) -> Any:
        with self._connection() as connection:
            return connection.scalar(statement)

    def _replace(self, record: Record) -> Record | None:
        if self._update(record, record.version - 1, _changing(record)):
            return record
        return self._load(record.handle)

    def _touch(self, record: Record) -> bool:
        times = {"seen": record.seen, "expires": record.expires}
        return self._update(record, record.version, times) or self._stands(record)

    def _stands(self, record: Record) -> bool:
        """Whether the row had these times before. MySQL and MariaDB count only the rows that
        have changed, unless the driver asks for more: SQLAlchemy does, a ``creator`` may not.
        """
        engine = self._engine
        if self._ours or engine is None or engine.dialect.name not in ("mysql", "mariadb"):
            return False
        standing = self._load(record.handle)
        return standing is not None and _marks(standing) == _marks(record)

    def _delete(self, handle: str) -> bool:
        return self._change(self._statements.delete, {"of": handle}) == 1

    def _update(self, record: Record, loaded: int, changes: dict[str, Any]) -> bool:
        alive = {"of": record.handle, "loaded": loaded, "now": record.seen}
        return self._change(self._statements.update, alive | changes) == 1

    def _change(self, statement: sa.UpdateBase, values: dict[str, Any] | None = None) -> int:
        """Execute the statement, again if the database has chosen it to break a deadlock:
        then nothing has been done (MariaDB's manual: InnoDB Lock Modes).

        :returns: how many rows it has met.
        """
        attempts = 0
        while True:
            try:
                with self._connection() as connection:
                    return connection.execute(statement, values).rowcount
            except DBAPIError as error:
                attempts += 1
                if attempts == ATTEMPTS or not _broke_deadlock(error):
                    raise

    def _purge_batch(self) -> int:
        columns = self.table.c
        expired = columns.expires <= self.now()
        some = sa.select(columns.handle).where(expired).limit(self.PURGE_BATCH)
        with self._connection() as connection:
            handles = connection.scalars(some).all()
        if not handles:
            return 0
        # Looked at again: between the two statements a session may have been touched by a
        # machine whose clock is behind.
        return self._change(self.table.delete().where(columns.handle.in_(handles), expired))

    def _jittered_interval(self) -> int:
        """Milliseconds, spread so that the workers do not purge all at once."""
        return int(self._purge_interval * 1000 * random.uniform(0.5, 1.5))

    def _connection(self) -> sa.Connection:
        if not self._ready:
            self._prepare()
        assert self._engine is not None
        return self._engine.connect()

    def _prepare(self) -> None:
        """Ask Flask-SQLAlchemy for its engine, which takes an application context, and
        create the table. Without a lock: several may do so at once, and none waits for the
        others to find out that the server is down.
        """
        if self._engine is None:
            self._engine = self._bound_engine()
        if self._create_table:
            self._create_all(self._engine)
        self._ready = True

    def _bound_engine(self) -> sa.Engine:
        engines = self._flask_sqlalchemy.engines
        if self._bind_key not in engines:
            raise ConfigurationError(
                f"{KEY}_BIND_KEY", self._bind_key, f"one of {sorted(map(str, engines))}"
            )
        return _for_sessions(engines[self._bind_key])

    def _create_all(self, engine: sa.Engine) -> None:
        with engine.connect() as connection:
            try:
                self.table.metadata.create_all(connection)
            except DBAPIError:
                # Another worker may have been faster. Then the table is there.
                if not sa.inspect(connection).has_table(self.table.name, self.table.schema):
                    raise

    def _examine(self) -> Examination:
        with self._connection() as connection:
            return sqlalchemy_examination.examine(connection, self.table, self.now())

    def _dropped(self, cause: BaseException | None) -> bool:
        return isinstance(cause, DBAPIError) and cause.connection_invalidated


def _broke_deadlock(error: DBAPIError) -> bool:
    code = error.orig.args[0] if error.orig and error.orig.args else None
    return code in _DEADLOCKS or getattr(error.orig, "sqlstate", None) in _DEADLOCKS


def _log_ahead(connection: Any, _: Any) -> None:
    """Writers then do not wait for readers, and hold the lock for a fraction of the time
    (SQLite's manual: Write-Ahead Logging). The file remembers it.
    """
    # Refused while somebody writes, or switches, too: this connection works either way.
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")


def _for_sessions(engine: sa.Engine) -> sa.Engine:
    """The application's engine, with its pool, but with options that are ours alone."""
    if engine.dialect.is_async:
        raise ConfigurationError(KEY, str(engine.url), "a driver that is not asynchronous")
    _refuse_in_memory(type(engine.pool), str(engine.url))
    ours = engine.execution_options(isolation_level="AUTOCOMMIT")
    ours.hide_parameters = True  # they are the user's data, and errors are logged
    return ours


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


def _changing(record: Record) -> dict[str, Any]:
    """All of the row that a save may change."""
    return {
        "version": record.version,
        "seen": record.seen,
        "expires": record.expires,
        "lifetime": record.lifetime,
        "deadline": record.deadline,
        "subject": record.subject,
        "payload": record.payload,
    }


def _marks(record: Record) -> tuple[int, ...]:
    """What a touch compares and sets."""
    return record.version, record.seen, record.expires


def _record(
    handle: str,
    version: Any,
    created: int,
    seen: int,
    expires: int,
    lifetime: Any,
    deadline: int | None,
    subject: str | None,
    payload: Any,
) -> Record:
    """From the columns of a row, in the order of the table."""
    if not isinstance(payload, bytes):
        raise TypeError(f"payload is {type(payload).__name__}")
    times = created, seen, expires
    return Record(handle, payload, int(version), *times, int(lifetime), deadline, subject)
