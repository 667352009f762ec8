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
    """What is done to one row, made once: to make a statement takes as long as to send it."""

    def __init__(self, table: sa.Table) -> None:
        row = table.c.handle == sa.bindparam("of")
        as_loaded = table.c.version == sa.bindparam("loaded")
        alive = table.c.expires > sa.bindparam("now", type_=Instant)
        self.create = table.insert()
        #: All but the handle, which is known: some drivers take long for each column.
        self.load = sa.select(*(c for c in table.c if c is not table.c.handle)).where(row)
        #: Of the columns that are given.
        self.update = table.update().where(row, as_loaded, alive)
        self.delete = table.delete().where(row)


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
