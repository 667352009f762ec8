"""A sign-out counts on a machine that can make nothing of the session, while others can: its
clock is ahead of theirs, it is given an old id, or it lacks a key."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from backends import Running
from flask import flash
from flask import Flask
from flask import session
from flask.testing import FlaskClient
from test_life_of_a_request import store_of
from test_listing import sessions_of

from flask_serverside import current_session
from flask_serverside import session_destroyed
from flask_serverside.stores import REMEMBERED
from flask_serverside.testing import Clock

MakeApp = Callable[..., Flask]

LIFETIME = 1800


@pytest.fixture
def right(make_app: MakeApp, shared_backend: Running) -> Flask:
    app = make_app(shared_backend, PERMANENT_SESSION_LIFETIME=LIFETIME)

    @app.get("/handle")
    def handle() -> str:
        return current_session.handle

    return app


@pytest.fixture
def ahead(make_app: MakeApp, shared_backend: Running, right: Flask) -> Flask:
    """The same application on a machine whose clock is ahead by more than the lifetime."""
    app = make_app(
        shared_backend,
        PERMANENT_SESSION_LIFETIME=LIFETIME,
        SESSION_PURGE_INTERVAL=0,  # a purge goes by this machine's clock
    )
    clock = Clock()
    clock.advance(2 * LIFETIME)
    add_endings(app)

    store_of(app).clock = clock
    return app


def add_endings(app: Flask) -> None:
    @app.get("/pop-subject")
    def pop_subject() -> str:
        session.pop("_user_id", None)
        return ""

    @app.get("/clear-and-say-goodbye")
    def clear_and_say_goodbye() -> str:
        session.clear()
        flash("Goodbye")
        return ""

    @app.get("/begin-with-nothing")
    def begin_with_nothing() -> str:
        current_session.regenerate(keep=False)
        return ""

    @app.get("/subject-is-none")
    def subject_is_none() -> str:
        session["_user_id"] = None
        return ""

    @app.get("/clear-in-atomic")
    def clear_in_atomic() -> str:
        current_session.atomic(lambda session: session.clear())
        return ""

    @app.get("/pop-in-atomic")
    def pop_in_atomic() -> str:
        current_session.atomic(lambda session: session.pop("_user_id", None))
        return ""

    @app.get("/clear-and-save")
    def clear_and_save() -> str:
        session.clear()
        current_session.save()
        return ""

    @app.get("/sign-in")
    def sign_in() -> str:
        session.clear()
        session["_user_id"] = "grace"
        return ""


def signed_in(app: Flask) -> tuple[FlaskClient, str]:
    client = app.test_client()
    client.get("/write?_user_id=ada&cart=full")
    cookie = client.get_cookie("session")
    assert cookie is not None
    return client, cookie.value


@pytest.mark.parametrize(
    "path",
    [
        "/destroy",
        "/clear",
        "/pop-subject",
        "/clear-and-say-goodbye",
        "/regenerate",
        "/begin-with-nothing",
        "/subject-is-none",
        "/clear-in-atomic",
        "/pop-in-atomic",
        "/clear-and-save",
        "/sign-in",
    ],
)
def test_who_signs_out_where_the_clock_is_ahead_is_signed_out_everywhere(
    right: Flask, ahead: Flask, path: str
) -> None:
    thief, cookie = signed_in(right)
    victim = ahead.test_client()
    victim.set_cookie("session", cookie)
    destroyed: list[str | None] = []

    def hear(sender: Flask, subject: str | None, **_: object) -> None:
        destroyed.append(subject)

    with session_destroyed.connected_to(hear):
        assert victim.get(path).status_code == 200
    assert thief.get("/read").json == {}
    assert destroyed == ["ada"]


@pytest.mark.parametrize("path", ["/read", "/write?a=1"])
def test_who_only_reads_or_writes_where_the_clock_is_ahead_ends_nothing(
    right: Flask, ahead: Flask, path: str
) -> None:
    client, cookie = signed_in(right)
    other = ahead.test_client()
    other.set_cookie("session", cookie)
    assert other.get(path).status_code == 200
    assert client.get("/read").json == {"_user_id": "ada", "cart": "full"}


def test_a_session_is_revoked_by_its_handle_whatever_the_clock_says(
    right: Flask, ahead: Flask
) -> None:
    client, _ = signed_in(right)
    handle = client.get("/handle").text
    with ahead.app_context():
        assert sessions_of(ahead).revoke(handle)
    assert client.get("/read").json == {}


@pytest.mark.parametrize("seconds", [0, REMEMBERED + 1, 2 * LIFETIME])
@pytest.mark.parametrize("rotates", [False, True], ids=["regenerated", "rotated"])
def test_who_signs_out_by_an_id_from_before_is_signed_out_under_the_new_one(
    right: Flask,
    ahead: Flask,
    monkeypatch: pytest.MonkeyPatch,
    rotates: bool,
    seconds: float,
) -> None:
    for app in (right, ahead):
        app.config.update(SESSION_ROTATION_INTERVAL=60 if rotates else None)
        app.config.update(SESSION_ROTATION_GRACE=40, SECRET_KEY="read anew")
    client, cookie = signed_in(right)
    if rotates:
        clock = Clock()
        clock.advance(61)
        monkeypatch.setattr(store_of(right), "clock", clock)
        client.get("/read")
    else:
        client.get("/regenerate")
    assert client.get_cookie("session").value != cookie  # type: ignore[union-attr]
    clock = Clock()
    clock.advance(seconds)
    store_of(ahead).clock = clock
    late = ahead.test_client()
    late.set_cookie("session", cookie)
    assert late.get("/destroy").status_code == 200
    assert client.get("/read").json == {}


def test_a_session_is_revoked_by_its_handle_from_before_whatever_the_clock_says(
    right: Flask, ahead: Flask
) -> None:
    client, _ = signed_in(right)
    handle = client.get("/handle").text
    client.get("/regenerate")
    with ahead.app_context():
        assert sessions_of(ahead).revoke(handle)
    assert client.get("/read").json == {}


def test_a_machine_without_the_key_ends_what_it_cannot_read(
    make_app: MakeApp, shared_backend: Running
) -> None:
    """As while a new encryption key is rolled out."""
    first, second = (
        make_app(shared_backend, SESSION_ENCRYPTION_KEYS=[letter * 43 + "="]) for letter in "km"
    )
    client, cookie = signed_in(first)
    other = second.test_client()
    other.set_cookie("session", cookie)
    assert other.get("/read").json == {}
    assert client.get("/read").json == {"_user_id": "ada", "cart": "full"}
    assert other.get("/destroy").status_code == 200
    assert client.get("/read").json == {}
