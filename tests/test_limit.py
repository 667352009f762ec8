"""A user may have so many sessions, however many of them are begun at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from backends import Running
from flask import flash
from flask import Flask
from flask.testing import FlaskClient
from test_life_of_a_request import store_of
from test_listing import ada  # noqa: F401 - a fixture, used by its name
from test_listing import handle_of
from test_listing import sessions_of
from test_listing import signed_in
from test_rotation import heard
from test_session import cookie_of

from flask_serverside import ConfigurationError
from flask_serverside import current_session as session
from flask_serverside import Session
from flask_serverside import session_revoked
from flask_serverside import TooManySessions
from flask_serverside.sealing.envelope import Contents
from flask_serverside.sealing.envelope import Envelope
from flask_serverside.stores import END_OF_TIME
from flask_serverside.testing import at_once
from flask_serverside.testing import Clock
from flask_serverside.testing import new_record

MakeApp = Callable[..., Flask]

LOGINS, MOST, ROUNDS = 8, 3, 100


def limited(make_app: MakeApp, running: Running | None = None, **config: Any) -> Flask:
    app = make_app(running, **{"SESSION_MAX_PER_SUBJECT": MOST, **config})

    @app.get("/reauthenticated")
    def reauthenticated() -> str:
        session.reauthenticated()
        return ""

    @app.get("/sign-in-anew/<name>")
    def sign_in_anew(name: str) -> str:
        session.clear()
        session["_user_id"] = name
        return ""

    @app.get("/try-to-sign-in/<name>")
    def try_to_sign_in(name: str) -> str:
        session["_user_id"] = name
        try:
            session.save()
        except TooManySessions as error:
            flash(str(error))
            return str(session.subject)
        return "welcome"

    @app.errorhandler(TooManySessions)
    def too_many(error: TooManySessions) -> tuple[str, int]:
        app.config["told"] = app.config.get("told", 0) + 1
        flash(str(error))
        session.save()
        return f"{error.description}", 409

    return app


def alive(clients: list[FlaskClient]) -> list[bool]:
    return ["_user_id" in client.get("/read").json for client in clients]


def test_one_more_ends_the_oldest(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    clock = Clock()
    app = limited(make_app, indexed_backend)
    store_of(app).clock = clock
    clients = []
    for _ in range(MOST):
        clients.append(signed_in(app, ada))
        clock.advance(1)
    clients[0].get("/write?used=last")  # it is the oldest all the same
    oldest = handle_of(clients[0])
    told = heard(session_revoked, lambda: clients.append(signed_in(app, ada)))
    assert [(t["handle"], t["subject"], t["reason"]) for t in told] == [
        (oldest, ada, "overflow")
    ]
    assert alive(clients) == [False, True, True, True]


def test_one_more_is_refused(make_app: MakeApp, indexed_backend: Running, ada: str) -> None:
    app = limited(make_app, indexed_backend, SESSION_SUBJECT_OVERFLOW="refuse")
    clients = [signed_in(app, ada) for _ in range(MOST)]
    late = app.test_client()
    late.get("/write?cart=full")
    before = cookie_of(late)
    answer = late.get("/write", query_string={"_user_id": ada})
    assert answer.status_code == 409
    assert "3 times already" in answer.text
    assert len(late.get("/messages").json) == 1
    assert late.get("/read").json == {"cart": "full"}
    assert cookie_of(late) == before
    assert alive(clients) == [True] * MOST
    assert sessions_of(app).count(ada) == MOST
    clients[0].get("/destroy")
    assert late.get("/write", query_string={"_user_id": ada}).status_code == 200
    assert late.get("/read").json == {"cart": "full", "_user_id": ada}


def test_an_application_may_say_so_itself(make_app: MakeApp, ada: str) -> None:
    app = limited(make_app, SESSION_SUBJECT_OVERFLOW="refuse", SESSION_MAX_PER_SUBJECT=1)
    first, second = app.test_client(), app.test_client()
    assert first.get(f"/try-to-sign-in/{ada}").text == "welcome"
    second.get("/write?cart=full")
    answer = second.get(f"/try-to-sign-in/{ada}")
    assert (answer.status_code, answer.text) == (200, "None")
    [message] = second.get("/messages").json
    assert "once already" in message
    assert second.get("/read").json == {"cart": "full"}
    assert alive([first]) == [True]


@pytest.mark.parametrize("before", ["/untouched", "/write?cart=full"])
def test_the_answer_to_who_is_refused_may_write_to_the_session(
    make_app: MakeApp, indexed_backend: Running, ada: str, before: str
) -> None:
    config = {"SESSION_SUBJECT_OVERFLOW": "refuse", "SESSION_MAX_PER_SUBJECT": 1}
    app = limited(make_app, indexed_backend, **config)
    first, second = signed_in(app, ada), app.test_client()
    second.get(before)
    answer = second.get("/write", query_string={"_user_id": ada})
    assert (answer.status_code, app.config["told"]) == (409, 1)
    assert len(second.get("/messages").json) == 1
    assert second.get("/read").json == ({"cart": "full"} if "cart" in before else {})
    assert alive([first]) == [True]


def test_a_record_from_the_end_of_time_keeps_nobody_out(make_app: MakeApp, ada: str) -> None:
    app = limited(make_app)
    store = store_of(app)
    store.create(new_record(store, subject=ada, created=END_OF_TIME))
    assert alive([signed_in(app, ada)]) == [True]


def test_who_is_signed_in_already_is_not_one_more(
    make_app: MakeApp,
    indexed_backend: Running,
    ada: str,
) -> None:
    for overflow in ("evict", "refuse"):
        user = f"{ada} {overflow}"
        app = limited(make_app, indexed_backend, SESSION_SUBJECT_OVERFLOW=overflow)
        clients = [signed_in(app, user) for _ in range(MOST)]
        for path in ("/write?a=1", "/regenerate", "/reauthenticated", f"/sign-in-anew/{user}"):
            assert clients[0].get(path).status_code == 200
            assert alive(clients) == [True] * MOST, path


@pytest.mark.parametrize("overflow", ["evict", "refuse"])
def test_a_machine_whose_clock_is_behind_counts_right(
    make_app: MakeApp, indexed_backend: Running, ada: str, overflow: str
) -> None:
    apps = [
        limited(make_app, indexed_backend, SESSION_SUBJECT_OVERFLOW=overflow) for _ in range(2)
    ]
    if indexed_backend.name == "memory":
        apps[1] = apps[0]
    store_of(apps[0]).clock = Clock()
    clients = [signed_in(apps[0], ada) for _ in range(MOST)]
    behind = Clock()
    behind.advance(-600)
    store_of(apps[1]).clock = behind
    clients.append(signed_in(apps[1], ada))
    handles = {info.handle for info in sessions_of(apps[1]).list(ada)}
    kept = clients[1:] if overflow == "evict" else clients[:MOST]
    assert handles == {handle_of(client) for client in kept}


@pytest.mark.parametrize("overflow", ["evict", "refuse"])
def test_a_session_that_is_being_moved_counts_once(
    make_app: MakeApp, indexed_backend: Running, ada: str, overflow: str
) -> None:
    """At the moment in which it stands there under both of its ids."""
    for most in (1, 2):
        user = f"{ada} {most}"
        app = limited(
            make_app,
            indexed_backend,
            SESSION_SUBJECT_OVERFLOW=overflow,
            SESSION_MAX_PER_SUBJECT=most,
        )
        store, moving = store_of(app), signed_in(app, user)
        old = store.load(handle_of(moving))
        assert old is not None
        contents = Contents(b"data", old.created, former=bytes.fromhex(old.handle))
        new = new_record(store, subject=user, created=old.created)
        store.create(Envelope().close("", new, contents))
        another = app.test_client().get("/write", query_string={"_user_id": user})
        assert another.status_code == (409 if (overflow, most) == ("refuse", 1) else 200)
        left = {info.handle for info in sessions_of(app).list(user)}
        kept = {old.handle, new.handle} & left
        assert kept == (
            {old.handle} if (overflow, most) == ("evict", 1) else {old.handle, new.handle}
        )


def test_others_are_not_counted(make_app: MakeApp, indexed_backend: Running, ada: str) -> None:
    app = limited(make_app, indexed_backend)
    others = [signed_in(app, f"{ada}{n}") for n in range(5)]
    anonymous = [app.test_client() for _ in range(5)]
    for client in anonymous:
        client.get("/write?a=1")
    signed_in(app, ada)
    assert alive(others) == [True] * 5
    assert [client.get("/read").json for client in anonymous] == [{"a": "1"}] * 5


@pytest.mark.parametrize("overflow", ["evict", "refuse"])
@pytest.mark.parametrize("before", ["", "/write?cart=full"], ids=["new", "with a cart"])
def test_of_many_logins_at_once_so_many_are_left(
    make_app: MakeApp,
    indexed_backend: Running,
    ada: str,
    overflow: str,
    before: str,
) -> None:
    app = limited(make_app, indexed_backend, SESSION_SUBJECT_OVERFLOW=overflow)
    sessions = sessions_of(app)
    for number in range(10 if indexed_backend.backend.stand_in else ROUNDS):
        user = f"{ada} {number}"
        clients = [app.test_client() for _ in range(LOGINS)]
        for client in clients if before else []:
            client.get(before)

        def log_in(n: int, clients: list[FlaskClient] = clients, user: str = user) -> int:
            return clients[n].get("/write", query_string={"_user_id": user}).status_code

        codes = at_once(LOGINS, log_in)
        assert {*codes} <= ({200} if overflow == "evict" else {200, 409})
        left = {info.handle for info in sessions.list(user)}
        assert len(left) == MOST
        signed = [c for c in clients if c.get("/read").json.get("_user_id") == user]
        assert {handle_of(client) for client in signed} == left


def test_a_login_that_fails_ends_nobodys_session(
    make_app: MakeApp,
    ada: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = limited(make_app)
    clients = [signed_in(app, ada) for _ in range(MOST)]
    store = store_of(app)
    monkeypatch.setattr(store, "create", lambda record: False)
    with pytest.raises(Exception, match="already"):
        signed_in(app, ada)
    assert alive(clients) == [True] * MOST


def test_a_session_list_that_cannot_be_had_admits_nobody(
    make_app: MakeApp,
    ada: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flask_serverside import StoreUnavailable

    app = limited(make_app)
    store = store_of(app)

    def fail(*_: Any) -> Any:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(store, "_handles", fail)
    client = app.test_client()
    answer = client.get("/write", query_string={"_user_id": ada})
    assert answer.status_code == 503
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"SESSION_MAX_PER_SUBJECT": 0}, "SESSION_MAX_PER_SUBJECT = 0"),
        ({"SESSION_MAX_PER_SUBJECT": "many"}, "SESSION_MAX_PER_SUBJECT = 'many'"),
        ({"SESSION_SUBJECT_OVERFLOW": "ignore"}, "SESSION_SUBJECT_OVERFLOW = 'ignore'"),
        ({"SESSION_SUBJECT_KEY": None}, "SESSION_SUBJECT_KEY"),
        (
            {"SESSION_REGENERATE_ON_SUBJECT_CHANGE": "False"},
            "SESSION_REGENERATE_ON_SUBJECT_CHANGE",
        ),
        pytest.param(
            {"SESSION_TYPE": "memcached"},
            "MemcachedStore cannot list",
            marks=pytest.mark.group("memcached"),
        ),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused_at_start_up(
    config: dict[str, Any], named: str
) -> None:
    app = Flask("tests")
    app.config.update({"SECRET_KEY": "x", "SESSION_MAX_PER_SUBJECT": 3, **config})
    with pytest.raises(ConfigurationError, match=named):
        Session(app)


def test_a_limit_may_be_a_string(make_app: MakeApp, ada: str) -> None:
    app = limited(make_app, SESSION_MAX_PER_SUBJECT="1")
    clients = [signed_in(app, ada) for _ in range(2)]
    assert sum(alive(clients)) == 1
