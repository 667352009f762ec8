"""What the errors of SQL databases mean: by the number or SQLSTATE that the server gives, not
by the class of the exception. PyMySQL files nearly all under one.
"""

from __future__ import annotations

import re
from ssl import SSLCertVerificationError
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import InterfaceError
from sqlalchemy.exc import InternalError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..operations import Fault

#: MariaDB and MySQL: ER_LOCK_DEADLOCK, ER_CHECKREAD; SQLSTATEs of PostgreSQL: a deadlock, a
#: transaction that cannot be put into an order.
_DEADLOCKS = {1213, 1020, "40P01", "40001"}

#: The server takes no writes any more: a standby, a session that was told so (25006, 1792),
#: InnoDB (1036, 1836, 1874; 1005 and 1015 say which error of the file system). Or SQLite's file
#: was replaced by another.
_READ_ONLY = {"25006", 1792, 1836, 1874, 1036, "sqlite 1032"}
#: ER_OPTION_PREVENTS_STATEMENT: by which option, its text says. Errors of files: by which one.
_READ_ONLY_IF = {
    1290: re.compile(r"(?i)(super[-_])?read[-_]only"),
    1005: re.compile(r"errno: 165"),
    1015: re.compile(r"errno: 165"),
}
#: The server is going, or has lost us, or takes nothing at all: shutdown, KILL, idle for too
#: long, the network, a Galera node that is not in step, offline mode.
_GOING = {1053, 1927, 4031, 1158, 1159, 1160, 1161, 1184, 1047, 3032}

# MariaDB and MySQL: what cannot pass by itself although it has the class of what can.
#: Who logs in, how, and from where. Those from 2000 on are what the client says.
_LOGIN_NUMBERS = {
    *(1045, 1129, 1130, 1156, 1251, 1524, 1698, 1820, 1862, 3118, 3159, 4151),
    *(2026, 2049, 2054, 2058, 2059, 2061),
}
#: Of a database, a table, a column, in general.
_RIGHTS_NUMBERS = {1044, 1142, 1143, 1227, 1370}
#: What ``init_command`` sets: a variable, a character set, a collation, a time zone.
_OPTION_NUMBERS = {1115, 1193, 1231, 1273, 1298}
#: And no database, none of that name, no such table or column, no default; too large; a key or
#: a row that does not fit; character sets that do not mix; a CHECK of MySQL and of MariaDB.
_FINAL = {
    *_LOGIN_NUMBERS,
    *_RIGHTS_NUMBERS,
    *_OPTION_NUMBERS,
    *(1046, 1049, 1051, 1054, 1071, 1118, 1146, 1153, 1267, 1364, 3819, 4025),
}

#: A row of that key is there.
_TAKEN = {"23505", 1022, 1062, 1169, 1586, "sqlite 1555", "sqlite 2067"}

#: PostgreSQL: connections, transactions that are rolled back, resources, the operator's
#: intervention, the system's failures.
_PASSING_CLASSES = {"08", "40", "53", "57", "58"}
#: A lock or an object that is in use, a transaction or a session that took too long.
_PASSING = {"55P03", "55006", "25P03", "25P04"}
#: SQLite: busy, locked, out of memory, input or output failed, disk full, WAL in use.
_PASSING_RESULTS = {5, 6, 7, 10, 13, 15}

#: What a server says to a login that it refuses, in English: libpq keeps the SQLSTATE to
#: itself. Names, which may hold any words, are taken out before.
_LOGIN = {
    re.compile(pattern): code
    for pattern, code in {
        r"authentication failed|no password supplied|no such user|wrong password": "28P01",
        r'role "" (does not exist|is not permitted)|pg_hba\.conf': "28000",
        r"server does not support SSL|certificate verify failed": "28000",
        r'database "" (does not exist|is not currently accepting)|no such database': "3D000",
        r"permission denied": "42501",
        r"unrecognized configuration parameter|unsupported startup parameter": "42704",
        r"invalid value for parameter|invalid connection option|invalid sslmode": "22023",
    }.items()
}
_NAME = re.compile(r'"[^"]*"')

_ADVICE: dict[str, set[int | str]] = {
    "Check the user, the password and TLS in SESSION_SQLALCHEMY.": {
        *_LOGIN_NUMBERS,
        *("28P01", "28000"),
    },
    "There is no such database for us: create it, or correct SESSION_SQLALCHEMY.": {
        *("3D000", 1046, 1049),
    },
    "Give the database user the rights that docs/backends lists under Grants.": {
        *_RIGHTS_NUMBERS,
        "42501",
    },
    "Create the table: set SESSION_SQLALCHEMY_CREATE to true, or run your migration.": {
        *("42P01", "3F000", 1146, 1051, "no such table"),
    },
    "Compare the table with sessions_table(): run the migration that is missing.": {
        *("42703", "42804", "23502", "23503", "23514", 1048, 1054, 1267, 1364, 1452),
        *(3819, 4025),
        *("sqlite 19", "no such column", "has no column"),
    },
    "Correct the options in SESSION_SQLALCHEMY.": {
        *("42704", "22023"),
        *_OPTION_NUMBERS,
    },
    "The pooler in between does not know prepared statements: do not set prepare_threshold.": {
        *("26000", "42P05"),
    },
    "The file or its folder cannot be written by this process: correct their owner.": {
        *("sqlite 8", "sqlite 14", "sqlite 3"),
    },
    "This is no SQLite database, or a damaged one: restore it, or remove it to begin anew.": {
        *("sqlite 11", "sqlite 26"),
    },
    "Raise max_allowed_packet of the server, or lower SESSION_MAX_SIZE.": {1153},
}
_ADVICE_BY_CODE = {code: advice for advice, codes in _ADVICE.items() for code in codes}
_SQLITE_SAYS = ("no such table", "no such column", "has no column")


def meaning(error: Exception) -> Fault:
    if isinstance(error, PoolTimeout):
        return Fault.UNAVAILABLE
    if not isinstance(error, DBAPIError):
        return Fault.REFUSED
    if error.connection_invalidated or read_only(error) or code_of(error) in _GOING:
        return Fault.STALE
    code = code_of(error)
    if code is None and isinstance(error, InternalError):  # an answer that is none
        return Fault.STALE
    if code is None or isinstance(code, int):
        could = isinstance(error, OperationalError | InterfaceError | InternalError)
        passing = could and code not in _FINAL and not _distrusted(error)
    elif code.startswith("sqlite"):
        passing = _result(code) in _PASSING_RESULTS
    else:
        passing = code in _PASSING or code[:2] in _PASSING_CLASSES
    return Fault.UNAVAILABLE if passing else Fault.REFUSED


def read_only(error: DBAPIError) -> bool:
    """Whether the server on this connection takes no writes: it was demoted, say."""
    code = code_of(error)
    said = _READ_ONLY_IF.get(code) if isinstance(code, int) else None
    return code in _READ_ONLY or (said is not None and bool(said.search(str(error.orig))))


def _distrusted(error: DBAPIError) -> bool:
    """PyMySQL has one number for all that keeps it from connecting."""
    return isinstance(getattr(error.orig, "original_exception", None), SSLCertVerificationError)


def taken(error: DBAPIError) -> bool:
    """Whether there is such a row, where the driver tells it from other rules of the table."""
    code = code_of(error)
    return code is None or code in _TAKEN


def _result(code: str) -> int:
    """SQLite's, without what it says in more detail."""
    return int(code.split()[1]) & 0xFF


def advice(error: Exception) -> str:
    if not isinstance(error, DBAPIError):
        return ""
    code = code_of(error)
    if isinstance(code, str) and code.startswith("sqlite"):
        said = str(error.orig)
        code = next((text for text in _SQLITE_SAYS if text in said), f"sqlite {_result(code)}")
    elif _distrusted(error):
        code = "28000"
    return "" if code is None else _ADVICE_BY_CODE.get(code, "")


def broke_deadlock(error: DBAPIError) -> bool:
    """Whether the database has chosen this statement to break a deadlock: then nothing has been
    done.
    """
    return code_of(error) in _DEADLOCKS


def code_of(error: DBAPIError) -> int | str | None:
    """MySQL's number, a SQLSTATE, or ``sqlite`` and its extended result code; ``None``: the
    driver gives none.
    """
    said: Any = error.orig
    state = getattr(said, "sqlstate", None) or getattr(said, "pgcode", None)
    number = said.args[0] if getattr(said, "args", None) else None
    if isinstance(number, int):  # PyMySQL's also have a SQLSTATE, which tells less
        return number or None
    if state:
        return str(state)
    if (result := getattr(said, "sqlite_errorcode", None)) is not None:
        return f"sqlite {result}"
    text = _NAME.sub('""', str(said))
    return next((code for phrase, code in _LOGIN.items() if phrase.search(text)), None)
