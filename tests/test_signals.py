"""What has happened to a session is told once, after the store has confirmed it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
from backends import Running
from flask import Flask
from test_life_of_a_request import handle_in
from test_life_of_a_request import store_of
from test_session import cookie_of
from test_session import in_a_view

import flask_serverside
from flask_serverside import current_session as session
from flask_serverside import session_saved
from flask_serverside import SessionConflict
from flask_serverside import StoreUnavailable

MakeApp = Callable[..., Flask]

SIGNALS = {
    name.removeprefix("session_"): value
    for name, value in vars(flask_serverside).items()
    if name.startswith("session_")
}


@contextmanager
def listening(app: Flask) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """All that is told by this application, and by no other."""
    told: list[tuple[str, dict[str, Any]]] = []
    with ExitStack() as stack:
        for name, signal in SIGNALS.items():

            def hear(sender: Flask, name: str = name, **what: Any) -> None:
                assert sender is app
                told.append((name, what))

            stack.enter_context(signal.connected_to(hear))
        yield told


def test_there_are_eight() -> None:
    assert sorted(SIGNALS) == [
        *("conflict", "created", "destroyed", "regenerated", "rejected", "reused"),
        *("revoked", "saved"),
    ]


def test_the_life_of_a_session(make_app: MakeApp, real_backend: Running) -> None:
    app = make_app(real_backend)
    client = app.test_client()
    with listening(app) as told:
        for path in ("/untouched", "/read", "/clear", "/destroy"):
            client.get(path)
        assert told == []
        client.get("/write?a=1")
        first = handle_in(cookie_of(client))
        client.get("/read")
        client.get("/write?a=1")
        client.get("/write?b=1")
        client.get("/write?_user_id=ada")
        second = handle_in(cookie_of(client))
        client.get("/regenerate")
        third = handle_in(cookie_of(client))
        client.get("/destroy")
    ada = {"subject": "ada"}
    assert told == [
        ("created", {"handle": first, "subject": None}),
        ("saved", {"handle": first, "subject": None}),
        ("regenerated", {"handle": second, **ada, "former": first, "reason": "subject"}),
        ("regenerated", {"handle": third, **ada, "former": second, "reason": "asked"}),
        ("destroyed", {"handle": third, **ada}),
    ]


@pytest.mark.parametrize("path", ["/clear", "/destroy"])
def test_an_end_is_told_once(make_app: MakeApp, path: str) -> None:
    app = make_app()
    client = app.test_client()
    client.get("/write?a=1")
    handle = handle_in(cookie_of(client))
    with listening(app) as told:
        client.get(path)
    assert told == [("destroyed", {"handle": handle, "subject": None})]


def test_what_the_last_key_is_taken_out_of_has_ended(make_app: MakeApp) -> None:
    app = make_app()
    client = app.test_client()
    client.get("/write?a=1")
    for act in (lambda: session.pop("a"), lambda: session.regenerate(keep=False)):
        client.get("/write?a=1")
        with listening(app) as told:
            in_a_view(app, client, act)
        assert [name for name, _ in told] == ["destroyed"]


def test_revoking_is_told_if_there_was_a_session(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend)
    client = app.test_client()
    client.get("/write?_user_id=ada")
    handle = handle_in(cookie_of(client))
    extension = app.extensions["flask_serverside"]
    with listening(app) as told, app.app_context():
        assert extension.revoke(handle)
        assert not extension.revoke(handle)
        assert not extension.revoke("0" * 64)
    assert told == [("revoked", {"handle": handle, "subject": "ada", "reason": "asked"})]


def test_nothing_is_told_that_did_not_happen(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    client = app.test_client()
    client.get("/write?a=1")

    def down(*arguments: Any) -> Any:
        raise StoreUnavailable("down")

    with listening(app) as told:
        with monkeypatch.context() as patch:
            for name in ("create", "replace", "end", "delete"):
                patch.setattr(store_of(app), name, down)
            for path in (
                "/write?a=2",
                "/regenerate",
                "/destroy",
                "/clear",
                "/write?_user_id=1",
            ):
                assert client.get(path).status_code == 503
            assert app.test_client().get("/write?a=1").status_code == 503
        assert told == []


def test_two_cookies_are_told_to_be_ambiguous(make_app: MakeApp) -> None:
    app = make_app()
    client = app.test_client(use_cookies=False)
    with listening(app) as told:
        client.get("/read", headers={"Cookie": "session=a; session=b"})
    nobody = {"handle": None, "subject": None}
    assert told == [("rejected", {**nobody, "reason": "ambiguous"})]


def test_a_conflict_that_is_refused_is_told_and_nothing_else(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="error")
    client, other = app.test_client(), app.test_client()
    client.get("/write?a=1")
    handle = handle_in(cookie_of(client))
    other.set_cookie("session", cookie_of(client))

    def view() -> None:
        session["a"] = 2
        other.get("/write?a=3")
        with pytest.raises(SessionConflict):
            session.save()

    with listening(app) as told:
        in_a_view(app, client, view)
    assert [name for name, _ in told] == ["saved", "conflict"]
    assert told[1][1] == {"handle": handle, "subject": None, "reason": "refused"}


def test_a_listener_that_fails_is_not_silenced_and_undoes_nothing(make_app: MakeApp) -> None:
    app = make_app()
    client = app.test_client()
    client.get("/write?a=1")

    def fail(sender: Flask, **what: Any) -> None:
        raise ZeroDivisionError

    with session_saved.connected_to(fail), pytest.raises(ZeroDivisionError):
        client.get("/write?a=2")
    assert client.get("/read").json == {"a": "2"}


def test_what_is_told_is_logged_with_the_handle_and_without_the_subject(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flask_serverside")
    app = make_app()
    client = app.test_client()
    client.get("/write?_user_id=a-name-that-is-personal")
    handle = handle_in(cookie_of(client))
    client.get("/regenerate")
    client.set_cookie("session", "rubbish")
    client.get("/read")
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    former = f"Session {handle_in_log(lines)} is the new name of one"
    assert lines == [
        ("DEBUG", f"Session {handle} is new."),
        ("INFO", f"{former}, former {handle}, reason asked."),
        ("INFO", "Session None is rejected, reason malformed."),
    ]


def handle_in_log(lines: list[tuple[str, str]]) -> str:
    return lines[1][1].split()[1]


def test_counting_them_takes_five_lines(make_app: MakeApp) -> None:
    text = (Path(__file__).parent.parent / "docs" / "troubleshooting.rst").read_text()
    _, start, example = text.partition("    from prometheus_client import Counter\n")
    lines = example.partition("\n\n``weak=False``")[0].splitlines()
    assert start
    assert len([line for line in lines if line.strip()]) <= 6  # one of them for its length
    counted: dict[tuple[str, str], int] = {}

    class Counter:
        def __init__(self, name: str, help: str, labels: list[str]) -> None:
            assert labels == ["event", "reason"]

        def labels(self, event: str, reason: str) -> Any:
            def inc() -> None:
                counted[event, reason] = counted.get((event, reason), 0) + 1

            return SimpleNamespace(inc=inc)

    before = {signal: dict(signal.receivers) for signal in SIGNALS.values()}
    exec(dedent("\n".join(lines)), {"Counter": Counter, "flask_serverside": flask_serverside})
    try:
        client = make_app().test_client()
        client.get("/write?a=1")
        client.get("/regenerate")
        client.set_cookie("session", "rubbish")
        client.get("/read")
    finally:
        for signal, receivers in before.items():
            signal.receivers = receivers
    expected = {("created", ""): 1, ("regenerated", "asked"): 1, ("rejected", "malformed"): 1}
    assert counted == expected
