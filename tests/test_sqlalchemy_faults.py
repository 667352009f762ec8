"""What the numbers and SQLSTATEs mean that no server here can be brought to say."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.group("sql")


def meaning(error: Any) -> str:
    from flask_serverside.stores.sqlalchemy import faults

    return faults.meaning(error).value


def of_mysql(number: int, text: str = "", kind: str = "OperationalError") -> Any:
    import sqlalchemy.exc

    return getattr(sqlalchemy.exc, kind)("SELECT", {}, Exception(number, text))


def of_postgresql(state: str, kind: str = "OperationalError") -> Any:
    import sqlalchemy.exc

    said: Any = Exception("what it says")
    said.sqlstate = state
    return getattr(sqlalchemy.exc, kind)("SELECT", {}, said)


def at_login(text: str) -> Any:
    import sqlalchemy.exc

    said = f'connection to server at "127.0.0.1", port 5432 failed: FATAL:  {text}'
    return sqlalchemy.exc.OperationalError("", {}, Exception(said))


@pytest.mark.parametrize(
    ("number", "text", "expected"),
    [
        (1290, "The server is running with the --read-only option", "stale"),
        (1290, "The server is running with the --super-read-only option", "stale"),
        (1290, "The server is running with the --secure-file-priv option", "unavailable"),
        (1792, "", "stale"),
        (1836, "", "stale"),
        (1036, "", "stale"),
        (1015, "Can't lock file (errno: 165 - Table is read only)", "stale"),
        (1015, "Can't lock file (errno: 11)", "unavailable"),
        (1047, "WSREP has not yet prepared node", "stale"),
        (1053, "Server shutdown in progress", "stale"),
        (1040, "Too many connections", "unavailable"),
        (1203, "", "unavailable"),
        (1226, "", "unavailable"),
        (1205, "Lock wait timeout", "unavailable"),
        (1213, "Deadlock", "unavailable"),
        (1114, "The table is full", "unavailable"),
        (3024, "", "unavailable"),
        (2003, "Can't connect", "unavailable"),
        (1045, "Access denied", "refused"),
        (1044, "", "refused"),
        (1049, "Unknown database", "refused"),
        (1054, "Unknown column", "refused"),
        (1129, "Host is blocked", "refused"),
        (1142, "", "refused"),
        (1153, "Got a packet bigger", "refused"),
        (2059, "", "refused"),
        (3159, "", "refused"),
        (4151, "", "refused"),
    ],
)
def test_numbers_of_mysql(number: int, text: str, expected: str) -> None:
    assert meaning(of_mysql(number, text)) == expected


def test_a_missing_table_of_mysql_is_refused() -> None:
    assert meaning(of_mysql(1146, "", "ProgrammingError")) == "refused"


def test_an_answer_that_is_none_has_come_on_a_stale_connection() -> None:
    import sqlalchemy.exc

    said = Exception("Packet sequence number wrong - got 7 expected 1")
    assert meaning(sqlalchemy.exc.InternalError("SELECT", {}, said)) == "stale"


def test_a_certificate_that_is_not_trusted_is_refused() -> None:
    import ssl

    error = of_mysql(2003, "Can't connect ([SSL: CERTIFICATE_VERIFY_FAILED])")
    error.orig.original_exception = ssl.SSLCertVerificationError()
    assert meaning(error) == "refused"


@pytest.mark.parametrize(
    ("state", "kind", "expected"),
    [
        ("25006", "InternalError", "stale"),
        *((state, "OperationalError", "unavailable") for state in ("57P01", "57P03", "57014")),
        *((state, "OperationalError", "unavailable") for state in ("53100", "53300", "08006")),
        *((state, "OperationalError", "unavailable") for state in ("40001", "40P01", "55P03")),
        ("58030", "OperationalError", "unavailable"),
        ("25P03", "InternalError", "unavailable"),
        ("42501", "ProgrammingError", "refused"),
        ("42P01", "ProgrammingError", "refused"),
        ("42703", "ProgrammingError", "refused"),
        ("26000", "ProgrammingError", "refused"),
        ("3D000", "OperationalError", "refused"),
    ],
)
def test_sqlstates_of_postgresql(state: str, kind: str, expected: str) -> None:
    assert meaning(of_postgresql(state, kind)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('password authentication failed for user "ada"', "refused"),
        ('role "ada" does not exist', "refused"),
        ('role "ada" is not permitted to log in', "refused"),
        ('database "shop" does not exist', "refused"),
        ('database "shop" is not currently accepting connections', "refused"),
        ('no pg_hba.conf entry for host "10.0.0.1"', "refused"),
        ('permission denied for database "shop"', "refused"),
        ("no such database: shop", "refused"),
        ("the database system is starting up", "unavailable"),
        ("the database system is not yet accepting connections", "unavailable"),
        ("sorry, too many clients already", "unavailable"),
        ("query_wait_timeout", "unavailable"),
        # A name can be any words.
        ('too many connections for database "no such user"', "unavailable"),
        ("Datenbank »shop« existiert nicht", "unavailable"),
    ],
)
def test_what_postgresql_says_to_a_login(text: str, expected: str) -> None:
    assert meaning(at_login(text)) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *((code, "unavailable") for code in (5, 6, 7, 10, 13, 15)),
        (5 | 2 << 8, "unavailable"),  # SQLITE_BUSY_SNAPSHOT
        (8 | 4 << 8, "stale"),  # SQLITE_READONLY_DBMOVED
        *((code, "refused") for code in (1, 3, 8, 11, 14, 23, 26)),
    ],
)
def test_results_of_sqlite(code: int, expected: str) -> None:
    import sqlalchemy.exc

    said: Any = Exception("what it says")
    said.sqlite_errorcode = code
    assert meaning(sqlalchemy.exc.OperationalError("SELECT", {}, said)) == expected


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_deadlock_of_postgresql_is_known_as_one(state: str) -> None:
    from flask_serverside.stores.sqlalchemy import faults

    assert faults.broke_deadlock(of_postgresql(state))
    assert not faults.broke_deadlock(of_postgresql("55P03"))
