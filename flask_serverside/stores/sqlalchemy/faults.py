"""What the errors of SQL databases mean: by the number or SQLSTATE that the server gives, not
by the class of the exception. PyMySQL files nearly all under one.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import InterfaceError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..operations import Fault

#: MariaDB and MySQL: ER_LOCK_DEADLOCK, ER_CHECKREAD; SQLSTATEs of PostgreSQL: a deadlock, a
#: transaction that cannot be put into an order.
_DEADLOCKS = {1213, 1020, "40P01", "40001"}

#: The server takes no writes any more, or none from us: read-only (25006; 1792, 1836, 1874;
#: SQLite's file was replaced by another), a Galera node that is not in step, offline mode.
_DEMOTED = {"25006", 1792, 1836, 1874, 1047, 3032, "sqlite 1032"}
#: ER_OPTION_PREVENTS_STATEMENT: by which option, its text says.
_PREVENTED = 1290
_READ_ONLY = re.compile(r"(?i)(super[-_])?read[-_]only")

#: PostgreSQL: connections, transactions that are rolled back, resources, the operator's
#: intervention, the system's failures.
_PASSING_CLASSES = {"08", "40", "53", "57", "58"}
#: A lock or an object that is in use, a transaction or a session that took too long.
_PASSING = {"55P03", "55006", "25P03", "25P04"}
#: MariaDB and MySQL. Memory, disk: 1021 1030 1037 1041 1114. Connections, of all or of a user:
#: 1040 1203 1226. Shutdown, broken connections, queries that were ended: 1053 1152 1158 1159
#: 1160 1161 1184 1317 1927 1969 3024. Locks and deadlocks: 1020 1205 1206 1213 1223 1614.
#: Files and tables that are busy: 1015 1180 1412 1615 1637. Replication groups and clusters
#: that are not ready: 1297 3098 3100 3101.
_PASSING_NUMBERS = {
    *(1015, 1020, 1021, 1030, 1037, 1040, 1041, 1053, 1114, 1152, 1158, 1159, 1160, 1161),
    *(1180, 1184, 1203, 1205, 1206, 1213, 1223, 1226, 1297, 1317, 1412, 1614, 1615, 1637),
    *(1927, 1969, 3024, 3098, 3100, 3101, 4031),
}
#: Those of a client are all of 2000 to 2999, but for a way to log in that it does not know.
_CLIENT = range(2000, 3000)
_LOGIN_UNKNOWN = {2049, 2054, 2058, 2059, 2061}
#: SQLite: busy, locked, out of memory, input or output failed, disk full, WAL in use.
_PASSING_RESULTS = {5, 6, 7, 10, 13, 15}

#: What a server says to a login that it refuses: libpq keeps the SQLSTATE of that to itself.
_LOGIN = {
    re.compile(pattern): code
    for pattern, code in {
        r"password authentication failed|SASL authentication failed": "28P01",
        r"no password supplied|no such user|wrong password": "28P01",
        r'role ".*" (does not exist|is not permitted)|no pg_hba\.conf entry': "28000",
        r"authentication failed for user|not authenticated": "28000",
        r'database ".*" does not exist|no such database': "3D000",
        r"permission denied for database": "42501",
        r"invalid connection option|invalid sslmode|root certificate file": "F0000",
        r"server does not support SSL|certificate verify failed": "28000",
    }.items()
}

_ADVICE: dict[str, set[int | str]] = {
    "Check the user and the password in SESSION_SQLALCHEMY.": {
        *_LOGIN_UNKNOWN,
        *("28P01", "28000", 1045, 1698, 1862, 1820, 3118, 4151),
    },
    "There is no such database: create it, or correct its name in SESSION_SQLALCHEMY.": {
        *("3D000", 1049),
    },
    "Give the database user the rights that docs/backends lists under Grants.": {
        *("42501", 1044, 1142, 1143, 1227, 1370),
    },
    "Create the table: set SESSION_SQLALCHEMY_CREATE to true, or run your migration.": {
        *("42P01", "3F000", 1146, 1051, "no such table"),
    },
    "Compare the table with sessions_table(): run the migration that is missing.": {
        *("42703", "42804", 1054, 1364, 1366, "no such column", "has no column"),
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


def meaning(error: Exception) -> Fault:
    if isinstance(error, PoolTimeout):
        return Fault.UNAVAILABLE
    if not isinstance(error, DBAPIError):
        return Fault.REFUSED
    code = code_of(error)
    if code in _DEMOTED or (code == _PREVENTED and _READ_ONLY.search(str(error.orig))):
        return Fault.STALE
    if error.connection_invalidated:
        return Fault.STALE
    if code is None:
        passing = isinstance(error, OperationalError | InterfaceError)
    else:
        passing = _passes(code)
    return Fault.UNAVAILABLE if passing else Fault.REFUSED


def advice(error: Exception) -> str:
    if not isinstance(error, DBAPIError):
        return ""
    code = code_of(error)
    if isinstance(code, str) and code.startswith("sqlite"):
        known = (text for said, text in _ADVICE_BY_CODE.items() if str(said) in str(error.orig))
        primary = f"sqlite {int(code.split()[1]) & 0xFF}"
        return next(known, _ADVICE_BY_CODE.get(primary, ""))
    return _ADVICE_BY_CODE.get(code, "") if code is not None else ""


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
    return next((code for said_so, code in _LOGIN.items() if said_so.search(str(said))), None)


def _passes(code: int | str) -> bool:
    if isinstance(code, int):
        return code in _PASSING_NUMBERS or (code in _CLIENT and code not in _LOGIN_UNKNOWN)
    if code.startswith("sqlite"):
        return int(code.split()[1]) & 0xFF in _PASSING_RESULTS
    return code in _PASSING or code[:2] in _PASSING_CLASSES
