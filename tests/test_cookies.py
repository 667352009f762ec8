"""What the client sends is never trusted, and what it is sent is right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask import session
from flask.testing import FlaskClient

from flask_serverside import ServerSideSessionInterface
from flask_serverside.testing import Clock
from flask_serverside.web.identity import handle_of
from flask_serverside.web.identity import Identity
from flask_serverside.web.identity import new_id

MakeApp = Callable[..., Flask]

SID = "A" * 43


def interface_of(app: Flask) -> ServerSideSessionInterface:
    assert isinstance(app.session_interface, ServerSideSessionInterface)
    return app.session_interface


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.fixture
def trips(app: Flask, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the operations that reach the store."""
    store = interface_of(app).store
    made: list[str] = []
    call = store._call
    monkeypatch.setattr(
        store,
        "_call",
        lambda primitive, *a, **o: made.append(primitive.__name__) or call(primitive, *a, **o),
    )
    return made


def signed(key: str, sid: str = SID) -> str:
    return Identity([key]).sign(sid)


HOSTILE = {
    "an id without signature": SID,
    "an id the attacker chose, signed with another key": signed("another key"),
    "a handle": handle_of(SID),
    "a handle with a signature": signed("another key", handle_of(SID)),
    "our signature on another id": "B" * 43 + signed("test")[43:],
    "Flask's own cookie": "eyJhIjoxfQ.aGVsbG8.dGhlcmUgaXMgbm90aGluZyBoZXJl",
    "10 kB": "A" * 10_000 + "." + "B" * 43,
    "10 kB of dots": "." * 10_000,
    "NUL bytes": "\0" * 43 + "." + "\0" * 43,
    "a NUL at the end": signed("test") + "\0",
    "a new line at the end": signed("test") + "%0A",
    "not ASCII": "ü" * 43 + "." + "é" * 43,
    "not ASCII, escaped": '"\\303\\274"',
    "nothing": "",
    "blanks": "   ",
    "a path": "../../../etc/passwd",
    "a Redis command": "*1\r\n$8\r\nFLUSHALL".replace("\r\n", "%0D%0A"),
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_a_cookie_that_we_did_not_sign_gives_a_fresh_session(
    app: Flask, trips: list[str], value: str
) -> None:
    client = app.test_client(use_cookies=False)
    header = f"session={value}".encode().decode("latin-1")
    answer = client.get("/read", headers={"Cookie": header})
    assert (answer.status_code, answer.json) == (200, {})
    assert trips == []
    assert "Set-Cookie" not in answer.headers
    answer = client.get("/write?a=1", headers={"Cookie": header})
    assert answer.status_code == 200
    assert trips == ["_create"]
    assert SID not in answer.headers["Set-Cookie"]


def test_two_different_cookies_of_one_name_give_a_fresh_session(
    app: Flask, trips: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    client = app.test_client()
    client.get("/write?a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    trips.clear()
    other = app.test_client(use_cookies=False)
    for both in (f"session={cookie.value}; session=x", f"session=x; session={cookie.value}"):
        answer = other.get("/read", headers={"Cookie": both})
        assert (answer.status_code, answer.json) == (200, {})
    assert trips == []
    assert "2 different cookies named session" in caplog.text
    assert cookie.value not in caplog.text
    same = f"session={cookie.value}; session={cookie.value}"
    assert other.get("/read", headers={"Cookie": same}).json == {"a": "1"}


def test_an_unknown_id_is_never_adopted(app: Flask) -> None:
    client = app.test_client()
    client.set_cookie("session", signed("test"))
    client.get("/write?a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    assert not cookie.value.startswith(SID)
    assert interface_of(app).store.load(handle_of(SID)) is None


def test_a_read_sets_no_cookie(app: Flask) -> None:
    client = app.test_client()
    client.get("/write?a=1")
    for path in ("/read", "/untouched", "/write?a=1"):
        assert "Set-Cookie" not in client.get(path).headers


def test_a_touch_moves_the_cookies_expiry(make_app: MakeApp) -> None:
    app = make_app(PERMANENT_SESSION_LIFETIME=100)
    interface_of(app).store.clock = clock = Clock()
    client = app.test_client()
    assert "Max-Age=100" in client.get("/write?a=1").headers["Set-Cookie"]
    clock.advance(9.999)
    assert "Set-Cookie" not in client.get("/read").headers
    clock.advance(0.001)
    assert "Max-Age=100" in client.get("/read").headers["Set-Cookie"]


def test_the_response_varies_on_the_cookie_if_the_session_was_accessed(app: Flask) -> None:
    client = app.test_client()
    for path in ("/read", "/write?a=1", "/read", "/append", "/clear"):
        assert "Cookie" in client.get(path).vary
    assert "Cookie" not in client.get("/untouched").vary


ATTRIBUTES: list[tuple[dict[str, Any], str]] = [
    ({}, "HttpOnly; Path=/; SameSite=Lax"),
    ({"SESSION_COOKIE_NAME": "sid"}, "HttpOnly; Path=/; SameSite=Lax"),
    ({"SESSION_COOKIE_SECURE": True}, "Secure; HttpOnly; Path=/; SameSite=Lax"),
    ({"SESSION_COOKIE_SECURE": "yes"}, "Secure; HttpOnly; Path=/; SameSite=Lax"),
    ({"SESSION_COOKIE_SECURE": "False"}, "HttpOnly; Path=/; SameSite=Lax"),
    ({"SESSION_COOKIE_HTTPONLY": False}, "Path=/; SameSite=Lax"),
    ({"SESSION_COOKIE_HTTPONLY": "no"}, "Path=/; SameSite=Lax"),
    ({"SESSION_COOKIE_PATH": "/shop"}, "HttpOnly; Path=/shop; SameSite=Lax"),
    ({"APPLICATION_ROOT": "/root"}, "HttpOnly; Path=/root; SameSite=Lax"),
    (
        {"SESSION_COOKIE_DOMAIN": "example.org"},
        "Domain=example.org; HttpOnly; Path=/; SameSite=Lax",
    ),
    ({"SESSION_COOKIE_SAMESITE": "Strict"}, "HttpOnly; Path=/; SameSite=Strict"),
    (
        {"SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": True},
        "Secure; HttpOnly; Path=/; SameSite=None",
    ),
    (
        {"SESSION_COOKIE_NAME": "__Host-session", "SESSION_COOKIE_SECURE": True},
        "Secure; HttpOnly; Path=/; SameSite=Lax",
    ),
]


@pytest.mark.parametrize(("config", "expected"), ATTRIBUTES)
def test_the_cookie_has_the_attributes_that_flask_documents(
    make_app: MakeApp, config: dict[str, Any], expected: str
) -> None:
    app = make_app(SESSION_PERMANENT=False, **config)
    name = config.get("SESSION_COOKIE_NAME", "session")
    client = app.test_client(use_cookies=False)
    setting = client.get("/write?a=1").headers["Set-Cookie"]
    value = setting.partition("=")[2].partition(";")[0]
    assert setting == f"{name}={value}; {expected}"
    clearing = client.get("/clear", headers={"Cookie": f"{name}={value}"}).headers["Set-Cookie"]
    assert clearing.startswith(f"{name}=; ")
    # Browsers drop a cookie only if all of this is as it was when they were given it.
    for attribute in expected.split("; "):
        assert attribute in clearing.split("; ")


def test_partitioned_is_honoured_where_flask_knows_it(make_app: MakeApp) -> None:
    app = make_app(SESSION_COOKIE_PARTITIONED=True, SESSION_COOKIE_SECURE=True)
    if "SESSION_COOKIE_PARTITIONED" not in Flask("x").config:
        return
    assert "Partitioned" in app.test_client().get("/write?a=1").headers["Set-Cookie"]


def test_a_permanent_session_has_a_cookie_with_an_age(make_app: MakeApp) -> None:
    setting = make_app(PERMANENT_SESSION_LIFETIME="3600").test_client().get("/write?a=1")
    assert "Max-Age=3600" in setting.headers["Set-Cookie"]


def test_a_session_that_is_not_permanent_ends_with_the_browser(make_app: MakeApp) -> None:
    app = make_app(SESSION_PERMANENT=False)
    client = app.test_client()
    setting = client.get("/write?a=1").headers["Set-Cookie"]
    assert "Max-Age" not in setting
    assert "Expires" not in setting
    assert "Set-Cookie" not in client.get("/write?a=2").headers


def test_permanent_can_be_chosen_for_a_session(make_app: MakeApp) -> None:
    app = make_app(SESSION_PERMANENT=False)

    @app.get("/remember")
    def remember() -> str:
        session.permanent = True
        return ""

    client = app.test_client()
    client.get("/write?a=1")
    assert "Max-Age" in client.get("/remember").headers["Set-Cookie"]
    assert client.get("/read").json == {"a": "1", "_permanent": True}


def test_permanent_alone_makes_no_session(make_app: MakeApp) -> None:
    for default in (True, False):
        app = make_app(SESSION_PERMANENT=default)

        @app.before_request
        def make_permanent() -> None:
            session.permanent = True

        assert "Set-Cookie" not in app.test_client().get("/untouched").headers


def test_without_a_secret_key_flask_explains(make_app: MakeApp) -> None:
    app = make_app(SECRET_KEY=None)
    client: FlaskClient = app.test_client()
    assert client.get("/untouched").status_code == 200
    with pytest.raises(RuntimeError, match="no secret key was set"):
        client.get("/write?a=1")


def test_the_id_is_nowhere_but_in_the_cookie(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    shown: list[str] = []

    @app.get("/show")
    def show() -> str:
        session["a"] = 1
        shown.extend([repr(session), str(session), f"{session}"])
        return session.sid  # type: ignore[attr-defined,no-any-return]

    sid = app.test_client().get("/show").text
    assert len(sid) == 43
    handle = handle_of(sid)
    assert all(sid not in text and handle in text for text in shown)
    store = interface_of(app).store
    assert sid not in repr(vars(store))
    assert sid not in caplog.text


def test_a_handle_is_the_sha256_of_the_id() -> None:
    assert handle_of(SID) == hashlib.sha256(SID.encode()).hexdigest()


def test_ids_are_long_and_do_not_repeat() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(sid) == 43 for sid in ids)
    assert len(new_id(16)) == 22


def test_no_cookie_is_kept_for_longer_than_browsers_do(make_app: MakeApp) -> None:
    client = make_app(PERMANENT_SESSION_LIFETIME=500 * 86400).test_client()
    setting = client.get("/write?a=1").headers["Set-Cookie"]
    assert "Max-Age=34560000;" in setting  # 400 days (RFC 6265bis, 5.5)
