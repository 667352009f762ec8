"""What a SQL database says to an operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from ..examination import Examination
from ..examination import room
from ..examination import timed

#: The time there, in seconds since the epoch; SQLite has no other than this machine's.
_NOW = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT unix_timestamp(now(3))",
    "mariadb": "SELECT unix_timestamp(now(3))",
}
#: Expired rows that are counted at most, and that are too many.
_MANY = 100_000


def examine(connection: sa.Connection, table: sa.Table, now: int) -> Examination:
    """:param now: milliseconds since the epoch, by the store's clock."""
    dialect = connection.dialect
    facts = {"database": _database(connection), "table": table.fullname}
    warnings = list(_missing(connection, table))
    notes = []
    if not warnings:
        if connection.scalar(sa.select(table.c.handle).limit(1)) is None:
            notes.append(
                f"Table {table.fullname} is empty. If there ought to be sessions in it, this "
                f"is the wrong database: compare SESSION_SQLALCHEMY with {facts['database']}."
            )
        expired = _count(connection, table.c.expires <= now)
        facts["rows expired"] = f"{expired}{' or more' if expired == _MANY else ''}"
        if expired == _MANY:
            warnings.append(
                "Expired rows pile up. Run flask session purge from cron, as often as it takes."
            )
    if dialect.name in ("mysql", "mariadb"):
        packet = int(connection.scalar(sa.text("SELECT @@max_allowed_packet")))
        facts["max_allowed_packet"] = room(packet)
        warnings += _illegible(connection, table)
    if dialect.name == "postgresql" and _pooled(connection):
        facts["pooler"] = "in between"
        warnings += _prepares(connection)
    if dialect.name == "sqlite":
        facts["journal mode"] = str(connection.scalar(sa.text("PRAGMA journal_mode")))
    ahead = None
    if dialect.name in _NOW:
        time, here = timed(lambda: connection.scalar(sa.text(_NOW[dialect.name])))
        ahead = float(time) - here
    return Examination(
        f"SQLAlchemy {sa.__version__}, {dialect.driver} {_driver_version(dialect)}".rstrip(),
        f"{_NAMES.get(_name(dialect), dialect.name)} {_server_version(dialect)}".rstrip(),
        tuple(facts.items()),
        tuple(warnings),
        tuple(notes),
        ahead=ahead,
    )


_NAMES = {
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL",
    "mysql": "MySQL",
    "mariadb": "MariaDB",
}


def _name(dialect: Any) -> str:
    return "mariadb" if getattr(dialect, "is_mariadb", False) else str(dialect.name)


def _database(connection: sa.Connection) -> str:
    ask = {
        "postgresql": "SELECT current_database()",
        "mysql": "SELECT database()",
        "mariadb": "SELECT database()",
        "sqlite": "SELECT file FROM pragma_database_list WHERE name = 'main'",
    }
    statement = ask.get(connection.dialect.name)
    return str(connection.scalar(sa.text(statement)) if statement else "")


def _pooled(connection: sa.Connection) -> bool:
    """Whether the process that answers is not the one that we have logged in to: then there
    is a pooler in between, such as PgBouncer. Which mode it is in, it tells nobody but its own
    administrator.
    """
    driver: Any = connection.connection.dbapi_connection
    logged_in = getattr(getattr(driver, "info", None), "backend_pid", None)
    answers = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    return logged_in is not None and logged_in != answers


def _prepares(connection: sa.Connection) -> Iterator[str]:
    driver: Any = connection.connection.dbapi_connection
    if getattr(driver, "prepare_threshold", None) is not None:
        yield (
            "There is a pooler in between, and prepare_threshold is set: statements that it "
            "does not know fail, unless it is PgBouncer 1.21 or later, and has "
            "max_prepared_statements. "
            "Set prepare_threshold to none."
        )


def _driver_version(dialect: Any) -> str:
    driver = dialect.dbapi  # PyMySQL claims another version to Django
    return str(getattr(driver, "VERSION_STRING", getattr(driver, "__version__", "")))


def _server_version(dialect: Any) -> str:
    return ".".join(map(str, dialect.server_version_info or ()))


def _missing(connection: sa.Connection, table: sa.Table) -> Iterator[str]:
    inspector = sa.inspect(connection)
    if not inspector.has_table(table.name, table.schema):
        yield (
            f"There is no table {table.fullname}, and SESSION_SQLALCHEMY_CREATE is off. Run "
            "the migration that creates it."
        )
        return
    columns = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
    lacking = [column.name for column in table.columns if column.name not in columns]
    if lacking:
        yield (
            f"Table {table.fullname} lacks columns: {', '.join(lacking)}. Compare it with "
            "sessions_table()."
        )
    indexes = inspector.get_indexes(table.name, table.schema)
    indexed = [index["column_names"] for index in indexes]
    for column, slow in (("expires", "purging"), ("subject", "listing a user's sessions")):
        if column not in lacking and not any(names[:1] == [column] for names in indexed):
            yield (
                f"Table {table.fullname} has no index on {column}: {slow} reads all of it. "
                "Create the index, as sessions_table() has it."
            )


def _illegible(connection: sa.Connection, table: sa.Table) -> Iterator[str]:
    """MariaDB and MySQL: a table from before had the database's character set."""
    columns = "information_schema.columns"
    found = connection.scalar(
        sa.text(
            f"SELECT character_set_name FROM {columns} WHERE column_name = 'subject' "  # noqa: S608
            "AND table_name = :table AND table_schema = coalesce(:schema, database())"
        ),
        {"table": table.name, "schema": table.schema},
    )
    if found not in (None, "utf8mb4"):
        yield (
            f"The character set of {table.fullname}.subject is {found}: who has another "
            "character in the subject cannot sign in. ALTER TABLE to utf8mb4."
        )


def _count(connection: sa.Connection, condition: Any) -> int:
    some = sa.select(sa.literal(1)).where(condition).limit(_MANY).subquery()
    return int(connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0)
