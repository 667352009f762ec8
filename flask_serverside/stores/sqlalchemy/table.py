"""The table in which a SQL database keeps sessions."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import UTC
from typing import Any
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from ..record import Entry
from ..record import LABEL
from ..record import Record

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Instant(sa.types.TypeDecorator[int]):
    """Milliseconds since the epoch, kept as a date that a person can read and compare:
    with a time zone on PostgreSQL, in UTC elsewhere.
    """

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=3))
        return dialect.type_descriptor(sa.DateTime())

    def process_bind_param(self, value: int | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        date = _EPOCH + value * _MILLISECOND
        return date if dialect.name == "postgresql" else date.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        date = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (date - _EPOCH) // _MILLISECOND


class Statements:
    """What is done to rows, made once: to make a statement takes as long as to send it."""

    def __init__(self, table: sa.Table) -> None:
        columns = table.c
        row = columns.handle == sa.bindparam("of")
        as_loaded = columns.version == sa.bindparam("loaded")
        alive = columns.expires > sa.bindparam("now", type_=Instant)
        self.create = table.insert()
        self.load = sa.select(table).where(row)
        #: Of the columns that are given.
        self.update = table.update().where(row, as_loaded, alive)
        self.delete = table.delete().where(row)
        self._these = columns.handle.in_(sa.bindparam("these", expanding=True))
        kind = columns.payload.type
        # SQLite's is NULL for what is empty.
        beginning = sa.func.substr(columns.payload, 1, LABEL, type_=kind)
        beginning = sa.func.coalesce(beginning, sa.literal(b"", kind), type_=kind)
        size = sa.func.length(columns.payload, type_=sa.BigInteger)
        whole = [column for column in columns if column is not columns.payload]
        #: Of the rows ``these``, never more of a payload than a list shows.
        self.entries = sa.select(*whole, beginning, size).where(self._these)
        self._table = table

    def page(self, subject: str | None, beginning: str, most: int) -> sa.Select[Any]:
        """The handles ``after`` one, in their order."""
        handle = self._table.c.handle
        wanted = [self._table.c.lifetime > 0, handle > sa.bindparam("after")]
        if subject is not None:
            wanted.append(self._table.c.subject == subject)
        if beginning:
            wanted.append(handle.between(beginning, beginning + "g"))  # they are hexadecimal
        return sa.select(handle).where(*wanted).order_by(handle).limit(most)

    def alive(self, subject: str | None, now: int, dialect: Dialect) -> sa.Select[Any]:
        """How many there are."""
        columns = self._table.c
        counted = sa.select(sa.func.count()).select_from(self._table)
        wanted = [columns.lifetime > 0, columns.expires > now]
        return counted.where(*wanted, *self._of(subject, dialect))

    def ending(self, subject: str | None, dialect: Dialect) -> tuple[sa.Select[Any], sa.Delete]:
        """To lock, and to remove, those of ``these`` that are no tombstones, and are this
        subject's.
        """
        columns = self._table.c
        wanted = [self._these, columns.lifetime > 0, *self._of(subject, dialect)]
        locked = sa.select(columns.handle).where(*wanted).with_for_update()
        return locked, self._table.delete().where(*wanted)

    def _of(self, subject: str | None, dialect: Dialect) -> list[Any]:
        if subject is None:
            return []
        column = self._table.c.subject
        wanted = [column == subject]
        if dialect.name in ("mysql", "mariadb"):
            # Which takes "Ada" for "ada" otherwise. The index serves the comparison before.
            letters = sa.func.convert(sa.text(f"{column.name} USING utf8mb4"))
            wanted.append(letters.collate("utf8mb4_bin") == subject)
            wanted.append(sa.func.char_length(column) == len(subject))  # spaces at the end
        return wanted


def row_of(record: Record) -> dict[str, Any]:
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


def record_of(
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


def entry_of(*row: Any) -> Entry:
    """From the same columns, and the size of the payload, of which there is the beginning."""
    return Entry(record_of(*row[:-1]).checked(), int(row[-1]))


def sessions_table(
    metadata: sa.MetaData, name: str = "sessions", schema: str | None = None
) -> sa.Table:
    """The table that the store reads and writes, for Alembic's metadata.

    ``lifetime`` is in milliseconds.
    """
    return sa.Table(
        name,
        metadata,
        sa.Column("handle", sa.String(64), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created", Instant, nullable=False),
        sa.Column("seen", Instant, nullable=False),
        sa.Column("expires", Instant, nullable=False, index=True),
        sa.Column("lifetime", sa.BigInteger, nullable=False),
        sa.Column("deadline", Instant),
        # Whatever character set the database takes otherwise.
        sa.Column(
            "subject",
            sa.String(255).with_variant(
                mysql.VARCHAR(255, charset="utf8mb4"), "mysql", "mariadb"
            ),
        ),
        sa.Column(
            "payload",
            sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb"),
            nullable=False,
        ),
        # Ids that were given up have no lifetime, and may be many for each session that has.
        sa.Index(f"ix_{name}_subject", "subject", "lifetime"),
        schema=schema,
    )


def create(table: sa.Table, connection: sa.Connection) -> None:
    """Unless it is there."""
    try:
        table.metadata.create_all(connection)
    except DBAPIError as error:
        # Another worker may have been faster. Then the table is there. Who has no connection
        # any more cannot ask.
        if error.connection_invalidated or not sa.inspect(connection).has_table(
            table.name, table.schema
        ):
            raise
