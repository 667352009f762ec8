"""What a URL and ``SESSION_SQLALCHEMY_OPTIONS`` say: looked at when the application starts, as
far as the driver lets one know without connecting.
"""

from __future__ import annotations

import configparser
import importlib
import inspect
import math
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ...errors import ConfigurationError

KEY = "SESSION_SQLALCHEMY"
OPTIONS = "SESSION_SQLALCHEMY_OPTIONS"
#: What the store relies on.
FIXED = {
    "isolation_level": "AUTOCOMMIT",
    "skip_autocommit_rollback": True,
    "pool_reset_on_return": None,
}
#: Of an engine's options those that a pool beside it can have.
_OF_A_POOL = {"pool_size", "max_overflow", "pool_recycle", "pool_pre_ping", "pool_use_lifo"}
_OF_A_POOL |= {"echo", "echo_pool", "hide_parameters", "logging_name", "pool_logging_name"}

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}


def checked(options: Any, *, pool_only: bool) -> dict[str, Any]:
    """:param pool_only: whether there is an engine, which has all that concerns connecting."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigurationError(OPTIONS, options, "a dict of options for create_engine")
    for name, value in options.items():
        if name in FIXED and value != FIXED[name]:
            raise _wrong(name, value, f"{FIXED[name]!r}, which the store relies on")
        if pool_only and name not in _OF_A_POOL and name not in FIXED:
            allowed = f"only {', '.join(sorted(_OF_A_POOL))}, since {KEY} is an engine"
            raise ConfigurationError(
                OPTIONS, [*options], allowed, f"Give {name} to the engine."
            )
    for name in ("pool_size", "max_overflow"):
        value = options.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(name, value, "a whole number")
    arguments = options.get("connect_args", {})
    if not isinstance(arguments, Mapping):
        raise _wrong("connect_args", arguments, "a dict")
    return {**options, "connect_args": dict(arguments)} if arguments else dict(options)


def _wrong(name: str, value: object, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"{OPTIONS}[{name!r}]", value, allowed)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is no number")
    return number


def _truth(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError(f"{text!r} is neither true nor false")


def _number_or_none(text: str) -> int | float | None:
    return None if text.lower() == "none" else _number(text)


def _kinds(convert: Callable[[str], Any], *names: str) -> dict[str, Callable[[str], Any]]:
    return dict.fromkeys(names, convert)


_LIBPQ = _kinds(
    _number,
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval"),
    *("keepalives_count", "tcp_user_timeout"),
)
_MYSQL = {
    **_kinds(_number, "connect_timeout", "read_timeout", "write_timeout"),
    **_kinds(_number, "client_flag", "max_allowed_packet"),
    **_kinds(_truth, "autocommit", "local_infile", "use_unicode", "compress"),
    **_kinds(_truth, "ssl_disabled", "ssl_verify_cert", "ssl_verify_identity"),
}
#: What is not text in a URL's query, of each driver.
_KINDS: dict[str, dict[str, Callable[[str], Any]]] = {
    "psycopg": {
        **_LIBPQ,
        **_kinds(_number_or_none, "prepare_threshold"),
        **_kinds(_truth, "autocommit"),
    },
    "psycopg2": _LIBPQ,
    "pymysql": _MYSQL,
    "mysqldb": _MYSQL,
}
#: Words of libpq that it only looks at when it connects.
_WORDS = {
    "sslmode": {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
    "target_session_attrs": {
        *("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    },
}


def converted(url: sa.URL, driver: str) -> tuple[sa.URL, dict[str, Any]]:
    """The URL without what is no text in its query, and that as what it is."""
    kinds, found = _KINDS.get(driver, {}), {}
    for name, convert in kinds.items():
        text = url.query.get(name)
        if isinstance(text, str):
            try:
                found[name] = convert(text)
            except ValueError as error:
                kind = "true or false" if convert is _truth else "a number"
                raise ConfigurationError(f"{KEY} ({name})", text, kind) from error
    return url.difference_update_query(found), found


def try_out(dialect: sa.Dialect, url: sa.URL, connect_args: Mapping[str, Any]) -> None:
    """Have the driver look at the parameters, as far as it can without connecting.

    :raises ConfigurationError: it does not take them.
    """
    look = _LOOKS.get(dialect.driver)
    if look is None:
        return
    refused: tuple[type[Exception], ...] = (TypeError, ValueError, LookupError, OSError)
    refused += (AttributeError, *_errors_of(dialect))
    try:
        arguments, parameters = dialect.create_connect_args(url)
        look(dialect, arguments, {**parameters, **connect_args})
    except ConfigurationError:
        raise
    except configparser.Error as error:  # which quotes the file, and there may be a password
        allowed = f"a file of options that {dialect.driver} can read ({type(error).__name__})"
        raise ConfigurationError(f"{KEY} (read_default_file)", str(url), allowed) from None
    except refused as error:
        said = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else error
        raise ConfigurationError(
            f"{KEY} or {OPTIONS}", str(url), f"options that {dialect.driver} takes", f"{said}"
        ) from error


def _errors_of(dialect: Any) -> tuple[type[Exception], ...]:
    return (dialect.dbapi.Error,) if dialect.dbapi is not None else ()


def _look_pymysql(dialect: Any, arguments: Any, parameters: dict[str, Any]) -> None:
    charset = str(parameters.get("charset", "utf8mb4"))
    if charset not in ("utf8", "utf8mb3", "utf8mb4"):
        raise ConfigurationError(
            f"{KEY} (charset)", charset, "utf8mb4: others lack letters that a subject may have"
        )
    dialect.dbapi.connections.Connection(*arguments, **{**parameters, "defer_connect": True})


def _look_psycopg(dialect: Any, arguments: Any, parameters: dict[str, Any]) -> None:
    conninfo = importlib.import_module("psycopg.conninfo")
    own = inspect.signature(dialect.dbapi.Connection.connect).parameters
    theirs = {name: value for name, value in parameters.items() if name not in own}
    _look_libpq(theirs)
    conninfo.make_conninfo(*arguments, **theirs)


def _look_psycopg2(dialect: Any, arguments: Any, parameters: dict[str, Any]) -> None:
    extensions = importlib.import_module("psycopg2.extensions")
    own = {"connection_factory", "cursor_factory", "async", "async_"}
    theirs = {name: value for name, value in parameters.items() if name not in own}
    _look_libpq(theirs)
    extensions.make_dsn(*arguments, **theirs)


def _look_libpq(parameters: Mapping[str, Any]) -> None:
    for name, words in _WORDS.items():
        if str(parameters.get(name, next(iter(words)))) not in words:
            raise ConfigurationError(
                f"{KEY} ({name})", parameters[name], f"one of {', '.join(sorted(words))}"
            )
    for name in _LIBPQ:
        if name in parameters:
            try:
                float(parameters[name])
            except (TypeError, ValueError) as error:
                raise ConfigurationError(
                    f"{KEY} ({name})", parameters[name], "a number"
                ) from error


def _look_pysqlite(dialect: Any, _: Any, parameters: dict[str, Any]) -> None:
    dialect.dbapi.connect(":memory:", **{**parameters, "uri": False}).close()


_LOOKS: dict[str, Callable[[Any, Any, dict[str, Any]], None]] = {
    "pymysql": _look_pymysql,
    "psycopg": _look_psycopg,
    "psycopg2": _look_psycopg2,
    "pysqlite": _look_pysqlite,
}
