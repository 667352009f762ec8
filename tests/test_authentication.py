"""When somebody last proved who they are, and what that begins anew."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from datetime import timedelta
from datetime import UTC
from typing import Any

import pytest
from backends import Running
from flask import Flask
from flask.testing import FlaskClient
from test_life_of_a_request import handle_in
from test_life_of_a_request import is_alive
from test_life_of_a_request import store_of
from test_session import cookie_of
from test_session import in_a_view

from flask_serverside import ConfigurationError
from flask_serverside import current_session as session
from flask_serverside import SessionError
from flask_serverside.testing import Clock

MakeApp = Callable[..., Flask]


def seen(app: Flask, client: FlaskClient) -> Any:
    """Seconds since somebody proved who they are."""
    at = in_a_view(app, client, lambda: session.authenticated_at)
    return at and (store_of(app).clock() - at.timestamp())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(make_app: MakeApp, clock: Clock) -> Flask:
    app = make_app(SESSION_ABSOLUTE_LIFETIME=1000, SESSION_ROTATION_INTERVAL=300)
    store_of(app).clock = clock
    return app


def test_a_visitor_has_proved_nothing(app: Flask) -> None:
    client = app.test_client()
    assert seen(app, client) is None
    client.get("/write?a=1")
    assert seen(app, client) is None
    assert in_a_view(app, client, lambda: session.fresh(timedelta(days=1000))) is False


def test_it_is_when_somebody_signed_in_whatever_came_after(
    make_app: MakeApp, real_backend: Running, clock: Clock
) -> None:
    app = make_app(
        real_backend, SESSION_ROTATION_INTERVAL=300, SESSION_ENCRYPTION_KEYS=[b"k" * 32]
    )
    store_of(app).clock = clock
    client = app.test_client()
    client.get("/write?_user_id=ada")
    paths = ["/read", "/write?b=1", "/regenerate", "/append", "/write?_user_id=ada"]
    for number, path in enumerate(paths, 1):
        clock.advance(100)
        assert seen(app, client) == number * 100
        client.get(path)
        assert seen(app, client) == number * 100
    clock.advance(100)
    client.get("/write?_user_id=grace")
    assert seen(app, client) == 0


def test_in_the_request_that_signs_in_it_is_now(app: Flask, clock: Clock) -> None:
    client = app.test_client()
    client.get("/write?a=1")
    clock.advance(5)

    def view() -> tuple[datetime | None, bool]:
        session["_user_id"] = "ada"
        return session.authenticated_at, session.fresh(0)

    now = datetime.fromtimestamp(clock(), UTC)
    assert in_a_view(app, client, view) == (now, True)


@pytest.mark.parametrize("path", ["/clear", "/destroy", "/anew"])
def test_it_ends_when_somebody_signs_out(app: Flask, path: str) -> None:
    client = app.test_client()
    client.get("/write?_user_id=ada&a=1")
    client.get(path)
    client.get("/write?a=1")
    assert seen(app, client) is None
    client.get("/write?_user_id=ada&a=1")
    in_a_view(app, client, lambda: session.pop("_user_id"))
    assert client.get("/read").json == {"a": "1"}
    assert seen(app, client) is None


def test_fresh_is_exact_at_the_boundary(app: Flask, clock: Clock) -> None:
    client = app.test_client()
    client.get("/write?_user_id=ada")
    clock.advance(60)
    for within in (60, timedelta(minutes=1), 60.001):
        assert in_a_view(app, client, lambda within=within: session.fresh(within))  # type: ignore[misc]
    clock.advance(0.001)
    assert not in_a_view(app, client, lambda: session.fresh(60))


@pytest.mark.parametrize("within", [-1, None, "soon", True])
def test_fresh_within_what_is_no_time_is_refused(app: Flask, within: Any) -> None:
    def view() -> None:
        with pytest.raises(ConfigurationError, match="within"):
            session.fresh(within)

    in_a_view(app, app.test_client(), view)


def test_proving_it_again_begins_the_time_anew_under_a_new_id(
    make_app: MakeApp, real_backend: Running, clock: Clock
) -> None:
    app = make_app(real_backend, SESSION_ABSOLUTE_LIFETIME=1000)
    store_of(app).clock = clock
    client = app.test_client()
    client.get("/write?_user_id=ada")
    old = cookie_of(client)
    clock.advance(900)
    client.get("/read")
    in_a_view(app, client, lambda: session.reauthenticated())
    assert cookie_of(client) != old
    assert not is_alive(app, handle_in(old))
    assert seen(app, client) == 0
    clock.advance(999.999)
    assert client.get("/read").json == {"_user_id": "ada"}
    assert seen(app, client) == pytest.approx(999.999, abs=0.002)
    clock.advance(0.001)
    assert client.get("/read").json == {}


def test_who_has_no_subject_can_prove_it_too(make_app: MakeApp, clock: Clock) -> None:
    app = make_app(SESSION_SUBJECT_KEY=None)
    store_of(app).clock = clock
    client = app.test_client()

    def view() -> None:
        session["user"] = "ada"
        session.reauthenticated()
        assert session.fresh(0)

    in_a_view(app, client, view)
    clock.advance(7)
    assert seen(app, client) == 7
    client.get("/write?b=1")
    assert seen(app, client) == 7


def test_it_is_not_done_in_an_atomic_function(app: Flask) -> None:
    def view() -> None:
        with pytest.raises(SessionError, match="reauthenticated"):
            session.atomic(lambda session: session.reauthenticated())

    in_a_view(app, app.test_client(), view)


def test_what_was_proved_does_not_outlive_the_session(app: Flask) -> None:
    def view() -> None:
        session["_user_id"] = "ada"
        session.reauthenticated()
        session.destroy()
        session["a"] = 1

    client = app.test_client()
    in_a_view(app, client, view)
    assert seen(app, client) is None


def test_without_new_ids_by_themselves_it_is_known_all_the_same(
    make_app: MakeApp, clock: Clock
) -> None:
    app = make_app(SESSION_REGENERATE_ON_SUBJECT_CHANGE=False)
    store_of(app).clock = clock
    client = app.test_client()
    client.get("/write?a=1")
    clock.advance(50)
    client.get("/write?_user_id=ada")
    clock.advance(10)
    assert seen(app, client) == 10
    client.get("/write?_user_id=")
    assert seen(app, client) is None
