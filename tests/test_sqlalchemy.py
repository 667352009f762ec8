"""What is special about SQL databases."""

from __future__ import annotations

from datetime import datetime
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from backends import PATIENCE
from flask import Flask
from flask import session

from flask_serverside import ConfigurationError
from flask_serverside import SerializationError
from flask_serverside import Session
from flask_serverside import SessionTooLarge
from flask_serverside import StoreUnavailable
from flask_serverside.testing import at_once
from flask_serverside.testing import Clock
from flask_serverside.testing import DAY
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again
from flask_serverside.testing import StoreContract

pytestmark = pytest.mark.group("sql")


class TestGivenEngine(StoreContract):
    @pytest.fixture(autouse=True)
    def _engine(self, sql_url: str) -> Any:
        import sqlalchemy as sa

        self.engine = sa.create_engine(sql_url)
        yield
        self.engine.dispose()

    def make_store(self, **options: Any) -> Any:
        from flask_serverside.stores.sqlalchemy import SQLAlchemyStore

        options = {"timeout": PATIENCE, **options}
        return SQLAlchemyStore(self.engine, table="given_engine", **options)


def make_store(url: str, **options: Any) -> Any:
    from flask_serverside.stores.sqlalchemy import SQLAlchemyStore

    return SQLAlchemyStore(url, **options)


def test_a_row_can_be_read_by_a_person(sql_url: str) -> None:
    import sqlalchemy as sa

    store = make_store(sql_url)
    record = new_record(store, subject="ada")
    store.create(record)
    query = sa.text("SELECT subject, CAST(expires AS CHAR(26)) FROM sessions WHERE handle = :h")
    with store._engine.connect() as connection:
        subject, expires = connection.execute(query, {"h": record.handle}).one()
    assert subject == "ada"
    tomorrow = datetime.fromtimestamp(record.expires / 1000, UTC)
    assert expires.startswith(f"{tomorrow:%Y-%m-%d %H:%M}")
    store.close()


def test_many_workers_creating_the_table_at_once_all_succeed(sql_url: str) -> None:
    for turn in range(5):
        stores = [make_store(sql_url, table=f"race_{turn}") for _ in range(6)]
        records = [new_record(store) for store in stores]
        assert at_once(6, lambda n, s=stores, r=records: s[n].create(r[n])) == [True] * 6
        for store in stores:
            store.close()


def test_the_table_is_not_created_if_that_is_not_wanted(sql_url: str) -> None:
    import sqlalchemy as sa

    from flask_serverside import StoreError
    from flask_serverside.stores.sqlalchemy import sessions_table

    store = make_store(sql_url, table="by_alembic", create=False)
    with pytest.raises(StoreError):
        store.create(new_record(store))
    metadata = sa.MetaData()
    sessions_table(metadata, "by_alembic")
    engine = sa.create_engine(sql_url)
    metadata.create_all(engine)
    assert store.create(new_record(store))
    indexed = {tuple(i["column_names"]) for i in sa.inspect(engine).get_indexes("by_alembic")}
    assert indexed >= {("expires",), ("subject", "lifetime")}
    metadata.drop_all(engine)
    engine.dispose()
    store.close()


def test_purge_takes_what_has_expired_in_batches(sql_url: str) -> None:
    clock = Clock()
    store = make_store(sql_url, table="purged", clock=clock, purge_interval=0)
    store.PURGE_BATCH = 10
    alive = [new_record(store) for _ in range(5)]
    expired = [new_record(store, lifetime=1000) for _ in range(35)]
    for record in alive + expired:
        store.create(record)
    clock.advance(2)
    assert store.purge() == 35
    assert store.purge() == 0
    assert all(store.load(record.handle) for record in alive)
    store.purge()
    clock.advance(2 * DAY / 1000)
    assert store.purge() == 5
    store.close()


def test_a_write_purges_one_batch_an_interval(sql_url: str) -> None:
    clock = Clock()
    store = make_store(sql_url, table="purged_by_itself", clock=clock, purge_interval=100)
    store.PURGE_BATCH = 10
    batches = []
    purge_batch = store._purge_batch
    store._purge_batch = lambda: batches.append(purge_batch())
    for _ in range(25):
        store.create(new_record(store, lifetime=1000))
    assert batches == []
    clock.advance(151)
    for _ in range(5):
        store.create(new_record(store))
    assert batches == [10]
    clock.advance(151)
    store.create(new_record(store))
    assert batches == [10, 10]
    clock.advance(2 * DAY / 1000)
    store.purge()
    store.close()


def test_payloads_beyond_64_kb_are_kept_whole(sql_url: str) -> None:
    store = make_store(sql_url)
    record = new_record(store, bytes(range(256)) * 4000)
    store.create(record)
    assert store.load(record.handle).payload == record.payload
    with pytest.raises(SessionTooLarge):
        store.replace(saved_again(record, b"x" * 8_000_001))
    largest = saved_again(record, b"'" * 8_000_000)
    assert store.replace(largest) is largest
    assert store.load(record.handle).payload == largest.payload
    store.close()


@pytest.fixture
def flask_sqlalchemy(sql_url: str, tmp_path: Path) -> tuple[Flask, Any]:
    from flask_sqlalchemy import SQLAlchemy

    db = SQLAlchemy()
    app = Flask("tests")
    app.config.update(
        SECRET_KEY="test",
        TESTING=True,
        SQLALCHEMY_DATABASE_URI=sql_url,
        SQLALCHEMY_BINDS={"other": f"sqlite:///{tmp_path}/other.sqlite"},
        SESSION_TYPE="sqlalchemy",
        SESSION_SQLALCHEMY=db,
    )
    db.init_app(app)
    return app, db


def test_the_applications_own_database_session_is_never_touched(
    flask_sqlalchemy: tuple[Flask, Any],
) -> None:
    import sqlalchemy as sa

    app, db = flask_sqlalchemy
    Session(app)

    class Order(db.Model):  # type: ignore[name-defined,misc]
        id = sa.Column(sa.Integer, primary_key=True)

    @app.get("/pending")
    def pending() -> str:
        db.session.add(Order(id=1))
        session["a"] = session.get("a", 0) + 1
        session.save()  # type: ignore[attr-defined]
        assert list(db.session.new)
        return str(session["a"])

    with app.app_context():
        db.create_all()
    client = app.test_client()
    assert [client.get("/pending").text for _ in range(3)] == ["1", "2", "3"]
    with app.app_context():
        assert db.session.query(Order).count() == 0
        db.session.remove()  # its transaction would keep the table
        db.drop_all()
        for engine in db.engines.values():
            engine.dispose()


def test_the_bind_key_chooses_the_engine(flask_sqlalchemy: tuple[Flask, Any]) -> None:
    app, db = flask_sqlalchemy
    app.config["SESSION_SQLALCHEMY_BIND_KEY"] = "other"
    Session(app)
    store = app.extensions["flask_serverside"].store
    with app.app_context():
        store.create(new_record(store))
        assert "other.sqlite" in str(store._engine.url)
        for engine in db.engines.values():
            engine.dispose()


def test_a_bind_key_that_is_not_there_is_refused(flask_sqlalchemy: tuple[Flask, Any]) -> None:
    app, db = flask_sqlalchemy
    app.config["SESSION_SQLALCHEMY_BIND_KEY"] = "nowhere"
    Session(app)
    store = app.extensions["flask_serverside"].store
    with app.app_context():
        with pytest.raises(ConfigurationError, match=r"BIND_KEY = 'nowhere'.*'other'"):
            store.load("0" * 64)
        for engine in db.engines.values():
            engine.dispose()


def test_sqlite_in_the_instance_folder_is_the_default(tmp_path: Path) -> None:
    app = Flask("tests", instance_path=str(tmp_path / "instance"))
    app.config.update(SECRET_KEY="test", SESSION_TYPE="sql")
    Session(app)
    store = app.extensions["flask_serverside"].store
    store.create(new_record(store))
    assert (tmp_path / "instance" / "sessions.sqlite").exists()
    store.close()


def test_readers_and_writers_of_one_sqlite_file_wait_for_each_other(tmp_path: Path) -> None:
    stores = [make_store(f"sqlite:///{tmp_path}/busy.sqlite") for _ in range(4)]
    record = new_record(stores[0])
    stores[0].create(record)

    def work(number: int) -> int:
        store, written = stores[number], 0
        for turn in range(25):
            loaded = store.load(record.handle)
            mine = saved_again(loaded, b"%d" % turn)
            written += store.replace(mine) is mine
        return written

    written = at_once(4, work)
    assert stores[0].load(record.handle).version == 1 + sum(written)
    for store in stores:
        store.close()


@pytest.mark.parametrize("code", [1213, 1020, 1205])
def test_only_what_broke_a_deadlock_is_tried_again(
    sql_url: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    store = make_store(sql_url)
    connect, refusals = store._connection, [code]

    def refuse_once() -> Any:
        if refusals:
            driver_says = Exception(refusals.pop(), "Deadlock found when trying to get lock")
            raise OperationalError("INSERT", {}, driver_says)
        return connect()

    store.load("0" * 64)  # creates the table
    monkeypatch.setattr(store, "_connection", refuse_once)
    record = new_record(store)
    if code == 1205:
        with pytest.raises(StoreUnavailable):
            store.replace(record)
    else:
        assert store.create(record)
        assert store.load(record.handle) == record
    store.close()


def test_a_psycopg_that_would_wait_forever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psycopg.__version__", "3.1.20")
    with pytest.raises(ConfigurationError, match=r"pip install 'psycopg>=3\.2'"):
        make_store("postgresql+psycopg://127.0.0.1/sessions")


def test_tombstones_are_among_the_entries(
    sql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(sql_url, timeout=PATIENCE)
    record = new_record(store)
    store.create(record)
    assert store.end(record)
    (entry,) = store._call(store._entries, [record.handle])
    assert (entry.record.ended, entry.size) == (True, 0)
    assert caplog.text == ""
    store.close()


def test_a_row_that_cannot_be_read_keeps_nobody_from_writing(tmp_path: Path) -> None:
    store = make_store(
        f"sqlite:///{tmp_path}/damaged.sqlite",
        engine_options={"pool_size": 1, "max_overflow": 0},
        timeout=1.0,
    )
    records = [new_record(store) for _ in range(3)]
    for record in records:
        store.create(record)
    with store._connections.one() as connection:
        connection.exec_driver_sql("UPDATE sessions SET seen = 'x'")
    kept = []  # as whoever keeps an error for later keeps what it has been raised in
    for _ in range(2):
        with pytest.raises(SerializationError) as raised:
            store.load(records[0].handle)
        kept.append(raised)
        assert list(store.entries()) == []
    other = make_store(f"sqlite:///{tmp_path}/damaged.sqlite", timeout=1.0)
    assert other.create(new_record(other))
    assert store.create(new_record(store))
    for each in (store, other):
        each.close()
