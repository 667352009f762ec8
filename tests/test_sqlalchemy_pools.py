"""The connections of a SQL store: a pool of its own, like the application's; its options."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backends import PATIENCE
from flask import Flask
from servers import Server

from flask_serverside import ConfigurationError
from flask_serverside import Session
from flask_serverside import StoreUnavailable
from flask_serverside.testing import at_once
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

pytestmark = [pytest.mark.group("sql"), pytest.mark.alone]


def make_store(database: Any, **options: Any) -> Any:
    from flask_serverside.stores.sqlalchemy import SQLAlchemyStore

    return SQLAlchemyStore(database, **{"timeout": PATIENCE, **options})


# -- beside the application's engine -------------------------------------------------------


def test_a_pool_of_our_own_connects_as_the_engine_does(server: Callable[[str], Server]) -> None:
    import sqlalchemy as sa

    real: Any = server("postgresql")
    schema = f"schema_{secrets.token_hex(4)}"
    where = {"host": "127.0.0.1", "port": real.port, "dbname": "postgres"}
    engine = sa.create_engine("postgresql+psycopg://nobody@nowhere/", connect_args=where)

    @sa.event.listens_for(engine, "do_connect")
    def token(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["user"] = "postgres"

    @sa.event.listens_for(engine, "connect")
    def search(connection: Any, record: Any) -> None:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        connection.commit()
        connection.execute(f"SET search_path = {schema}")

    store = make_store(engine)
    record = new_record(store)
    assert store.create(record)
    assert store._engine.pool is not engine.pool
    with engine.connect() as connection:
        connection.rollback()
        found = connection.exec_driver_sql(f"SELECT handle FROM {schema}.sessions").scalars()
        assert [*found] == [record.handle]
        # The application's own connections are as they were.
        assert type(connection.connection.dbapi_connection).__name__ == "Connection"
        assert connection.connection.dbapi_connection.prepare_threshold == 5
        assert not connection.connection.dbapi_connection.autocommit
        connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
        connection.commit()
    store.close()
    engine.dispose()


def test_the_store_waits_for_a_connection_of_its_own_within_the_limit(sql_url: str) -> None:
    store = make_store(sql_url, engine_options={"pool_size": 1, "max_overflow": 0})
    store.ping()
    store.timeout = 0.5
    began = time.monotonic()
    with store._connections.one(), pytest.raises(StoreUnavailable, match="in use"):
        at_once(1, lambda _: store.ping())
    assert time.monotonic() - began < 0.8
    store.ping()
    store.close()


# -- options -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("mysql+pymysql://u:s3cret@h/d?connect_timeout=soon", {}, ["connect_timeout", "soon"]),
        ("mysql+pymysql://u:s3cret@h/d?conect_timeout=3", {}, ["conect_timeout"]),
        ("mysql+pymysql://u:s3cret@h/d?charset=latin1", {}, ["charset", "utf8mb4"]),
        ("mysql+pymysql://u:s3cret@h/d?charset=utf9", {}, ["charset", "utf8mb4"]),
        ("mysql+pymysql://u:s3cret@h/d?ssl_disabled=perhaps", {}, ["ssl_disabled", "true"]),
        ("mysql+pymysql://u:s3cret@h/d?ssl_ca=/no/such/file", {}, ["No such file"]),
        ("postgresql+psycopg://u:s3cret@h/d?connect_timeout=soon", {}, ["connect_timeout"]),
        ("postgresql+psycopg://u:s3cret@h/d?conect_timeout=3", {}, ["conect_timeout"]),
        ("postgresql+psycopg://u:s3cret@h/d?sslmode=on", {}, ["sslmode", "require"]),
        ("postgresql+psycopg://u:s3cret@h/d?prepare_threshold=x", {}, ["prepare_threshold"]),
        ("sqlite:////tmp/x.sqlite?timeout=soon", {}, ["soon"]),
        ("sqlite:////tmp/x.sqlite", {"connect_args": {"time": 3}}, ["time"]),
        ("sqlite:////tmp/x.sqlite", {"pool_sise": 3}, ["SESSION_SQLALCHEMY_OPTIONS", "sise"]),
        ("sqlite:////tmp/x.sqlite", {"connect_args": 3}, ["connect_args", "a dict"]),
        ("sqlite:////tmp/x.sqlite", {"pool_size": "3"}, ["pool_size", "a whole number"]),
        ("sqlite:////tmp/x.sqlite", "pool_size=3", ["SESSION_SQLALCHEMY_OPTIONS", "a dict"]),
        (
            "sqlite:////tmp/x.sqlite",
            {"isolation_level": "SERIALIZABLE"},
            ["isolation_level", "AUTOCOMMIT"],
        ),
        (
            "mysql+pymysql://u@h/d",
            {"connect_args": {"passwd": "s3cret", "conect_timeout": 3}},
            ["conect_timeout"],
        ),
    ],
)
def test_options_that_cannot_work_are_named_at_start_up(
    url: str, options: Any, said: list[str]
) -> None:
    app = Flask("tests")
    app.config.update(
        SECRET_KEY="test",
        SESSION_TYPE="sql",
        SESSION_SQLALCHEMY=url,
        SESSION_SQLALCHEMY_OPTIONS=options,
    )
    with pytest.raises(ConfigurationError) as raised:
        Session(app)
    text = str(raised.value)
    assert text.startswith("SESSION_SQLALCHEMY")
    assert [part for part in said if part not in text] == []
    assert "s3cret" not in text


@pytest.mark.parametrize(
    "url",
    [
        "mysql+pymysql://u@h/d?connect_timeout=3&read_timeout=0.5&autocommit=true&charset=utf8",
        "mysql+pymysql://u@h/d?ssl_disabled=true&client_flag=0&init_command=SET+x",
        "postgresql+psycopg://u@h/d?connect_timeout=3&prepare_threshold=5&sslmode=require",
        "postgresql+psycopg://u@/d?host=a:1&host=b:2&target_session_attrs=read-write",
        "postgresql+psycopg://u@h/d?application_name=1&options=-c%20statement_timeout%3D1000",
        "sqlite:////tmp/x.sqlite?timeout=3&check_same_thread=false",
        "sqlite:///file:/tmp/x.sqlite?mode=ro&uri=true",
    ],
)
def test_options_that_can_work_are_taken(url: str) -> None:
    make_store(url).close()


def test_numbers_in_a_url_are_numbers(server: Callable[[str], Server]) -> None:
    maria: Any = server("mariadb")
    store = make_store(f"{maria.url}?read_timeout=0.3&autocommit=true&client_flag=0")
    store.ping()
    with store._connections.one() as connection:
        assert connection.connection.dbapi_connection._read_timeout == 0.3
    store.close()
    postgres: Any = server("postgresql")
    store = make_store(f"{postgres.url}?prepare_threshold=3&connect_timeout=3")
    store.ping()
    with store._connections.one() as connection:
        assert connection.connection.dbapi_connection.prepare_threshold == 3
    store.close()


@pytest.mark.parametrize("given", ["url", "engine"])
def test_nothing_is_prepared_unless_it_is_asked_for(
    server: Callable[[str], Server], given: str
) -> None:
    import sqlalchemy as sa

    url = server("postgresql").url  # type: ignore[attr-defined]
    engine = sa.create_engine(url)
    store = make_store(url if given == "url" else engine)
    record = new_record(store)
    store.create(record)
    for number in range(20):
        record = store.replace(saved_again(record, b"%d" % number))
    with store._connections.one() as connection:
        prepared = "SELECT count(*) FROM pg_prepared_statements"
        assert connection.exec_driver_sql(prepared).scalar() == 0
    store.close()
    engine.dispose()


def test_options_of_a_pool_are_the_stores_beside_an_engine(sql_url: str) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(sql_url)
    store = make_store(engine, engine_options={"pool_size": 2, "max_overflow": 1})
    store.ping()
    assert store._engine.pool.size() == 2
    store.close()
    with pytest.raises(ConfigurationError, match=r"OPTIONS.*pool_size.*Give connect_args"):
        make_store(engine, engine_options={"connect_args": {"timeout": 1}})
    engine.dispose()


def test_options_go_to_the_driver(sql_url: str) -> None:
    args: dict[str, Any] = {"check_same_thread": False}
    if sql_url.startswith("postgresql"):
        args = {"application_name": "sessions of the shop"}
    elif sql_url.startswith("mysql"):
        args = {"init_command": "SET @shop = 1"}
    store = make_store(sql_url, engine_options={"connect_args": args, "pool_size": 2})
    store.ping()
    assert store._engine.pool.size() == 2
    with store._connections.one() as connection:
        if sql_url.startswith("postgresql"):
            said = connection.exec_driver_sql("SHOW application_name").scalar()
            assert said == "sessions of the shop"
        elif sql_url.startswith("mysql"):
            assert connection.exec_driver_sql("SELECT @shop").scalar() == 1
    store.close()


@pytest.mark.parametrize("given", ["url", "engine"])
@pytest.mark.parametrize("query", ["", "?charset=utf8", "?charset=utf8mb3"])
def test_subjects_lose_no_letters(
    server: Callable[[str], Server], query: str, given: str
) -> None:
    import sqlalchemy as sa

    url = server("mariadb").url + query  # type: ignore[attr-defined]
    engine = sa.create_engine(url)
    store = make_store(url if given == "url" else engine)
    subject = f"🦊 {secrets.token_hex(8)} 𐍈"
    record = new_record(store, subject=subject)
    assert store.create(record)
    assert store.load(record.handle) == record
    assert [entry.record.subject for entry in store.entries(subject)] == [subject]
    assert store.count(subject) == 1
    assert len([*store.end_all(subject)]) == 1
    store.close()
    engine.dispose()


# -- processes -----------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["url", "engine"])
def test_a_child_uses_no_connection_and_no_lock_of_its_parent(
    sql_url: str, given: str, tmp_path: Path
) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(sql_url)
    store = make_store(sql_url if given == "url" else engine)
    record = new_record(store)
    store.create(record)
    with store._connections.one() as connection:
        mine = number_of(connection)
    # As if other threads were at it: connecting, and each holding a connection.
    held = [store._connections.one() for _ in range(5)]
    for one in held:
        one.__enter__()
    store._preparing.acquire()
    child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BaseException):
            assert store.load(record.handle) == record
            with store._connections.one() as connection:
                assert number_of(connection) is None or number_of(connection) != mine
            status = 0
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store._preparing.release()
    for one in held:
        one.__exit__(None, None, None)
    assert store.load(record.handle) == record
    with store._connections.one() as connection:
        if not given:  # whose pool may lend another
            assert number_of(connection) == mine
    store.close()
    engine.dispose()


def number_of(connection: Any) -> Any:
    """Which of the server's connections this is."""
    ask = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
    statement = ask.get(connection.dialect.name)
    return statement and connection.exec_driver_sql(statement).scalar()
