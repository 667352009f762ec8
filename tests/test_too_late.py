"""A request whose session has ended, or goes on under another id, does what was asked of it
as far as that is safe, and no more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from backends import Running
from flask import flash
from flask import Flask
from flask.testing import FlaskClient
from test_life_of_a_request import handle_in
from test_life_of_a_request import is_alive
from test_life_of_a_request import store_of
from test_rotation import copy_of
from test_rotation import heard
from test_session import cookie_of
from test_session import in_a_view
from test_signals import listening

from flask_serverside import current_session as session
from flask_serverside import session_conflict
from flask_serverside import session_rejected
from flask_serverside import session_reused
from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.stores import Record
from flask_serverside.stores.memory import MemoryStore
from flask_serverside.testing import Clock
from flask_serverside.testing import new_record

MakeApp = Callable[..., Flask]

ROTATING = {"SESSION_ROTATION_INTERVAL": 100, "SESSION_ROTATION_GRACE": 10}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def app_with(make_app: MakeApp, clock: Clock, running: Any = None, **config: Any) -> Flask:
    app = make_app(running, **config)
    store_of(app).clock = clock
    return app


def user_of(app: Flask, path: str = "/write?_user_id=ada&a=1") -> FlaskClient:
    client = app.test_client()
    client.get(path)
    return client


def test_clearing_with_an_id_given_up_signs_out_whatever_is_written_then(
    make_app: MakeApp,
) -> None:
    app = make_app()
    client = user_of(app)
    late = copy_of(client)
    client.get("/regenerate")
    in_a_view(app, late, lambda: (session.clear(), flash("bye")))
    assert client.get("/read").json == {}


def test_destroying_with_an_id_given_up_ends_the_session_under_the_new_one(
    make_app: MakeApp,
) -> None:
    app = make_app()
    client = user_of(app)
    late = copy_of(client)
    client.get("/regenerate")
    late.get("/destroy")
    assert client.get("/read").json == {}


def test_clearing_while_another_gives_a_new_id_counts_whatever_is_written_then(
    make_app: MakeApp,
) -> None:
    app = make_app()
    client = user_of(app, "/write?a=1")
    other = copy_of(client)

    def view() -> None:
        session.clear()
        session["b"] = 1
        other.get("/regenerate")

    in_a_view(app, client, view)
    assert other.get("/read").json == {}


def test_who_only_reads_leaves_the_cookie_to_who_has_given_a_new_id_meanwhile(
    make_app: MakeApp, clock: Clock
) -> None:
    app = app_with(make_app, clock, **ROTATING)
    client = user_of(app)
    other = copy_of(client)
    before = cookie_of(client)
    clock.advance(100)

    def view() -> None:
        session.get("a")
        other.get("/regenerate")

    in_a_view(app, client, view)
    assert cookie_of(client) == before


@pytest.mark.parametrize("keep", [["cart"], False])
def test_beginning_anew_with_an_id_given_up_ends_nothing(make_app: MakeApp, keep: Any) -> None:
    app = make_app()
    client = user_of(app)
    late = copy_of(client)
    client.get("/regenerate")

    def view() -> None:
        session.regenerate(keep=keep)
        session["cart"] = 1

    in_a_view(app, late, (lambda: session.regenerate(keep=keep)) if keep else view)
    assert client.get("/read").json["_user_id"] == "ada"


@pytest.mark.parametrize("other", ["/destroy", "/write?_user_id=bob", "/regenerate"])
def test_who_destroys_a_session_and_signs_in_is_signed_in(
    make_app: MakeApp, other: str
) -> None:
    app = make_app()
    client = user_of(app, "/write?a=1")
    another = copy_of(client)

    def view() -> None:
        session.get("a")
        another.get(other)
        session.destroy()
        session["_user_id"] = "grace"

    in_a_view(app, client, view)
    assert client.get("/read").json == {"_user_id": "grace"}


def test_a_late_sign_out_counts_as_long_as_the_old_id_would_have_lived(
    make_app: MakeApp, real_backend: Running, clock: Clock
) -> None:
    app = app_with(make_app, clock, real_backend)
    for sign_out in (
        lambda: session.destroy(),
        lambda: session.clear(),
        lambda: session.pop("_user_id"),
    ):
        client = user_of(app)
        late = copy_of(client)

        def view(sign_out: Any = sign_out, client: Any = client) -> None:
            session.get("a")
            client.get("/regenerate")
            clock.advance(31)
            sign_out()

        in_a_view(app, late, view)
        assert "_user_id" not in client.get("/read").json


def test_an_id_given_up_keeps_others_from_the_cookie_for_30_seconds(
    make_app: MakeApp, real_backend: Running, clock: Clock
) -> None:
    app = app_with(make_app, clock, real_backend)
    client = user_of(app)
    late, later = copy_of(client), copy_of(client)
    client.get("/regenerate")
    clock.advance(29.999)
    assert "Set-Cookie" not in late.get("/write?b=1").headers
    clock.advance(0.001)
    assert "Set-Cookie" in later.get("/write?b=1").headers
    assert later.get("/read").json == {"b": "1"}


def test_a_thief_who_regenerates_is_noticed_all_the_same(
    make_app: MakeApp, real_backend: Running, clock: Clock
) -> None:
    app = app_with(make_app, clock, real_backend, **ROTATING)
    owner = user_of(app)
    thief = copy_of(owner)
    clock.advance(100)
    thief.get("/read")
    thief.get("/regenerate")
    clock.advance(3600)
    assert len(heard(session_reused, lambda: owner.get("/read"))) == 1
    assert thief.get("/read").json == {}


def test_reuse_ends_a_chain_of_any_length(make_app: MakeApp, clock: Clock) -> None:
    app = app_with(make_app, clock, **ROTATING)
    client = user_of(app)
    first = copy_of(client)
    for _ in range(300):
        clock.advance(100)
        client.get("/read")
    assert client.get("/read").json["a"] == "1"
    first.get("/read")
    assert client.get("/read").json == {}


def test_an_old_handle_revokes_at_the_end_of_a_chain_of_any_length(
    make_app: MakeApp, clock: Clock
) -> None:
    app = app_with(make_app, clock, **ROTATING)
    client = user_of(app)
    old = handle_in(cookie_of(client))
    for _ in range(200):
        clock.advance(100)
        client.get("/read")
    with app.app_context():
        assert app.extensions["flask_serverside"].revoke(old)
    assert client.get("/read").json == {}


@pytest.mark.parametrize("why", ["rotation", "encryption", "binding"])
def test_who_only_reads_takes_nothing_back_whatever_is_due(
    make_app: MakeApp, clock: Clock, why: str
) -> None:
    before = app_with(make_app, clock)
    client = user_of(before)
    config: dict[str, Any] = {
        "rotation": ROTATING,
        "encryption": {
            "SESSION_ENCRYPTION_KEYS": [b"k" * 32],
            "SESSION_ENCRYPTION_PLAINTEXT_UNTIL": "2099-01-01T00:00:00+00:00",
        },
        "binding": {"SESSION_BINDING": "user_agent"},
    }[why]
    app = app_with(make_app, clock, SESSION_ON_CONFLICT="last", **config)
    app.session_interface.store = store_of(before)  # type: ignore[attr-defined]
    reader, writer = app.test_client(), app.test_client()
    for one in (reader, writer):
        one.set_cookie("session", cookie_of(client))
    clock.advance(100)

    def view() -> None:
        session.get("a")
        writer.get("/write?b=2")

    in_a_view(app, reader, view)
    assert writer.get("/read").json == {"_user_id": "ada", "a": "1", "b": "2"}


@pytest.mark.parametrize("due", [True, False])
def test_who_only_reads_is_not_told_that_the_session_has_ended(
    make_app: MakeApp, clock: Clock, due: bool
) -> None:
    app = app_with(make_app, clock, SESSION_ON_GONE="raise", **ROTATING)
    client = user_of(app)
    other = copy_of(client)
    clock.advance(100 if due else 0)

    def view() -> None:
        session.get("a")
        other.get("/destroy")

    assert heard(session_conflict, lambda: in_a_view(app, client, view)) == []


def test_the_cookie_is_cleared_though_a_sign_out_that_was_late_raises(
    make_app: MakeApp,
) -> None:
    app = make_app(SESSION_ON_GONE="raise", PROPAGATE_EXCEPTIONS=False, TESTING=False)
    client, other = app.test_client(), app.test_client()

    @app.get("/out")
    def out() -> str:
        session.pop("_user_id")
        other.get("/regenerate")
        return ""

    client.get("/write?_user_id=ada&a=1")
    other.set_cookie("session", cookie_of(client))
    client.get("/out")
    assert client.get_cookie("session") is None
    assert other.get("/read").json == {}


@pytest.mark.parametrize(
    "sign_out",
    [lambda: session.pop("_user_id"), lambda: session.regenerate(keep=False)],
)
def test_nobody_is_fresh(make_app: MakeApp, clock: Clock, sign_out: Callable[[], Any]) -> None:
    app = app_with(make_app, clock)
    client = user_of(app)

    def view() -> None:
        session.reauthenticated()
        assert session.fresh(0)
        sign_out()
        assert session.authenticated_at is None
        session["b"] = 1

    in_a_view(app, client, view)
    assert in_a_view(app, client, lambda: session.authenticated_at) is None
    stranger = app.test_client()
    in_a_view(app, stranger, lambda: (session.reauthenticated(), session.update(b=1)))
    assert in_a_view(app, stranger, lambda: session.authenticated_at) is None


@pytest.mark.parametrize(
    "sign_in_again",
    [
        lambda: (session.clear(), session.update(_user_id="ada")),
        lambda: (session.regenerate(keep=False), session.update(_user_id="ada")),
        lambda: (session.regenerate(keep=["a"]), session.update(_user_id="ada")),
        lambda: (session.destroy(), session.update(_user_id="ada")),
    ],
)
def test_a_fresh_login_as_the_same_user_is_one(
    make_app: MakeApp, clock: Clock, sign_in_again: Callable[[], Any]
) -> None:
    app = app_with(make_app, clock, SESSION_ABSOLUTE_LIFETIME=1000)
    client = user_of(app)
    old = cookie_of(client)
    clock.advance(900)
    in_a_view(app, client, sign_in_again)
    assert in_a_view(app, client, lambda: session.fresh(0))
    assert not is_alive(app, handle_in(old))
    clock.advance(999)
    assert client.get("/read").json["_user_id"] == "ada"


def test_a_lifetime_of_ones_own_is_not_inherited(make_app: MakeApp) -> None:
    app = make_app(PERMANENT_SESSION_LIFETIME=3600)
    client = user_of(app)
    in_a_view(app, client, lambda: setattr(session, "lifetime", timedelta(days=30)))
    in_a_view(app, client, lambda: session.pop("_user_id"))
    assert in_a_view(app, client, lambda: session.lifetime) == timedelta(hours=1)
    in_a_view(app, client, lambda: setattr(session, "lifetime", timedelta(days=30)))
    client.get("/write?_user_id=bob")
    assert in_a_view(app, client, lambda: session.lifetime) == timedelta(hours=1)


def test_rotation_extends_a_session_only_where_reading_does(
    make_app: MakeApp, clock: Clock
) -> None:
    config = {**ROTATING, "PERMANENT_SESSION_LIFETIME": 1000}
    app = app_with(make_app, clock, SESSION_REFRESH_EACH_REQUEST=False, **config)
    client = user_of(app)
    for _ in range(9):
        clock.advance(100)
        assert client.get("/read").json["a"] == "1"
    clock.advance(99.999)
    assert client.get("/read").json["a"] == "1"
    clock.advance(0.001)
    assert client.get("/read").json == {}


def test_a_session_that_is_only_read_may_be_too_large(
    make_app: MakeApp, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    before = app_with(make_app, clock)
    client = user_of(before, "/write?a=" + "x" * 500)
    app = app_with(make_app, clock, **ROTATING)
    app.session_interface.store = store_of(before)  # type: ignore[attr-defined]
    store_of(app).max_size = 100
    reader = app.test_client()
    reader.set_cookie("session", cookie_of(client))
    clock.advance(100)
    for _ in range(2):
        assert reader.get("/read").json == {"a": "x" * 500}
    assert "A session that was only read is left as it is" in caplog.text
    assert reader.get("/destroy").status_code == 200
    assert reader.get("/read").json == {}


def test_whom_a_session_is_not_bound_to_does_not_end_it(
    make_app: MakeApp, clock: Clock
) -> None:
    app = app_with(make_app, clock, SESSION_BINDING="user_agent", **ROTATING)
    client, mine = app.test_client(), {"User-Agent": "mine"}
    client.get("/write?a=1", headers=mine)
    thief = copy_of(client)
    clock.advance(100)
    client.get("/read", headers=mine)
    sent = heard(session_rejected, lambda: thief.get("/destroy", headers={"User-Agent": "x"}))
    assert [what["reason"] for what in sent] == ["binding"]
    assert client.get("/read", headers=mine).json == {"a": "1"}


def test_an_atomic_function_that_fails_in_the_end_leaves_no_new_id_behind(
    make_app: MakeApp,
) -> None:
    app = make_app()
    client = user_of(app, "/write?a=1")
    before, other = cookie_of(client), copy_of(client)
    calls: list[int] = []

    def sign_in(session: Any) -> None:
        calls.append(1)
        session["_user_id"] = "ada"
        if len(calls) > 1:
            raise ZeroDivisionError
        other.get("/write?b=2")  # so that the id is not superseded at the first try

    def view() -> None:
        with pytest.raises(ZeroDivisionError):
            session.atomic(sign_in)

    with listening(app) as told:
        in_a_view(app, client, view)
    assert [name for name, _ in told] == ["saved", "conflict"]
    assert cookie_of(client) == before
    assert client.get("/read").json == {"a": "1", "b": "2"}
    assert len(store_of(app)) == 1


@pytest.mark.parametrize("sign_out", ["destroy", "clear"])
def test_a_sign_out_that_nobody_knows_the_outcome_of_is_no_success(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, sign_out: str
) -> None:
    """Also where the view catches the error and answers as if all was well."""
    app = make_app()
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @app.get("/sign-out")
    def leave() -> str:
        session.get("a")

        def fail(record: Record) -> Record | None:
            raise StoreUnavailable("no answer")

        with monkeypatch.context() as down:
            down.setattr(store_of(app), "_replace", fail)
            with contextlib.suppress(StoreUnavailable):
                getattr(session, sign_out)()
                session.save()
        return "signed out"

    client = user_of(app)
    before = cookie_of(client)
    answer = client.get("/sign-out")
    assert answer.status_code == 503
    assert "Set-Cookie" not in answer.headers
    assert cookie_of(client) == before


def test_an_error_of_a_store_of_the_applications_own_says_nothing_of_ours(
    make_app: MakeApp,
) -> None:
    app = make_app()
    client = user_of(app)

    def fail(session: Any) -> None:
        raise StoreUnavailable("not this one")

    def view() -> None:
        with contextlib.suppress(StoreUnavailable):
            session.atomic(fail)
        session["a"] = "2"

    in_a_view(app, client, view)
    assert client.get("/read").json == {"_user_id": "ada", "a": "2"}


def test_a_clock_that_is_ahead_makes_nobody_fresh(make_app: MakeApp, clock: Clock) -> None:
    app = app_with(make_app, clock)
    clock.advance(3600)
    client = user_of(app)
    clock.advance(-3600)
    assert not in_a_view(app, client, lambda: session.fresh(5))


def test_a_reuse_is_acted_upon_before_it_is_told(make_app: MakeApp, clock: Clock) -> None:
    app = app_with(make_app, clock, **ROTATING)
    client = user_of(app)
    thief = copy_of(client)
    clock.advance(100)
    client.get("/read")
    clock.advance(10)

    def fail(sender: Flask, **what: Any) -> None:
        raise ZeroDivisionError

    with session_reused.connected_to(fail), pytest.raises(ZeroDivisionError):
        thief.get("/read")
    assert client.get("/read").json == {}


def test_a_sign_out_is_not_undone_by_who_saves_all_of_his(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="last", SESSION_REGENERATE_ON_SUBJECT_CHANGE=False)
    client = user_of(app)
    other = copy_of(client)

    def view() -> None:
        session["b"] = 1
        in_a_view(app, other, lambda: session.pop("_user_id"))

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": "1", "b": 1}


@pytest.mark.parametrize("before", ["", "_user_id=eve&"])
def test_who_has_signed_in_is_not_signed_out_by_who_saves_all_of_his(
    make_app: MakeApp, before: str
) -> None:
    app = make_app(SESSION_ON_CONFLICT="last", SESSION_REGENERATE_ON_SUBJECT_CHANGE=False)
    client = user_of(app, f"/write?{before}a=1")
    other = copy_of(client)

    def view() -> None:
        session["b"] = 1
        other.get("/write?_user_id=ada&c=1")

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": "1", "b": 1, "c": "1", "_user_id": "ada"}


@pytest.mark.parametrize("moves", [True, False])
def test_who_signs_in_saving_all_of_his_is_not_kept_out_by_another_save(
    make_app: MakeApp, moves: bool
) -> None:
    app = make_app(SESSION_ON_CONFLICT="last", SESSION_REGENERATE_ON_SUBJECT_CHANGE=moves)
    client = user_of(app, "/write?a=1")
    other = copy_of(client)

    def view() -> None:
        session["_user_id"] = "ada"
        other.get("/write?b=2")

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": "1", "_user_id": "ada"}


def test_the_memory_store_drops_sessions_that_have_ended_first() -> None:
    store = MemoryStore(threshold=5)
    alive = [new_record(store) for _ in range(4)]
    for record in alive:
        store.create(record)
    for _ in range(10):
        ended = new_record(store)
        store.create(ended)
        store.replace(ended.tombstone(store.now(), 10**6))
    assert all(store.load(record.handle) is not None for record in alive)
    assert len(store) == 5


@pytest.mark.parametrize("sign_out", [lambda: session.destroy(), lambda: session.clear()])
def test_a_sign_out_counts_though_the_session_was_found_gone_before(
    make_app: MakeApp, sign_out: Callable[[], Any]
) -> None:
    app = make_app()
    client = user_of(app)
    other = copy_of(client)

    def view() -> None:
        session["n"] = 1
        other.get("/regenerate")
        session.save()
        sign_out()

    in_a_view(app, client, view)
    assert other.get("/read").json == {}


def test_a_sign_in_counts_though_the_session_was_found_gone_before(make_app: MakeApp) -> None:
    app = make_app()
    client = user_of(app, "/write?a=1")
    other = copy_of(client)

    def view() -> None:
        session["n"] = 1
        other.get("/write?_user_id=ada")
        session.save()
        session["_user_id"] = "ada"

    in_a_view(app, client, view)
    assert client.get("/read").json == {"_user_id": "ada"}


def test_signing_in_twice_as_the_same_user_ends_nobody(make_app: MakeApp) -> None:
    app = make_app()
    client = user_of(app)
    late = copy_of(client)

    def sign_in() -> None:
        session.clear()
        session["_user_id"] = "ada"

    in_a_view(app, client, sign_in)
    in_a_view(app, late, sign_in)
    assert client.get("/read").json == {"_user_id": "ada"}


def test_nobodys_data_goes_to_who_has_signed_in_meanwhile(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="last", SESSION_REGENERATE_ON_SUBJECT_CHANGE=False)
    client = user_of(app, "/write?_user_id=ada&private=1")
    other = copy_of(client)

    def view() -> None:
        session["x"] = 1
        in_a_view(app, other, lambda: (session.clear(), session.update(_user_id="bob")))

    in_a_view(app, client, view)
    assert client.get("/read").json == {"_user_id": "bob", "x": 1}


def test_the_memory_store_does_not_grow_by_what_it_drops() -> None:
    store = MemoryStore(threshold=5)
    for _ in range(5000):
        record = new_record(store)
        store.create(record)
        store.replace(record.tombstone(store.now(), 10**6))
    assert len(store._queue) < 2000


def test_a_new_id_that_the_store_refuses_is_not_worth_a_request_that_only_reads(
    make_app: MakeApp, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_with(make_app, clock, **ROTATING)
    client = user_of(app)
    clock.advance(100)

    def refuse(record: Any) -> bool:
        raise StoreError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(store_of(app), "create", refuse)
        assert client.get("/read").json == {"_user_id": "ada", "a": "1"}
    old = cookie_of(client)
    assert client.get("/read").json == {"_user_id": "ada", "a": "1"}
    assert cookie_of(client) != old
