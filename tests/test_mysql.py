"""What is special about MySQL, and MariaDB as far as it has it from there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from backends import BACKENDS
from backends import Running
from conftest import get_running
from test_sqlalchemy import make_store

from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

pytestmark = [pytest.mark.group("sql"), pytest.mark.alone]

RELATED = [backend for backend in BACKENDS if backend.name in ("mariadb", "mysql")]
ITSELF = [backend for backend in RELATED if backend.name == "mysql"]


@pytest.fixture(params=RELATED, ids=lambda backend: backend.name)
def related(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    return get_running(request, tmp_path)


@pytest.fixture(params=ITSELF, ids=lambda backend: backend.name)
def mysql(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    return get_running(request, tmp_path)


def test_a_touch_to_the_times_that_stand_has_found_the_session(related: Running) -> None:
    import pymysql
    import sqlalchemy as sa

    url = sa.make_url(related.config["SESSION_SQLALCHEMY"])
    where = {"host": url.host, "port": url.port, "user": url.username, "database": "test"}
    # Then the server counts the rows that have changed: who asks for others is SQLAlchemy.
    engine = sa.create_engine("mysql+pymysql://", creator=lambda: pymysql.connect(**where))
    store = make_store(engine, table="counted")
    record = new_record(store)
    store.create(record)
    assert store.touch(record)
    assert not store.touch(record._replace(version=2))
    store.delete(record.handle)
    assert not store.touch(record)
    engine.dispose()


def test_what_a_password_of_mysql_takes_is_named_where_it_is_missing(
    mysql: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlalchemy as sa

    url = sa.make_url(mysql.config["SESSION_SQLALCHEMY"])
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE USER IF NOT EXISTS app IDENTIFIED BY 'secret'")
        connection.exec_driver_sql("GRANT ALL ON test.* TO app")
        connection.exec_driver_sql("FLUSH PRIVILEGES")  # and forget who has logged in before
    engine.dispose()
    monkeypatch.setattr("pymysql._auth._have_cryptography", False)
    login = url.set(username="app", password="secret", query={"ssl_disabled": "true"})
    store = make_store(login)
    with pytest.raises(StoreError, match=r"pip install 'pymysql\[rsa\]'") as raised:
        store.load("0" * 64)
    assert not isinstance(raised.value, StoreUnavailable)
    assert "secret" not in str(raised.value)
    monkeypatch.undo()
    assert store.load("0" * 64) is None
    store.close()


def test_the_server_gives_up_a_lock_when_the_store_does(related: Running) -> None:
    """Else what was answered as a failure would take effect later, and connections pile up."""
    import sqlalchemy as sa

    url = related.config["SESSION_SQLALCHEMY"]
    store = make_store(url, table="locked", timeout=1.0)
    record = new_record(store)
    assert store.create(record)
    other = sa.create_engine(url)
    with other.connect() as connection:
        connection.execute(sa.text("SELECT * FROM locked FOR UPDATE"))
        with pytest.raises(StoreUnavailable):
            store.replace(saved_again(record, b"late"))
        deadline = time.monotonic() + 5
        waiting = sa.text(
            "SELECT count(*) FROM information_schema.processlist WHERE info LIKE :q"
        )
        while connection.scalar(waiting, {"q": "UPDATE locked%"}):
            assert time.monotonic() < deadline
    assert store.load(record.handle) == record
    store.close()
    other.dispose()
