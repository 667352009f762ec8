"""PgBouncer in transaction mode: the next statement may go to another of PostgreSQL's
connections, where nothing is known of what was prepared or set on the one before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from backends import BACKENDS
from backends import PATIENCE
from backends import Running
from flask import Flask
from servers import PgBouncer
from servers import Server

from flask_serverside import current_session as session
from flask_serverside import Session
from flask_serverside.stores import Store
from flask_serverside.testing import at_once
from flask_serverside.testing import IndexContract
from flask_serverside.testing import StoreContract

pytestmark = [pytest.mark.group("sql"), pytest.mark.alone]

THREADS = 8
REQUESTS = 400


@pytest.fixture
def pooled(server: Callable[[str], Server]) -> Running:
    """PostgreSQL with the documented URL, except for the port, which is PgBouncer's."""
    bouncer = server("pgbouncer")
    assert isinstance(bouncer, PgBouncer)
    postgresql = next(backend for backend in BACKENDS if backend.name == "postgresql")
    return Running(postgresql, postgresql.config(bouncer.url), bouncer)


class TestContract(StoreContract):
    @pytest.fixture(autouse=True)
    def _running(self, pooled: Running) -> None:
        self.running = pooled

    def make_store(self, **options: Any) -> Store:
        return self.running.make_store(**options)


class TestIndexContract(IndexContract):
    @pytest.fixture(autouse=True)
    def _running(self, pooled: Running) -> None:
        self.running = pooled

    def make_store(self, **options: Any) -> Store:
        return self.running.make_store(**options)


def make_app(config: dict[str, Any]) -> Flask:
    app = Flask("pooled")
    app.config.update(SECRET_KEY="test", SESSION_STORE_TIMEOUT=PATIENCE, **config)
    Session(app)

    @app.get("/read")
    def read() -> dict[str, Any]:
        return {"number": session.get("number", 0)}

    @app.get("/write")
    def write() -> dict[str, Any]:
        session["number"] = session.get("number", 0) + 1
        return {"number": session["number"]}

    @app.get("/regenerate")
    def regenerate() -> dict[str, Any]:
        session.regenerate()
        return {"number": session.get("number", 0)}

    return app


@pytest.fixture
def app(pooled: Running) -> Iterator[Flask]:
    app = make_app(pooled.app_config())
    yield app
    app.extensions["flask_serverside"].store.close()


def test_each_request_is_answered(app: Flask) -> None:
    """Psycopg prepares what it has executed five times, unless it is told not to."""

    def work(_: int) -> tuple[Counter[str], int | None]:
        client, answers = app.test_client(), Counter[str]()
        for turn in range(REQUESTS // THREADS):
            path = ("/write", "/read", "/read", "/write", "/regenerate")[turn % 5]
            answers[client.get(path).status] += 1
        read = client.get("/read")
        return answers, read.json and read.json["number"]

    answers, numbers = zip(*at_once(THREADS, work), strict=True)
    assert sum(answers, Counter()) == {"200 OK": REQUESTS}
    assert {*numbers} == {REQUESTS // THREADS * 2 // 5}
