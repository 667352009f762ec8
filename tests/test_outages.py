"""A server that is down, or accepts and never answers, through a line that can be cut."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable

import pytest
from backends import Running
from flask import Flask
from flask import session
from flask.testing import FlaskClient
from proxy import Proxy

from flask_serverside import current_session
from flask_serverside import StoreUnavailable
from flask_serverside.stores import IndexedStore
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

pytestmark = pytest.mark.alone

MakeApp = Callable[..., Flask]
Line = tuple[Running, Proxy]

TIMEOUT = 1.0

#: How far a request may exceed the limit, in seconds.
MARGIN = 0.3


@pytest.fixture
def app(make_app: MakeApp, proxied: Line) -> Flask:
    with contextlib.closing(proxied[0].make_store()) as store:
        store.create(new_record(store))  # a table or an index takes its time on a busy machine
    app = make_app(proxied[0], SESSION_STORE_TIMEOUT=TIMEOUT)

    @app.get("/cut-then-write")
    def cut_then_write() -> str:
        session["a"] = "changed"
        proxied[1].cut()
        return "written"

    @app.get("/freeze-then-write")
    def freeze_then_write() -> str:
        session["a"] = "changed"
        proxied[1].freeze()
        return "written"

    @app.get("/drop-then/<what>")
    def drop_then(what: str) -> str:
        assert session["a"] == "1"
        proxied[1].drop()
        if what == "write":
            session["a"] = "changed"
        elif what == "clear":
            session.clear()
        elif what == "destroy":
            current_session.destroy()
        elif what == "sign-in":
            session["_user_id"] = "ada"
        elif what == "atomic":
            current_session.atomic(lambda session: session.update(count=1))
        elif what == "revoke":
            assert app.extensions["flask_serverside"].revoke(current_session.handle)
        return what

    @app.get("/try-twice")
    def try_twice() -> str:
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                session.get("a")
        return "survived"

    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    client = app.test_client()
    assert client.get("/write?a=1").status_code == 200
    return client


def timed(client: FlaskClient, path: str) -> tuple[int, float]:
    began = time.monotonic()
    status = client.get(path).status_code
    return status, time.monotonic() - began


@pytest.mark.parametrize("path", ["/read", "/write?b=1", "/clear"])
def test_a_server_that_is_down_gives_503(client: FlaskClient, proxied: Line, path: str) -> None:
    proxied[1].cut()
    status, seconds = timed(client, path)
    assert status == 503
    assert seconds < TIMEOUT + MARGIN


def test_a_first_write_to_a_server_that_is_down_gives_503(app: Flask, proxied: Line) -> None:
    app.test_client().get("/write?a=1")
    proxied[1].cut()
    client = app.test_client()
    answer = client.get("/write?a=1")
    assert answer.status_code == 503
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/read", "/write?b=1"])
def test_a_server_that_never_answers_gives_503_after_the_time_limit(
    client: FlaskClient, proxied: Line, path: str
) -> None:
    proxied[1].freeze()
    status, seconds = timed(client, path)
    assert status == 503
    assert 0.9 * TIMEOUT < seconds < TIMEOUT + MARGIN


def test_a_server_that_never_answers_a_new_connection_gives_503(
    make_app: MakeApp, proxied: Line
) -> None:
    app = make_app(proxied[0], SESSION_STORE_TIMEOUT=TIMEOUT)
    proxied[1].freeze()
    status, seconds = timed(app.test_client(), "/write?a=1")
    assert status == 503
    assert 0.9 * TIMEOUT < seconds < TIMEOUT + MARGIN


def test_whoever_interrupts_does_not_wait_for_the_limit(proxied: Line) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with contextlib.closing(proxied[0].make_store(timeout=2 * TIMEOUT)) as store:
        store.create(new_record(store))
        proxied[1].freeze()
        former = signal.signal(signal.SIGALRM, interrupt)  # as SIGINT's, which may be ignored
        try:
            began = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                store.load("0" * 64)
            assert time.monotonic() - began < TIMEOUT
        finally:
            signal.signal(signal.SIGALRM, former)


@pytest.mark.parametrize("path", ["/cut-then-write", "/freeze-then-write"])
def test_a_save_that_fails_answers_503_after_one_time_limit(
    client: FlaskClient, proxied: Line, path: str
) -> None:
    began = time.monotonic()
    answer = client.get(path)
    assert answer.status_code == 503
    assert time.monotonic() - began < TIMEOUT + MARGIN
    assert "written" not in answer.text
    assert "Set-Cookie" not in answer.headers
    proxied[1].mend()
    if path == "/cut-then-write":
        assert client.get("/read").json == {"a": "1"}


def test_a_request_waits_once_however_often_it_asks(client: FlaskClient, proxied: Line) -> None:
    proxied[1].freeze()
    status, seconds = timed(client, "/try-twice")
    assert status == 200
    assert seconds < TIMEOUT + MARGIN


def test_the_answer_to_an_outage_is_the_applications(app: Flask, proxied: Line) -> None:
    @app.errorhandler(503)
    def sorry(error: Exception) -> tuple[str, int]:
        # A page that shows the signed-in user reads the session once more.
        with pytest.raises(StoreUnavailable):
            session.get("user")
        return "back soon", 503

    client = app.test_client()
    client.get("/write?a=1")
    proxied[1].cut()
    assert client.get("/read").text == "back soon"


def test_the_address_of_the_server_is_logged_and_not_shown(
    client: FlaskClient, proxied: Line, caplog: pytest.LogCaptureFixture
) -> None:
    proxied[1].cut()
    answer = client.get("/read")
    assert "unavailable" in caplog.text
    assert "127.0.0.1" not in answer.text


@pytest.mark.parametrize("path", ["/read", "/write?b=1"])
def test_all_is_well_again_once_the_server_is_back(
    client: FlaskClient, proxied: Line, path: str
) -> None:
    proxied[1].cut()
    assert client.get(path).status_code == 503
    proxied[1].mend()
    assert client.get(path).status_code == 200
    assert client.get("/read").json["a"] == "1"


def slow(proxy: Proxy) -> None:
    """No single answer takes longer than the limit, two do."""
    proxy.delay = 0.75 * TIMEOUT


def trickling(proxy: Proxy) -> None:
    """A byte now and then: no single read waits for long."""
    proxy.trickle = 0.1 * TIMEOUT


@pytest.mark.parametrize("lines", [slow, trickling], ids=["slow", "trickling"])
@pytest.mark.parametrize("connected", [False, True], ids=["new", "connected"])
def test_an_operation_has_one_time_limit_for_all_its_steps(
    proxied: Line, lines: Callable[[Proxy], None], connected: bool
) -> None:
    running, proxy = proxied
    with contextlib.closing(running.make_store()) as other:
        other.create(new_record(other))  # a table or an index takes its time
    with contextlib.closing(running.make_store(timeout=TIMEOUT)) as store:
        record = new_record(store, subject="ada")
        if connected:
            assert store.create(record)
        lines(proxy)
        operations: dict[str, Callable[[], object]] = {
            "load": lambda: store.load(record.handle),
            "replace": lambda: store.replace(saved_again(record, b"changed")),
            "touch": lambda: store.touch(record._replace(expires=record.expires + 1)),
            "delete": lambda: store.delete(record.handle),
            "create": lambda: store.create(new_record(store, subject="ada")),
            "ping": store.ping,
        }
        if isinstance(store, IndexedStore):
            operations["count"] = lambda: store.count("ada")
        took = {name: seconds_of(operation) for name, operation in operations.items()}
        proxy.delay = proxy.trickle = 0.0
    # To count, a store may ask for the handles and then for what stands there.
    limits = {"count": 2 * TIMEOUT}
    late = {n: s for n, s in took.items() if s > limits.get(n, TIMEOUT) + MARGIN}
    assert not late


def seconds_of(operation: Callable[[], object]) -> float:
    began = time.monotonic()
    with contextlib.suppress(StoreUnavailable):
        operation()
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("/drop-then/write", {"a": "changed"}),
        ("/drop-then/clear", {}),
        ("/drop-then/destroy", {}),
        ("/drop-then/sign-in", {"a": "1", "_user_id": "ada"}),
        ("/drop-then/atomic", {"a": "1", "count": 1}),
        ("/drop-then/revoke", {}),
    ],
)
def test_a_connection_that_was_closed_while_the_view_was_busy_is_not_noticed(
    app: Flask, client: FlaskClient, path: str, left: dict[str, object]
) -> None:
    """A server, a balancer or a pooler has an idle timeout that the view takes longer than."""
    cookie = client.get_cookie("session")
    assert cookie is not None
    assert client.get(path).status_code == 200
    assert client.get("/read").json == left
    if not left:
        client.set_cookie("session", cookie.value)
        assert client.get("/read").json == {}


def test_lists_counts_endings_and_purges_do_not_notice_a_closed_connection(
    proxied: Line,
) -> None:
    running, proxy = proxied
    with contextlib.closing(running.make_store()) as store:
        subject = f"ada {store.now()}"
        records = [new_record(store, subject=subject) for _ in range(3)]
        for record in records:
            assert store.create(record)
        proxy.drop()
        store.ping()
        proxy.drop()
        assert store.touch(records[0]._replace(expires=records[0].expires + 1000))
        proxy.drop()
        assert store.delete(records[0].handle)
        proxy.drop()
        assert store.purge() >= 0
        if isinstance(store, IndexedStore):
            proxy.drop()
            assert store.count(subject) == 2
            proxy.drop()
            assert {e.record.handle for e in store.entries(subject)} == {
                record.handle for record in records[1:]
            }
            proxy.drop()
            assert len(list(store.end_all(subject))) == 2
            assert store.count(subject) == 0


@pytest.mark.parametrize("path", ["/read", "/write?a=1"])
def test_connections_that_a_restart_has_closed_are_not_noticed(
    app: Flask, client: FlaskClient, proxied: Line, path: str
) -> None:
    newcomer = app.test_client()
    proxied[1].drop()
    assert (client if path == "/read" else newcomer).get(path).status_code == 200


def test_the_real_server_killed_and_started_again(
    make_app: MakeApp, server_backend: Running
) -> None:
    """Not through a proxy: the server itself dies, without a goodbye."""
    shared = server_backend.server
    assert shared is not None
    server = type(shared)()
    server.start()
    server.end()  # MariaDB recovers only what was once shut down in order
    server.start()
    try:
        config = {
            key: value.replace(str(shared.port), str(server.port))
            for key, value in server_backend.config.items()
        }
        app = make_app(Running(server_backend.backend, config), SESSION_STORE_TIMEOUT=TIMEOUT)
        client = app.test_client()
        assert client.get("/write?a=1").status_code == 200
        server.freeze()
        assert client.get("/read").status_code == 503
        server.thaw()
        assert client.get("/read").json == {"a": "1"}
        server.kill()
        assert client.get("/read").status_code == 503
        server.start()
        assert client.get("/read").status_code == 200
        keeps = server_backend.name in ("postgresql", "mariadb", "mysql", "mongodb")
        assert client.get("/read").json == ({"a": "1"} if keeps else {})
        client.get("/write?b=2")
        assert client.get("/read").json["b"] == "2"
    finally:
        server.stop()


def test_a_failed_save_in_a_transaction_of_the_test_client_is_raised(
    client: FlaskClient, proxied: Line
) -> None:
    with pytest.raises(StoreUnavailable), client.session_transaction() as transaction:  # noqa: PT012
        transaction["a"] = 2
        proxied[1].cut()
