"""A session ends when it is to end, to the millisecond, and its cookie not after it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from backends import Running
from flask import Flask
from test_life_of_a_request import handle_in
from test_life_of_a_request import store_of
from test_session import in_a_view

from flask_serverside import current_session as session
from flask_serverside.testing import Clock

MakeApp = Callable[..., Flask]

#: What docs/security.md recommends for each level of NIST SP 800-63B-4.
PRESETS = {
    "AAL1": (None, timedelta(days=30)),
    "AAL2": (timedelta(hours=1), timedelta(hours=24)),
    "AAL3": (timedelta(minutes=15), timedelta(hours=12)),
}


def age_of(answer: Any) -> int:
    """The cookie's Max-Age, in seconds."""
    setting = answer.headers["Set-Cookie"]
    return int(setting.partition("Max-Age=")[2].partition(";")[0])


@pytest.mark.parametrize("preset", PRESETS)
def test_idle_and_absolute_lifetime_are_exact(
    make_app: MakeApp, real_backend: Running, preset: str
) -> None:
    idle, absolute = PRESETS[preset]
    idle = idle or absolute
    app = make_app(
        real_backend,
        PERMANENT_SESSION_LIFETIME=idle,
        SESSION_ABSOLUTE_LIFETIME=absolute,
        SESSION_TOUCH_INTERVAL=0,
    )
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")
    clock.advance(idle.total_seconds() - 0.001)
    assert client.get("/read").json == {"a": "1"}
    clock.advance(idle.total_seconds())
    assert client.get("/read").json == {}
    client.get("/write?a=1")
    left = absolute.total_seconds()
    while left > idle.total_seconds() / 2:
        clock.advance(idle.total_seconds() / 2)
        left -= idle.total_seconds() / 2
        assert client.get("/read").json == {"a": "1"}
    clock.advance(left - 0.001)
    assert client.get("/read").json == {"a": "1"}
    clock.advance(0.001)
    assert client.get("/read").json == {}


@pytest.mark.parametrize("what", ["/read", "/write?b={}", "/regenerate", "/append"])
def test_nothing_but_a_fresh_login_begins_the_absolute_lifetime_anew(
    make_app: MakeApp, what: str
) -> None:
    app = make_app(SESSION_ABSOLUTE_LIFETIME=100, SESSION_ROTATION_INTERVAL=15)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?_user_id=ada")
    for number in range(9):
        clock.advance(10)
        client.get(what.format(number))
    clock.advance(9.999)
    assert client.get("/read").json["_user_id"] == "ada"
    client.get("/write?_user_id=grace")
    clock.advance(99.999)
    assert client.get("/read").json["_user_id"] == "grace"
    clock.advance(0.001)
    assert client.get("/read").json == {}


def test_remember_me_is_a_lifetime_of_the_sessions_own(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend, PERMANENT_SESSION_LIFETIME=3600, SESSION_PERMANENT=False)
    store_of(app).clock = clock = Clock()
    client = app.test_client()

    def sign_in() -> None:
        session["_user_id"] = "ada"
        session.permanent = True
        session.lifetime = timedelta(days=30)

    in_a_view(app, client, sign_in)
    clock.advance(29 * 86400)
    assert client.get("/read").json == {"_user_id": "ada", "_permanent": True}
    clock.advance(30 * 86400 - 0.001)
    assert client.get("/read").json == {"_user_id": "ada", "_permanent": True}


def test_a_cookie_that_ends_with_the_browser_has_a_limit_on_the_server_all_the_same(
    make_app: MakeApp,
) -> None:
    app = make_app(PERMANENT_SESSION_LIFETIME=3600, SESSION_PERMANENT=False)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    assert "Max-Age" not in client.get("/write?a=1").headers["Set-Cookie"]
    clock.advance(3600)
    assert client.get("/read").json == {}


def test_no_cookie_lives_longer_than_browsers_let_it(make_app: MakeApp) -> None:
    app = make_app(PERMANENT_SESSION_LIFETIME=timedelta(days=500))
    assert age_of(app.test_client().get("/write?a=1")) == 400 * 86400
    app = make_app(PERMANENT_SESSION_LIFETIME=timedelta(days=400))
    assert age_of(app.test_client().get("/write?a=1")) == 400 * 86400


def test_no_cookie_lives_longer_than_its_session(make_app: MakeApp) -> None:
    app = make_app(
        PERMANENT_SESSION_LIFETIME=100, SESSION_ABSOLUTE_LIFETIME=150.9, SECRET_KEY="old"
    )
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    assert age_of(client.get("/write?a=1")) == 100
    clock.advance(80)
    assert age_of(client.get("/read")) == 70
    clock.advance(20.5)
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"])
    assert age_of(client.get("/read")) == 50


def test_a_lifetime_set_before_a_touch_is_stored_all_the_same(make_app: MakeApp) -> None:
    app = make_app()
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")

    def view() -> None:
        session.lifetime = 60
        session.touch()

    in_a_view(app, client, view)
    clock.advance(60)
    assert client.get("/read").json == {}


def test_a_read_extends_at_the_interval_and_not_before(make_app: MakeApp) -> None:
    app = make_app(PERMANENT_SESSION_LIFETIME=1000, SESSION_TOUCH_INTERVAL=60)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")
    clock.advance(59.999)
    assert "Set-Cookie" not in client.get("/read").headers
    clock.advance(0.001)
    assert age_of(client.get("/read")) == 1000


def test_whoever_moves_the_end_past_the_deadline_gains_nothing(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(
        real_backend, SESSION_ABSOLUTE_LIFETIME=100, SESSION_ENCRYPTION_KEYS=[b"k" * 32]
    )
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    record = store_of(app).load(handle_in(cookie.value))
    assert record is not None
    store_of(app).touch(record._replace(expires=record.expires + 10**6))
    clock.advance(99.999)
    assert client.get("/read").json == {"a": "1"}
    clock.advance(0.001)
    client.set_cookie("session", cookie.value)
    assert client.get("/read").json == {}
