"""A session can be bound to the client that began it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from backends import Running
from flask import Flask
from flask import Request
from test_life_of_a_request import handle_in
from test_life_of_a_request import store_of
from test_rotation import heard
from test_session import cookie_of

from flask_serverside import ConfigurationError
from flask_serverside import session_rejected
from flask_serverside.testing import Clock

MakeApp = Callable[..., Flask]

FIREFOX, OTHER = {"User-Agent": "Firefox"}, {"User-Agent": "curl"}


def address(request: Request) -> str | None:
    return request.remote_addr


def test_the_cookie_is_of_no_use_to_another_user_agent(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend, SESSION_BINDING="user_agent", SESSION_ROTATION_INTERVAL=100)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1", headers=FIREFOX)
    for path in ("/write?b=1", "/regenerate", "/read", "/write?_user_id=ada"):
        clock.advance(100)
        client.get(path, headers=FIREFOX)
        thief = app.test_client()
        thief.set_cookie("session", cookie_of(client))
        handle = handle_in(cookie_of(client))
        for headers in (OTHER, {"User-Agent": ""}, {"User-Agent": "firefox"}):
            stolen: list[Any] = []
            sent = heard(
                session_rejected,
                lambda t=thief, h=headers, s=stolen: s.append(t.get("/read", headers=h)),
            )
            assert stolen[0].json == {}
            assert [(what["handle"], what["reason"]) for what in sent] == [(handle, "binding")]
        assert "a" in client.get("/read", headers=FIREFOX).json


def test_it_may_be_bound_to_whatever_a_function_says(make_app: MakeApp) -> None:
    for binding in (address, f"{__name__}:address"):
        app = make_app(SESSION_BINDING=binding)
        client = app.test_client()
        client.get("/write?a=1")
        elsewhere = {"REMOTE_ADDR": "192.0.2.1"}
        assert client.get("/read", headers=OTHER).json == {"a": "1"}
        assert client.get("/read", environ_overrides=elsewhere).json == {}


def test_it_is_off_by_default(make_app: MakeApp) -> None:
    client = make_app().test_client()
    client.get("/write?a=1", headers=FIREFOX)
    assert client.get("/read", headers=OTHER).json == {"a": "1"}


def test_a_session_from_before_is_bound_when_it_is_used_first(make_app: MakeApp) -> None:
    before = make_app()
    unbound = before.test_client()
    unbound.get("/write?a=1", headers=FIREFOX)
    app = make_app(SESSION_BINDING="user_agent")
    app.session_interface.store = store_of(before)  # type: ignore[attr-defined]
    client = app.test_client()
    client.set_cookie("session", cookie_of(unbound))
    assert client.get("/read", headers=FIREFOX).json == {"a": "1"}
    assert client.get("/read", headers=OTHER).json == {}
    assert client.get("/read", headers=FIREFOX).json == {"a": "1"}


def test_what_the_client_said_does_not_stand_in_the_store(make_app: MakeApp) -> None:
    app = make_app(SESSION_BINDING="user_agent")
    one, two = app.test_client(), app.test_client()
    marks = []
    for client in (one, two):
        client.get("/write?a=1", headers=FIREFOX)
        record = store_of(app).load(handle_in(cookie_of(client)))
        assert record is not None
        assert b"Firefox" not in record.pack()
        marks.append(record.payload[30:46])
    assert marks[0] != marks[1]  # nor does it tell that two sessions are of one client


@pytest.mark.parametrize("value", ["", "ip", "nowhere:at_all", 5, True])
def test_a_binding_that_is_none_is_refused(make_app: MakeApp, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"SESSION_BINDING.*user_agent"):
        make_app(SESSION_BINDING=value)


def test_a_user_agent_of_any_bytes_is_one(make_app: MakeApp) -> None:
    client = make_app(SESSION_BINDING="user_agent").test_client()
    strange = {"HTTP_USER_AGENT": "\udcff\x80é\0"}
    client.get("/write?a=1", environ_overrides=strange)
    assert client.get("/read", environ_overrides=strange).json == {"a": "1"}


def test_who_is_rejected_is_named(make_app: MakeApp) -> None:
    client = make_app(SESSION_BINDING="user_agent").test_client()
    client.get("/write?_user_id=ada", headers=FIREFOX)
    sent = heard(session_rejected, lambda: client.get("/read", headers=OTHER))
    assert [(what["subject"], what["reason"]) for what in sent] == [("ada", "binding")]
