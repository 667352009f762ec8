"""Any two things that a view may do, one after the other, with another request in between."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from flask import flash
from flask import Flask
from flask import get_flashed_messages
from flask.testing import FlaskClient
from interleaving import SteppedStore
from test_conflicts import count
from test_life_of_a_request import handle_in
from views import add_views

from flask_serverside import current_session as session
from flask_serverside import Session

pytestmark = pytest.mark.group("memory")


def sign_in() -> None:
    session.regenerate()
    session["_user_id"] = "grace"


ACTIONS: dict[str, Callable[[], Any]] = {
    "read": lambda: session.get("a"),
    "set": lambda: session.update(b=2),
    "delete": lambda: session.pop("a", None),
    "flash": lambda: flash("hello"),
    "show": lambda: get_flashed_messages(),
    "atomic": lambda: session.atomic(count),
    "save": lambda: session.save(),
    "reload": lambda: session.reload(),
    "touch": lambda: session.touch(),
    "lifetime": lambda: setattr(session, "lifetime", 1000),
    "permanent": lambda: setattr(session, "permanent", False),
    "clear": lambda: session.clear(),
    "destroy": lambda: session.destroy(),
    "regenerate": lambda: session.regenerate(),
    "begin anew": lambda: session.regenerate(keep=False),
    "sign in": sign_in,
}
#: What another request of the same browser does meanwhile.
ENDING = ("/clear", "/destroy", "/regenerate")
OTHERS = ("/untouched", "/write?c=3", "/flash", "/messages", *ENDING)
#: What is done to the store at once, and not when the request ends.
AT_ONCE = ("touch", "save", "atomic", "show")
BEGINNINGS: dict[str, dict[str, Any] | None] = {
    "nothing": None,
    "a visitor": {"a": 1},
    "a user": {"a": 1, "_user_id": "ada", "_flashes": [("message", "hello")]},
}

#: What the view does now.
todo: list[Callable[[], Any]] = []


@functools.cache
def make_app() -> Flask:
    app = Flask("sequences")
    app.config.update(SECRET_KEY="test", TESTING=True, SESSION_TYPE=SteppedStore())
    Session(app)
    add_views(app)

    @app.get("/do")
    def do() -> str:
        for action in todo:
            action()
        return ""

    return app


def client_with(data: dict[str, Any] | None) -> FlaskClient:
    app = make_app()
    app.config["SESSION_TYPE"].forget_all()
    client = app.test_client()
    if data is not None:
        with client.session_transaction() as transaction:
            transaction.update(data)
    return client


def handle_of_cookie(client: FlaskClient) -> str | None:
    cookie = client.get_cookie("session")
    return cookie and handle_in(cookie.value)


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("other", OTHERS)
def test_no_session_is_left_that_nobody_has_the_cookie_of(beginning: str, other: str) -> None:
    for first, second in itertools.product(ACTIONS, repeat=2):
        for position in (1, 2) if BEGINNINGS[beginning] else (1,):
            client = client_with(BEGINNINGS[beginning])
            app, old = client.application, client.get_cookie("session")
            another = app.test_client()
            if old is not None:
                another.set_cookie("session", old.value)
            # Looked at first: what happens before that is another request's business.
            todo[:] = [ACTIONS["read"], ACTIONS[first], ACTIONS[second]]
            todo.insert(1 + position, lambda path=other, a=another: a.get(path))
            answer = client.get("/do")
            assert answer.status_code == 200
            what = f"{first}, {second}, {other} after {position}"
            records = app.config["SESSION_TYPE"].kept()
            alive = {record.handle for record in records if not record.ended}
            assert alive <= {handle_of_cookie(client), handle_of_cookie(another)}, what
            # A cookie that was owed before the end, if nothing was stored after it.
            owed = other in ENDING and {*(first, second)[:position]} & {*AT_ONCE}
            if "Set-Cookie" in answer.headers and client.get_cookie("session"):
                assert owed or handle_of_cookie(client) in alive, what
            if other in ("/clear", "/destroy"):
                assert not [r for r in records if not r.ended and r.subject == "ada"], what
