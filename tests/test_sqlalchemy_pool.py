"""Beside the application's pool the store has a small one of its own, so that no request that
holds a connection waits for a second one.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from flask import session
from servers import Server
from test_life_of_a_request import store_of
from test_sqlalchemy_options import named

from flask_serverside import Session
from flask_serverside.testing import at_once
from flask_serverside.testing import new_record

pytestmark = [pytest.mark.group("sql"), pytest.mark.alone]

#: The application's own pool. No overflow: SQLAlchemy wakes nobody who waits for that. Who
#: gets none is told so soon, where SQLAlchemy waits for half a minute.
POOL = {"pool_size": 15, "max_overflow": 0, "pool_timeout": 4}
CONNECTIONS = 15
#: Seconds in which all must be answered.
SOON = 4

Engines = Callable[..., Any]


@pytest.fixture(params=["postgresql", "mariadb"])
def url(server: Callable[[str], Server], request: pytest.FixtureRequest) -> str:
    where: str = server(request.param).url  # type: ignore[attr-defined]
    return where


@pytest.fixture
def make_engine() -> Iterator[Engines]:
    """The application's."""
    import sqlalchemy as sa

    made = []

    def make(url: str, **options: Any) -> sa.Engine:
        made.append(sa.create_engine(url, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def make_app() -> Iterator[Callable[[Any], Flask]]:
    apps = []

    def make(database: Any) -> Flask:
        app = Flask("shop")
        app.config.update(SECRET_KEY="test", SESSION_STORE_TIMEOUT=SOON)
        app.config.update(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=database)
        apps.append(app)
        return app

    yield make
    for app in apps:
        store_of(app).close()


def add_views(app: Flask, query: Callable[[], object], forget: Callable[[], object]) -> None:
    """:param query: takes a connection, which the request has until ``forget`` is called."""
    all_have_one = Barrier(CONNECTIONS)

    @app.get("/begin")
    def begin() -> str:
        session["number"] = 0
        return "begun"

    @app.get("/order")
    def order() -> str:
        query()
        all_have_one.wait(SOON * 2)
        session["number"] += 1
        return str(session["number"])

    @app.teardown_appcontext
    def _(_: BaseException | None) -> None:
        forget()


def assert_all_are_answered(app: Flask, requests: int) -> None:
    clients = [app.test_client() for _ in range(requests)]
    assert [client.get("/begin").status_code for client in clients] == [200] * requests
    began = time.monotonic()
    responses = at_once(requests, lambda number: clients[number].get("/order"))
    took = time.monotonic() - began
    assert Counter(response.status for response in responses) == {"200 OK": requests}
    assert {response.text for response in responses} == {"1"}
    assert took < SOON


@pytest.mark.parametrize("requests", [CONNECTIONS, 2 * CONNECTIONS])
def test_requests_that_hold_all_of_flask_sqlalchemys_connections_have_sessions(
    url: str, requests: int, make_app: Callable[[Any], Flask]
) -> None:
    import sqlalchemy as sa
    from flask_sqlalchemy import SQLAlchemy

    db = SQLAlchemy()
    app = make_app(db)
    app.config.update(SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_ENGINE_OPTIONS=POOL)
    db.init_app(app)
    Session(app)
    # Flask-SQLAlchemy itself forgets at the end of the request.
    add_views(app, lambda: db.session.execute(sa.text("SELECT 1")), lambda: None)
    assert_all_are_answered(app, requests)
    with app.app_context():
        db.engine.dispose()


@pytest.mark.parametrize("requests", [CONNECTIONS, 2 * CONNECTIONS])
def test_requests_that_hold_all_of_an_engines_connections_have_sessions(
    url: str, requests: int, make_engine: Engines, make_app: Callable[[Any], Flask]
) -> None:
    import sqlalchemy as sa
    from sqlalchemy.orm import scoped_session
    from sqlalchemy.orm import sessionmaker

    engine = make_engine(url, **POOL)
    app = make_app(engine)
    Session(app)
    orm = scoped_session(sessionmaker(engine))
    add_views(app, lambda: orm.execute(sa.text("SELECT 1")), orm.remove)
    assert_all_are_answered(app, requests)


def use(store: Any) -> None:
    record = new_record(store)
    assert store.create(record)
    assert store.load(record.handle) == record


def test_the_applications_pool_is_left_alone(
    url: str,
    make_engine: Engines,
    make_app: Callable[[Any], Flask],
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = make_engine(url, **POOL)
    app = make_app(engine)
    with caplog.at_level(logging.INFO, "flask_serverside"):
        Session(app)
        use(store_of(app))
    assert (engine.pool.checkedin(), engine.pool.checkedout()) == (0, 0)
    assert "used as it is" not in caplog.text


def test_the_pool_beside_it_is_small_and_connects_as_the_engine_does(
    server: Callable[[str], Server],
    make_engine: Engines,
    make_app: Callable[[Any], Flask],
) -> None:
    import sqlalchemy as sa

    postgresql = server("postgresql")
    where: str = postgresql.url  # type: ignore[attr-defined]
    engine = make_engine(
        where.replace("postgres@", "nobody@"), connect_args={"application_name": "beside"}
    )

    @sa.event.listens_for(engine, "do_connect")
    def with_rights(dialect: Any, record: Any, args: Any, parameters: Any) -> None:
        """As those do whose passwords are valid for some minutes only."""
        parameters["user"] = "postgres"

    app = make_app(engine)
    Session(app)
    store = store_of(app)
    all_begin = Barrier(30)

    def work(_: int) -> None:
        all_begin.wait()
        for _ in range(5):
            use(store)

    at_once(30, work)
    assert 1 <= named(postgresql, "beside") <= 10
    assert engine.pool.checkedin() == 0


@pytest.mark.parametrize("kind", ["creator", "NullPool", "a pool class"])
def test_an_engine_that_connects_in_its_own_way_is_used_as_it_is_and_said_to_be(
    server: Callable[[str], Server],
    kind: str,
    make_engine: Engines,
    make_app: Callable[[Any], Flask],
    caplog: pytest.LogCaptureFixture,
) -> None:
    import psycopg
    import sqlalchemy as sa

    where: str = server("postgresql").url  # type: ignore[attr-defined]

    class OwnPool(sa.QueuePool):
        """As a package for pooling may have one."""

    plain = where.replace("+psycopg", "")
    options: dict[str, dict[str, Any]] = {
        "creator": {"creator": lambda: psycopg.connect(plain)},
        "NullPool": {"poolclass": sa.NullPool},
        "a pool class": {"poolclass": OwnPool},
    }
    engine = make_engine(where, **options[kind])
    taken: list[Any] = []
    sa.event.listen(engine, "checkout", lambda *arguments: taken.append(arguments[0]))
    app = make_app(engine)
    with caplog.at_level(logging.INFO, "flask_serverside"):
        Session(app)
        use(store_of(app))
    said = [record for record in caplog.records if "used as it is" in record.getMessage()]
    assert [record.levelname for record in said] == ["INFO"]
    assert said[0].name == "flask_serverside"
    assert "SESSION_SQLALCHEMY" in said[0].getMessage()
    assert taken
