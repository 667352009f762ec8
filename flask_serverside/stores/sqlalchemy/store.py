"""Sessions in a SQL database: SQLite, PostgreSQL, MariaDB and MySQL, through SQLAlchemy Core.

Each statement is committed by itself, on a connection of the store's own; only MySQL and older
MariaDB end a batch in a transaction of two. The application's own database session is never
touched.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Self
from typing import TYPE_CHECKING
from typing import TypeVar
from typing import Unpack

import sqlalchemy as sa
from sqlalchemy.exc import DataError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import InterfaceError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ... import values
from ...errors import ConfigurationError
from ...errors import SerializationError
from ..base import ATTEMPTS
from ..base import StoreOptions
from ..examination import Examination
from ..index import IndexedStore
from ..operations import Fault
from ..outage import log
from ..record import Entry
from ..record import Record
from . import examination
from . import faults
from .engine import ALLOWED
from .engine import Beside
from .engine import Connections
from .engine import FromURL
from .engine import in_folder
from .engine import of_flask_sqlalchemy
from .engine import transaction
from .options import checked
from .options import KEY
from .options import OPTIONS
from .table import create
from .table import entry_of
from .table import record_of
from .table import row_of
from .table import sessions_table
from .table import Statements

if TYPE_CHECKING:
    from flask import Flask

T = TypeVar("T")

#: Sessions that are looked at in one trip. InnoDB reads all of a payload to give its beginning.
_INNODB_BATCH = 100

#: What comes of a row that we have not written.
_NO_RECORD = (TypeError, ValueError, AttributeError, OverflowError, DataError)


class SQLAlchemyStore(IndexedStore):
    """One row a session.

    :param database: a URL, an :class:`sqlalchemy.engine.Engine`, or Flask-SQLAlchemy's
        object. Beside an engine's pool the store has a small one of its own, to the same
        database.
    :param bind_key: which of Flask-SQLAlchemy's engines.
    :param create: whether to create the table on first use.
    :param purge_interval: seconds, about: creating a session removes a batch of expired
        rows if this process has not done so for this long. 0: never, leave it to
        ``flask_serverside.Session.purge``.
    :param engine_options: for :func:`sqlalchemy.create_engine`, ``connect_args`` among them.
    """

    unavailable = (OperationalError, InterfaceError, PoolTimeout)
    failed = (SQLAlchemyError,)
    #: Fits twice into the 16 MiB that MariaDB takes by default in one packet, where each byte
    #: may have to be escaped.
    max_size = 8_000_000

    #: Rows removed by one statement of a purge.
    PURGE_BATCH = 1000
    #: Handles fetched by one statement. If a subject has no more, all of its sessions are seen
    #: as they are at one moment.
    PAGE = 10_000

    def __init__(
        self,
        database: Any,
        *,
        table: str = "sessions",
        schema: str | None = None,
        bind_key: str | None = None,
        create: bool = True,
        purge_interval: float = 300,
        engine_options: Mapping[str, Any] | None = None,
        **options: Unpack[StoreOptions],
    ) -> None:
        super().__init__(**options)
        self.table = sessions_table(sa.MetaData(), table, schema)
        self._statements = Statements(self.table)
        self._bind_key = bind_key
        self._create_table = create
        self._purge_interval = purge_interval
        self._purge_due = self.now() + self._jittered_interval()
        self._engine_options = engine_options or {}
        self._flask_sqlalchemy: Any = None
        self._source: FromURL | Beside | None = None
        if isinstance(database, str | sa.URL):
            self._source = FromURL(database, self._engine_options, self.limit)
        elif isinstance(database, sa.Engine):
            self._source = Beside(database, self._engine_options, self.limit)
        elif hasattr(type(database), "engines"):
            self._flask_sqlalchemy = database
            checked(self._engine_options, pool_only=True)
        else:
            raise ConfigurationError(KEY, database, ALLOWED)
        if bind_key is not None and self._flask_sqlalchemy is None:
            raise ConfigurationError(
                f"{KEY}_BIND_KEY",
                bind_key,
                f"nothing, since {KEY} is not Flask-SQLAlchemy's object",
            )
        self._connections: Connections | None = None
        #: Held by the one that connects first: SQLAlchemy would have the others wait for it
        #: without a limit.
        self._preparing = threading.Lock()
        self._ready = False
        #: What a parent process has left: kept, since it must not be closed here.
        self._forgotten: list[Any] = []

    @classmethod
    def from_app(cls, app: Flask, **options: Unpack[StoreOptions]) -> Self:
        config = app.config
        database = config[KEY] if KEY in config else in_folder(app.instance_path)
        return cls(
            database,
            table=values.text(config, f"{KEY}_TABLE", "sessions"),
            schema=values.optional_text(config, f"{KEY}_SCHEMA"),
            bind_key=values.optional_text(config, f"{KEY}_BIND_KEY"),
            create=values.boolean(config, f"{KEY}_CREATE", True),
            purge_interval=values.duration(config, "SESSION_PURGE_INTERVAL", 300, zero=True),
            engine_options=config.get(OPTIONS),
            **options,
        )

    def purge(self) -> int:
        total = 0
        while removed := self._call(self._purge_batch):
            total += removed
        return total

    def count(self, subject: str | None = None) -> int:
        return self._call(self._count, subject)

    def close(self) -> None:
        if self._connections is not None and self._source is not None:
            self._source.close(self._connections)

    def reset(self) -> None:
        # No lock and no connection of the parent is touched: another thread may have held it.
        self._forgotten.append(self._connections)
        if self._source is not None:
            self._forgotten += self._source.inherited()
        self._connections, self._ready = None, False
        self._preparing = threading.Lock()

    def _reconnect(self) -> None:
        # Not only the one: the others of the pool lead to the same server.
        if self._connections is not None:
            self._connections.drop()

    def _fault(self, error: Exception) -> Fault:
        return faults.meaning(error)

    def _advice(self, error: Exception) -> str:
        return faults.advice(error)

    def _describe(self, error: Exception) -> str:
        # What PostgreSQL tells in detail is the row, which is the user's.
        return super()._describe(error).partition("\nDETAIL:")[0]

    def _create(self, record: Record) -> bool:
        row = {"handle": record.handle, "created": record.created} | row_of(record)
        try:
            self._change(self._statements.create, row)
        except IntegrityError as error:
            if not faults.taken(error):
                raise
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
                # Closed also if it cannot be read: SQLite takes an answer that nobody has
                # read to the end for a reader, and refuses to write beside it.
                with connection.execute(self._statements.load, {"of": handle}) as found:
                    row = found.one_or_none()
                return None if row is None else record_of(*row)
            except _NO_RECORD as error:
                raise SerializationError(
                    f"What is stored for session {handle} is not a record: {error}"
                ) from error

    def _handles(
        self, subject: str | None, beginning: str, after: Any
    ) -> tuple[list[str], Any]:
        # Of all there are no more at a time than are looked at together.
        most = self.BATCH if subject is None else self.PAGE
        page = self._statements.page(subject, beginning, most)
        with self._connection() as connection:
            handles = [*connection.scalars(page, {"after": after or ""})]
        return handles, handles[-1] if len(handles) == most else None

    def _entries(self, handles: list[str]) -> list[Entry]:
        with self._connection() as connection:
            try:
                with connection.execute(self._statements.entries, {"these": handles}) as rows:
                    return [entry_of(*row) for row in rows]
            except (*_NO_RECORD, SerializationError) as error:
                if len(handles) == 1:
                    log.warning("Left out of the list: session %s: %s", handles[0], error)
                    return []
        # One that cannot be read makes no other one unreadable.
        half = len(handles) // 2
        return self._entries(handles[:half]) + self._entries(handles[half:])

    def _end_many(self, handles: list[str], subject: str | None) -> list[str]:
        def end() -> list[str]:
            with self._connection() as connection:
                dialect, these = connection.dialect, {"these": handles}
                locked, removed = self._statements.ending(subject, dialect)
                if dialect.delete_returning:
                    told = removed.returning(self.table.c.handle)
                    return [*connection.scalars(told, these)]
                with transaction(connection):
                    found = [*connection.scalars(locked, these)]
                    connection.execute(removed, these)
                return found

        return self._undisturbed(end)

    def _count(self, subject: str | None) -> int:
        with self._connection() as connection:
            counted = self._statements.alive(subject, self.now(), connection.dialect)
            return int(connection.scalar(counted) or 0)

    def _replace(self, record: Record) -> Record | None:
        if self._update(record, record.version - 1, row_of(record)):
            return record
        return self._load(record.handle)

    def _touch(self, record: Record) -> bool:
        times = {"seen": record.seen, "expires": record.expires}
        return self._update(record, record.version, times) or self._stood(record)

    def _stood(self, record: Record) -> bool:
        """Whether the row had these times before. MySQL and MariaDB count only the rows that
        have changed, unless the driver asks for more: SQLAlchemy does, a ``creator`` may not.
        """
        if self._engine.dialect.name not in ("mysql", "mariadb"):
            return False
        standing = self._load(record.handle)
        marks = [(r.version, r.seen, r.expires) for r in (standing, record) if r is not None]
        return marks == [marks[-1]] * 2

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

        def change() -> int:
            with self._connection() as connection:
                met = connection.execute(statement, values).rowcount
                assert self._connections is not None
                self._connections.wrote(connection)
                return met

        return self._undisturbed(change)

    def _undisturbed(self, work: Callable[[], T]) -> T:
        attempts = 0
        while True:
            try:
                return work()
            except DBAPIError as error:
                attempts += 1
                if attempts == ATTEMPTS or self.limit.over or not faults.broke_deadlock(error):
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

    @property
    def _engine(self) -> sa.Engine:
        assert self._connections is not None
        return self._connections.engine

    def _connection(self) -> contextlib.AbstractContextManager[sa.Connection]:
        if not self._ready:
            if not self._preparing.acquire(timeout=self.limit.left):
                raise PoolTimeout("another thread is still waiting for the first connection")
            try:
                self._prepare()
            finally:
                self._preparing.release()
        assert self._connections is not None
        return self._connections.one()

    def _prepare(self) -> None:
        """Ask Flask-SQLAlchemy for its engine, which takes an application context, connect, and
        create the table.
        """
        if self._ready:
            return
        if self._source is None:
            engine = of_flask_sqlalchemy(self._flask_sqlalchemy, self._bind_key)
            self._source = Beside(engine, self._engine_options, self.limit)
        if self._connections is None:
            self._connections = self._source.connections()
        with self._connections.one() as connection:
            if self._create_table:
                create(self.table, connection)
            if connection.dialect.name in ("mysql", "mariadb"):
                self.BATCH = min(self.BATCH, _INNODB_BATCH)
        self._ready = True

    def _examine(self) -> Examination:
        with self._connection() as connection:
            return examination.examine(connection, self.table, self.now())
