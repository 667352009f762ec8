"""How often a request goes to the server, counted between it and the real one."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from backends import Running
from flask import Flask
from flask.testing import FlaskClient
from proxy import Proxy
from test_life_of_a_request import store_of

from flask_serverside.testing import Clock

MakeApp = Callable[..., Flask]
Line = tuple[Running, Proxy]


def warmed_up(app: Flask) -> FlaskClient:
    """A client with a session, after connecting, the table, scripts and prepared
    statements have cost their trips."""
    for number in range(8):
        client = app.test_client()
        for path in (f"/write?a={number}", "/regenerate", "/write?b=1", "/read", "/clear"):
            assert client.get(path).status_code == 200
    client = app.test_client()
    client.get("/write?a=1")
    return client


@pytest.fixture
def client(make_app: MakeApp, proxied: Line) -> FlaskClient:
    return warmed_up(make_app(proxied[0]))


@pytest.mark.parametrize(
    ("path", "trips"),
    [
        ("/untouched", 0),
        ("/nowhere", 0),
        ("/static/nothing.css", 0),
        ("/read", 1),
        ("/write?a=2", 2),
        ("/write?a=1", 1),
        ("/append", 2),
        ("/clear", 2),
        ("/destroy", 2),
        ("/flash", 2),
        ("/messages", 1),
        ("/count", 2),
        ("/regenerate", 3),
        ("/anew", 3),
    ],
)
def test_trips_of_a_request(client: FlaskClient, proxied: Line, path: str, trips: int) -> None:
    before = proxied[1].trips
    client.get(path)
    assert proxied[1].trips - before == trips


def test_showing_messages_costs_a_save(client: FlaskClient, proxied: Line) -> None:
    client.get("/flash")
    before = proxied[1].trips
    assert client.get("/messages").json == ["hello"]
    assert proxied[1].trips - before == 2


@pytest.mark.parametrize(
    ("path", "trips"), [("/untouched", 0), ("/read", 0), ("/clear", 0), ("/write?a=1", 1)]
)
def test_trips_without_a_session(
    client: FlaskClient, proxied: Line, path: str, trips: int
) -> None:
    before = proxied[1].trips
    client.application.test_client().get(path)
    assert proxied[1].trips - before == trips


def test_a_forged_cookie_costs_no_trip(client: FlaskClient, proxied: Line) -> None:
    forged = client.application.test_client()
    forged.set_cookie("session", f"{'A' * 43}.{'B' * 43}")
    before = proxied[1].trips
    assert forged.get("/read").json == {}
    assert proxied[1].trips == before


def test_a_signed_id_that_is_not_stored_costs_one_trip(
    client: FlaskClient, proxied: Line
) -> None:
    cookie = client.get_cookie("session")
    assert cookie is not None
    client.get("/clear")
    client.set_cookie("session", cookie.value)
    before = proxied[1].trips
    assert client.get("/read").json == {}
    assert proxied[1].trips - before == 1


def test_a_new_id_for_the_time_that_has_passed_costs_two_trips_more(
    make_app: MakeApp, proxied: Line
) -> None:
    app = make_app(proxied[0], SESSION_ROTATION_INTERVAL=100, SESSION_PURGE_INTERVAL=0)
    store_of(app).clock = clock = Clock()
    client = warmed_up(app)
    late = app.test_client()
    for path, trips in (("/read", 3), ("/write?b=2", 3), ("/untouched", 0)):
        cookie = client.get_cookie("session")
        assert cookie is not None
        late.set_cookie("session", cookie.value)
        clock.advance(100)
        before = proxied[1].trips
        client.get(path)
        assert proxied[1].trips - before == trips
    client.get("/read")
    before = proxied[1].trips
    late.get("/read")  # by way of the old id
    assert proxied[1].trips - before == 2


def test_signing_in_by_the_key_alone_costs_as_much_as_a_new_id(
    client: FlaskClient, proxied: Line
) -> None:
    client.application.test_client().get("/write?_user_id=grace")  # the script is known then
    before = proxied[1].trips
    client.get("/write?_user_id=ada")
    assert proxied[1].trips - before == 3


def test_a_limit_costs_a_sign_in_two_lists(make_app: MakeApp, proxied: Line) -> None:
    if proxied[0].name == "memcached":  # it has no lists, and so no limit
        return
    clients = [
        warmed_up(make_app(proxied[0], SESSION_MAX_PER_SUBJECT=9, SESSION_PURGE_INTERVAL=0))
    ]
    clients.append(clients[0].application.test_client())
    user = f"ada-{secrets.token_hex(8)}"
    clients[0].get("/write", query_string={"_user_id": user})
    before = proxied[1].trips
    clients[1].get("/write", query_string={"_user_id": user})
    # On Redis and MongoDB what the index names is fetched after it.
    trips = 2 if proxied[0].name in ("redis", "mongodb") else 1
    assert proxied[1].trips - before == 1 + 2 * trips
    before = proxied[1].trips
    clients[1].get("/write?b=1")
    assert proxied[1].trips - before == 2


def test_encryption_and_compression_cost_no_trip(make_app: MakeApp, proxied: Line) -> None:
    config = {"SESSION_ENCRYPTION_KEYS": [b"k" * 32], "SESSION_COMPRESSION": "zlib"}
    client = warmed_up(make_app(proxied[0], **config))
    for path, trips in (("/read", 1), ("/write?b=2", 2), ("/regenerate", 3), ("/clear", 2)):
        before = proxied[1].trips
        client.get(path)
        assert proxied[1].trips - before == trips


def test_a_touch_costs_one_trip_more(make_app: MakeApp, proxied: Line) -> None:
    app = make_app(proxied[0], SESSION_TOUCH_INTERVAL=0)
    store_of(app).clock = clock = Clock()
    client = warmed_up(app)
    for _ in range(6):
        clock.advance(1)
        client.get("/read")
    before = proxied[1].trips
    clock.advance(1)
    client.get("/read")
    # Memcached has no command that extends a record and writes into it.
    expected = 3 if proxied[0].name == "memcached" else 2
    assert proxied[1].trips - before == expected
