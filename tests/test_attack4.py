"""What a SQL store does where the driver, the table or the caller do what they rarely do."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from servers import Server
from test_sqlalchemy_pools import make_store

from flask_serverside import ConfigurationError
from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

pytestmark = [pytest.mark.group("sql"), pytest.mark.alone]


class Interrupted(Exception):
    """As a signal's handler raises it: Celery's ``SoftTimeLimitExceeded`` is no
    ``BaseException`` either.
    """


def test_the_answer_to_a_statement_that_was_interrupted_is_not_taken_for_the_next_one(
    server: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pymysql

    store = make_store(
        server("mariadb").url,  # type: ignore[attr-defined]
        engine_options={"pool_size": 1, "max_overflow": 0},
    )
    record = new_record(store)
    assert store.create(record)
    stale = saved_again(saved_again(record, b"stale"), b"stale")

    def interrupt(*_: Any, **__: Any) -> None:
        raise Interrupted

    touched = record._replace(seen=record.seen + 1, expires=record.expires + 1)
    with monkeypatch.context() as between:
        between.setattr(pymysql.connections.Connection, "_read_query_result", interrupt)
        with pytest.raises(Interrupted):
            store.touch(touched)
    # Nobody has this version: without a new connection the touch's "one row" is the answer.
    assert store.replace(stale) is not stale
    store.close()


def test_a_connection_that_was_interrupted_while_it_waited_is_not_used_again(
    server: Callable[[str], Server],
) -> None:
    store = make_store(
        server("postgresql").url,  # type: ignore[attr-defined]
        engine_options={"pool_size": 1, "max_overflow": 0},
    )
    store.ping()
    with store._connections.one() as connection:
        driver: Any = connection.connection.dbapi_connection

        def interrupt(*_: Any, **__: Any) -> None:
            raise Interrupted

        driver.wait = lambda generator, *_, **__: (next(generator), interrupt())
    with pytest.raises(Interrupted):
        store.ping()
    store.ping()
    store.close()


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_a_table_that_takes_too_long_to_create_is_no_fault_of_ours(
    server: Callable[[str], Server], name: str
) -> None:
    """It was 500: the store asked on a broken connection whether the table is there."""
    import sqlalchemy as sa

    real: Any = server(name)
    proxy = Proxy(real.port)
    url = sa.make_url(real.url).set(port=proxy.port)
    store = make_store(url, timeout=1, table=f"late_{time.time_ns()}")

    def freeze(*_: Any, **__: Any) -> None:
        proxy.freeze()

    sa.event.listen(store.table.metadata, "before_create", freeze)
    with pytest.raises(StoreUnavailable):
        store.ping()
    store.close()
    proxy.close()


def test_a_table_that_refuses_a_session_does_not_claim_that_it_has_one(sql_url: str) -> None:
    import sqlalchemy as sa

    store = make_store(sql_url, table=f"checked_{time.time_ns()}", create=False)
    store.table.append_constraint(sa.CheckConstraint("version > 5", f"c_{time.time_ns()}"))
    engine = sa.create_engine(sql_url)
    store.table.metadata.create_all(engine)
    with pytest.raises(StoreError, match=r"sessions_table\(\)") as raised:
        store.create(new_record(store, subject="ada-lovelace"))
    assert not isinstance(raised.value, StoreUnavailable)
    assert "ada-lovelace" not in str(raised.value)
    store.table.metadata.drop_all(engine)
    engine.dispose()
    store.close()


@pytest.mark.parametrize("command", ["time_zone='No/Where'", "nothing=1", "sql_mode='no'"])
def test_an_init_command_that_mariadb_does_not_take_is_no_outage(
    server: Callable[[str], Server], command: str
) -> None:
    import sqlalchemy as sa

    url = sa.make_url(server("mariadb").url)  # type: ignore[attr-defined]
    store = make_store(url.update_query_dict({"init_command": f"SET {command}"}))
    with pytest.raises(StoreError, match="options") as raised:
        store.ping()
    assert not isinstance(raised.value, StoreUnavailable)
    store.close()


def test_a_server_that_waits_for_a_lock_is_told_that_nobody_waits_for_it(
    server: Callable[[str], Server],
) -> None:
    """It kept a process for each statement that was given up, until it had no more."""
    import sqlalchemy as sa

    url: str = server("postgresql").url  # type: ignore[attr-defined]
    store = make_store(url, timeout=1, table=f"locked_{time.time_ns()}")
    record = new_record(store)
    store.create(record)
    engine = sa.create_engine(url)
    with engine.begin() as other:
        other.execute(sa.select(store.table).with_for_update())
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                store.replace(saved_again(record, b"too late"))
            assert time.monotonic() - began < 1.3
        waiting = sa.text(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND query LIKE :q"
        )
        until = time.monotonic() + 5
        while other.scalar(waiting, {"q": f"UPDATE {store.table.name}%"}):
            assert time.monotonic() < until
    assert store.load(record.handle) == record
    store.table.drop(engine)
    engine.dispose()
    store.close()


def test_a_file_of_options_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.write_text("password = s3cret\n")
    with pytest.raises(ConfigurationError, match="read_default_file") as raised:
        make_store(f"mysql+pymysql://u@h/d?read_default_file={file}")
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_what_the_driver_trips_over_is_an_option_that_it_does_not_take() -> None:
    with pytest.raises(ConfigurationError, match="options that pymysql takes"):
        make_store("mysql+pymysql://u@h/d?conv=x")
