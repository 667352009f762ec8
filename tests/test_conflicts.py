"""Somebody else saves, or ends, the session while a request has it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from backends import Running
from flask import flash
from flask import Flask
from flask import get_flashed_messages
from flask.testing import FlaskClient
from test_life_of_a_request import is_alive
from test_life_of_a_request import store_of
from test_session import data_of
from test_session import in_a_view
from test_session import meanwhile

from flask_serverside import ConfigurationError
from flask_serverside import current_session as session
from flask_serverside import MISSING
from flask_serverside import session_conflict
from flask_serverside import SessionConflict
from flask_serverside import SessionError
from flask_serverside import SessionGone
from flask_serverside import SessionTooLarge
from flask_serverside.testing import at_once
from flask_serverside.testing import Clock

MakeApp = Callable[..., Flask]


def end_meanwhile(app: Flask) -> None:
    record = store_of(app).load(session.handle)
    assert record is not None
    assert store_of(app).end(record)


def sign_in() -> None:
    session.regenerate()
    session["_user_id"] = "ada"


def client_of(app: Flask, **data: Any) -> FlaskClient:
    client = app.test_client()
    with client.session_transaction() as transaction:
        transaction.update({"a": 1, **data})
    return client


def reasons(app: Flask, client: FlaskClient, view: Callable[[], Any]) -> list[tuple[Any, ...]]:
    """The signals that were sent while the view was called."""
    heard = []

    def hear(sender: Flask, **what: Any) -> None:
        heard.append((sender, *what.values()))

    with session_conflict.connected_to(hear):
        in_a_view(app, client, view)
    return heard


# -- one key, changed on both sides


def both_change(app: Flask, client: FlaskClient) -> None:
    def view() -> None:
        session.update(a="mine", b="mine")
        meanwhile(app, lambda theirs: theirs.update(a="theirs", c="theirs"))

    in_a_view(app, client, view)


def test_merging_the_later_save_wins_for_the_key_alone(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)
    both_change(app, client)
    assert client.get("/read").json == {"a": "mine", "b": "mine", "c": "theirs"}


def test_with_last_all_of_mine_is_kept(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="last")
    client = client_of(app)
    both_change(app, client)
    assert client.get("/read").json == {"a": "mine", "b": "mine"}


def test_with_error_nothing_of_mine_is_kept(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="error")
    client = client_of(app)

    def view() -> None:
        session.update(a="mine", b="mine")
        meanwhile(app, lambda theirs: theirs.update(a="theirs", c="theirs"))
        with pytest.raises(SessionConflict, match=r"session\['a'\]"):
            session.save()

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": "theirs", "c": "theirs"}


def test_with_error_different_keys_are_no_conflict(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="error")
    client = client_of(app)

    def view() -> None:
        session["b"] = "mine"
        meanwhile(app, lambda theirs: theirs.update(c="theirs"))

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 1, "b": "mine", "c": "theirs"}


def test_a_conflict_is_answered_by_the_applications_handler(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="error")
    client = client_of(app)

    @app.get("/change")
    def change() -> str:
        session["a"] = "mine"
        meanwhile(app, lambda theirs: theirs.update(a="theirs"))
        return "changed"

    @app.errorhandler(SessionConflict)
    def sorry(error: SessionConflict) -> tuple[str, int]:
        return "somebody was faster", 409

    answer = client.get("/change")
    assert (answer.status_code, answer.text) == (409, "somebody was faster")
    assert client.get("/read").json == {"a": "theirs"}


def add_up(key: str, base: Any, mine: Any, theirs: Any) -> Any:
    if key == "gone":
        assert (base, mine) == ("x", MISSING)
        return MISSING
    return mine + theirs - (0 if base is MISSING else base)


@pytest.mark.parametrize("function", [add_up, "test_conflicts:add_up"])
def test_a_function_decides_about_one_key(make_app: MakeApp, function: object) -> None:
    app = make_app(SESSION_ON_CONFLICT=function)
    client = client_of(app, gone="x")

    def view() -> None:
        session.update(a=10, new=1)
        del session["gone"]
        meanwhile(app, lambda theirs: theirs.update(a=100, new=2, gone="y"))

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 109, "new": 3}


@pytest.mark.parametrize("value", ["megre", "no.such:function", "flask_serverside:nobody", 7])
def test_a_policy_that_is_none_is_refused(make_app: MakeApp, value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"SESSION_ON_CONFLICT = .*merge, error, last"):
        make_app(SESSION_ON_CONFLICT=value)
    with pytest.raises(ConfigurationError, match=r"SESSION_ON_GONE = .*drop, raise"):
        make_app(SESSION_ON_GONE=value)


def test_clearing_takes_what_others_have_added_meanwhile(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)
    handles = []

    def view() -> None:
        session.clear()
        handles.append(session.handle)
        meanwhile(app, lambda theirs: theirs.update(b="theirs"))

    in_a_view(app, client, view)
    assert not is_alive(app, handles[0])
    assert client.get_cookie("session") is None


def test_deleting_the_last_key_leaves_what_others_have_added(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)

    def view() -> None:
        del session["a"]
        meanwhile(app, lambda theirs: theirs.update(b="theirs"))

    in_a_view(app, client, view)
    assert client.get("/read").json == {"b": "theirs"}


def test_a_new_id_brings_along_what_others_have_saved(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)
    client = client_of(app)

    def view() -> None:
        session.regenerate()
        meanwhile(app, lambda theirs: theirs.update(b="theirs"), handle=old)

    old = in_a_view(app, client, lambda: session.handle)
    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 1, "b": "theirs"}
    assert not is_alive(app, old)


def test_what_others_have_not_changed_stays_the_very_object(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app, cart=[1])

    def view() -> None:
        cart = session["cart"]
        session["a"] = 2
        meanwhile(app, lambda theirs: theirs.update(b="theirs"))
        session.save()
        cart.append(2)

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 2, "b": "theirs", "cart": [1, 2]}


# -- what is heard of it


def test_each_conflict_is_signalled(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app, _user_id="ada")
    handle = in_a_view(app, client, lambda: session.handle)

    def merged() -> None:
        session["b"] = 1
        meanwhile(app, lambda theirs: theirs.update(c=1))

    def overwritten() -> None:
        session.clear()
        session.update(d=1, _user_id="ada")
        meanwhile(app, lambda theirs: theirs.update(c=2))

    def gone() -> None:
        session["b"] = 2
        end_meanwhile(app)

    def refused() -> None:
        session["a"] = "mine"
        meanwhile(app, lambda theirs: theirs.update(a="theirs"))
        with pytest.raises(SessionConflict):
            session.save()

    assert reasons(app, client, merged) == [(app, handle, "ada", "merged")]
    assert reasons(app, client, overwritten) == [(app, handle, "ada", "overwritten")]
    handle = in_a_view(app, client, lambda: session.handle)  # ada has signed in anew
    assert reasons(app, client, gone) == [(app, handle, "ada", "gone")]
    app = make_app(SESSION_ON_CONFLICT="error")
    assert [reason for *_, reason in reasons(app, client_of(app), refused)] == ["refused"]
    app = make_app(SESSION_ON_CONFLICT="last")
    assert [reason for *_, reason in reasons(app, client_of(app), merged)] == ["overwritten"]


# -- gone


def test_changes_of_a_session_that_has_ended_are_dropped_and_said_to_be(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    client = client_of(app)

    def view() -> str:
        session["a"] = 2
        handle = session.handle
        end_meanwhile(app)
        session.save()
        assert dict(session) == {}
        session["b"] = 3
        return handle

    with caplog.at_level(logging.INFO, "flask_serverside"):
        handle = in_a_view(app, client, view)
    assert f"Session {handle} has ended meanwhile: changes are dropped." in caplog.messages
    assert client.get("/read").json == {}


def test_with_raise_the_request_is_told(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_GONE="raise")

    @app.get("/change")
    def change() -> str:
        session["a"] = 2
        end_meanwhile(app)
        return "changed"

    @app.errorhandler(SessionGone)
    def sorry(error: SessionGone) -> tuple[str, int]:
        return "sign in again", 401

    answer = client_of(app).get("/change")
    assert (answer.status_code, answer.text) == (401, "sign in again")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("how", ["touch", "save", "atomic", "reload", "regenerate"])
def test_nothing_revives_a_session_that_has_ended(
    make_app: MakeApp, backend: Running, how: str
) -> None:
    app = make_app(backend)
    client = client_of(app)
    cookie = client.get_cookie("session")
    assert cookie is not None

    def view() -> None:
        session["a"] = 2
        end_meanwhile(app)
        act = getattr(session, how)
        act(lambda session: session.update(b=1)) if how == "atomic" else act()

    in_a_view(app, client, view)
    assert client.get_cookie("session") == cookie
    assert client.get("/read").json == {}


def test_who_carries_a_dead_id_leaves_the_cookie_alone_until_it_is_forgotten(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)
    store_of(app).clock = clock = Clock()
    client = client_of(app)
    late = client.get_cookie("session")
    assert late is not None
    in_a_view(app, client, lambda: session.destroy())
    client.set_cookie("session", late.value)
    for path in ("/read", "/write?a=1", "/clear"):
        assert "Set-Cookie" not in client.get(path).headers
    clock.advance(30)
    assert "Set-Cookie" in client.get("/write?a=1").headers
    assert client.get("/read").json == {"a": "1"}


def test_who_signs_in_begins_a_session_of_their_own(make_app: MakeApp) -> None:
    """After a form that was sent twice, or an answer that never arrived."""
    app = make_app()
    client = client_of(app)

    late = client.get_cookie("session")
    assert late is not None
    in_a_view(app, client, sign_in)
    client.set_cookie("session", late.value)
    in_a_view(app, client, sign_in)
    assert client.get("/read").json == {"_user_id": "ada"}


def test_a_revoked_session_may_sign_in_again_at_once(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)
    client = client_of(app)
    handle = in_a_view(app, client, lambda: session.handle)
    extension = app.extensions["flask_serverside"]
    with app.app_context():
        assert extension.revoke(handle)
        assert not extension.revoke(handle)
        assert not extension.revoke("0" * 64)
    assert client.get("/read").json == {}
    client.get("/write?a=2")
    assert client.get("/read").json == {"a": "2"}


def test_revoking_reaches_a_session_under_its_new_id(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)
    handle = in_a_view(app, client, lambda: session.handle)
    in_a_view(app, client, lambda: session.regenerate())
    with app.app_context():
        assert app.extensions["flask_serverside"].revoke(handle)
    assert client.get("/read").json == {}


def test_an_id_from_before_signing_in_cannot_end_the_session_after_it(
    make_app: MakeApp,
) -> None:
    app = make_app()
    client, planted = client_of(app), app.test_client()
    cookie = client.get_cookie("session")
    assert cookie is not None
    planted.set_cookie("session", cookie.value)

    in_a_view(app, client, sign_in)
    in_a_view(app, planted, lambda: session.destroy())
    assert client.get("/read").json == {"a": 1, "_user_id": "ada"}


# -- atomic


def count(session: Any) -> int:
    session["count"] = session.get("count", 0) + 1
    number: int = session["count"]
    return number


def test_a_counter_that_eight_count_to_a_thousand_reads_a_thousand(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend)
    client = client_of(app)
    cookie = client.get_cookie("session")
    assert cookie is not None

    @app.get("/increment")
    def view() -> str:
        return str(session.atomic(count))

    def work(_: int) -> list[int]:
        worker = app.test_client()
        worker.set_cookie("session", cookie.value)
        return [int(worker.get("/increment").text) for _ in range(125)]

    numbers = [number for numbers in at_once(8, work) for number in numbers]
    assert sorted(numbers) == [*range(1, 1001)]
    assert client.get("/read").json["count"] == 1000


def test_atomic_runs_again_on_what_others_have_saved(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="error")
    client = client_of(app)
    runs = []

    def view() -> int:
        session["before"] = "mine"

        def function(session: Any) -> int:
            runs.append(dict(session))
            if len(runs) == 1:
                meanwhile(app, lambda theirs: theirs.update(count=41, b="theirs"))
            return count(session)

        return session.atomic(function)

    assert in_a_view(app, client, view) == 42
    assert runs == [
        {"a": 1, "before": "mine"},
        {"a": 1, "count": 41, "b": "theirs", "before": "mine"},
    ]
    expected = {"a": 1, "count": 42, "b": "theirs", "before": "mine"}
    assert client.get("/read").json == expected


def test_atomic_undoes_what_a_failing_function_did(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)

    def fail(session: Any) -> None:
        session["a"] = 2
        raise ZeroDivisionError

    def view() -> None:
        session["b"] = "before"
        with pytest.raises(ZeroDivisionError):
            session.atomic(fail)
        assert dict(session) == {"a": 1, "b": "before"}

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 1, "b": "before"}


@pytest.mark.parametrize("name", ["save", "reload", "touch", "destroy", "regenerate", "atomic"])
def test_atomic_refuses_what_cannot_be_done_twice(make_app: MakeApp, name: str) -> None:
    app = make_app()
    client = client_of(app)

    def view() -> None:
        arguments = [count] if name == "atomic" else []
        with pytest.raises(SessionError, match=rf"session\.{name}\(\)"):
            session.atomic(lambda session: getattr(session, name)(*arguments))

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 1}


def test_atomic_stores_at_once_and_begins_a_session(make_app: MakeApp) -> None:
    app = make_app()
    client = app.test_client()

    def view() -> None:
        assert session.atomic(count) == 1
        assert is_alive(app, session.handle)
        assert not session.modified

    in_a_view(app, client, view)
    assert client.get("/read").json == {"count": 1}


def test_atomic_on_a_session_that_has_ended_says_so(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_GONE="raise")
    client = client_of(app)

    def view() -> None:
        end_meanwhile(app)
        with pytest.raises(SessionGone):
            session.atomic(count)

    in_a_view(app, client, view)


# -- explicit control


def test_reload_forgets_changes_and_sees_those_of_others(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)
    client = client_of(app)

    def view() -> None:
        session.update(a="mine", b="mine")
        session.lifetime = 5
        meanwhile(app, lambda theirs: theirs.update(c="theirs"))
        session.reload()
        assert dict(session) == {"a": 1, "c": "theirs"}
        assert session.lifetime == timedelta(days=31)

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 1, "c": "theirs"}


def test_reload_takes_back_a_new_id_that_is_not_stored(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)
    cookie = client.get_cookie("session")

    def view() -> None:
        sid = session.sid
        session.regenerate(keep=False)
        session["b"] = 1
        session.reload()
        assert (session.sid, dict(session)) == (sid, {"a": 1})

    in_a_view(app, client, view)
    assert client.get_cookie("session") == cookie
    assert client.get("/read").json == {"a": 1}


def test_reload_loads_once_and_forgets_a_session_that_is_not_stored(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)
    find, loads = store_of(app).find, []

    def view() -> None:
        session.reload()
        assert session["a"] == 1
        session.reload()
        assert session["a"] == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_of(app), "find", lambda h: loads.append(h) or find(h))
        in_a_view(app, client, view)
    assert len(loads) == 2
    new = app.test_client()
    in_a_view(app, new, lambda: (session.update(x=1), session.reload()))
    assert new.get_cookie("session") is None


def test_touch_extends_now_and_saves_nothing(make_app: MakeApp, backend: Running) -> None:
    app = make_app(backend, PERMANENT_SESSION_LIFETIME=100)
    store_of(app).clock = clock = Clock()
    client = client_of(app)

    def view() -> None:
        session["a"] = "not saved yet"
        clock.advance(3)
        session.touch()
        record = store_of(app).load(session.handle)
        assert record is not None
        assert record.expires == store_of(app).now() + 100_000
        assert record.version == 1
        session["a"] = 1

    in_a_view(app, client, view)
    clock.advance(98)
    assert client.get("/read").json == {"a": 1}


def test_saving_explicitly_happens_once(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)

    def view() -> None:
        session["a"] = 2
        session.save()

    in_a_view(app, client, view)
    record = store_of(app).load(in_a_view(app, client, lambda: session.handle))
    assert record is not None
    assert record.version == 2


def test_what_save_has_refused_is_not_tried_again(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="error")
    client = client_of(app)

    def view() -> None:
        session["a"] = "mine"
        meanwhile(app, lambda theirs: theirs.update(a="theirs"))
        with pytest.raises(SessionConflict):
            session.save()

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": "theirs"}


def test_what_was_put_right_after_a_refused_save_is_stored(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)

    def view() -> None:
        session["a"] = object()
        with pytest.raises(SessionError, match="cannot be stored"):
            session.save()
        session["a"] = 2

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 2}


def test_threads_that_add_messages_have_all_of_them_shown(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend)
    client = client_of(app)
    cookie = client.get_cookie("session")
    assert cookie is not None

    @app.get("/flash/<message>")
    def add(message: str) -> str:
        flash(message)
        return ""

    @app.get("/shown")
    def shown() -> list[str]:
        return list(get_flashed_messages())

    seen: list[str] = []

    def work(number: int) -> None:
        worker = app.test_client()
        worker.set_cookie("session", cookie.value)
        for turn in range(15):
            worker.get(f"/flash/{number}-{turn}")
            seen.extend(worker.get("/shown").json or [])

    at_once(4, work)
    seen += client.get("/shown").json or []
    assert sorted(seen) == sorted(f"{n}-{turn}" for n in range(4) for turn in range(15))


# -- several of these in one request


def dead_session(app: Flask, **data: Any) -> FlaskClient:
    """A client whose session was ended by another request, which it has not heard of."""
    client = client_of(app, **data)
    record = store_of(app).load(in_a_view(app, client, lambda: session.handle))
    assert record is not None
    store_of(app).end(record)
    return client


def test_with_last_atomic_and_messages_are_right_all_the_same(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="last")
    client = client_of(app, count=0, _flashes=[("message", "hello")])
    runs = []

    def function(session: Any) -> int:
        runs.append(1)
        if len(runs) == 1:
            meanwhile(app, lambda theirs: theirs.update(count=1, _flashes=[]))
        return count(session)

    def view() -> list[Any]:
        return [session.atomic(function), get_flashed_messages()]

    assert in_a_view(app, client, view) == [2, []]


@pytest.mark.parametrize("renewed", [False, True])
def test_with_last_atomic_takes_nothing_back_though_more_has_changed(
    make_app: MakeApp, renewed: bool
) -> None:
    app = make_app(SESSION_ON_CONFLICT="last")
    client = client_of(app, count=0)

    def view() -> Any:
        old, runs = session.handle, []
        session["a"] = 2
        if renewed:
            session.regenerate()

        def function(session: Any) -> int:
            runs.append(1)
            if len(runs) == 1:
                meanwhile(app, lambda theirs: theirs.update(count=1, b="theirs"), handle=old)
            return count(session)

        return session.atomic(function)

    assert in_a_view(app, client, view) == 2
    assert client.get("/read").json == {"a": 2, "b": "theirs", "count": 2}


def test_clearing_in_an_atomic_function_is_done_again_too(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app, count=0)
    runs = []

    def function(session: Any) -> None:
        number = session["count"]
        session.clear()
        runs.append(1)
        if len(runs) == 1:
            meanwhile(app, lambda theirs: theirs.update(count=1))
        session["count"] = number + 1

    in_a_view(app, client, lambda: session.atomic(function))
    assert client.get("/read").json == {"count": 2}


def test_a_clear_that_was_undone_takes_nothing(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)

    def fail(session: Any) -> None:
        session.clear()
        session.lifetime = 5
        raise KeyboardInterrupt

    def view() -> None:
        with pytest.raises(KeyboardInterrupt):
            session.atomic(fail)
        assert session.lifetime == timedelta(days=31)
        session["mine"] = 1
        meanwhile(app, lambda theirs: theirs.update(theirs=1))

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 1, "mine": 1, "theirs": 1}


@pytest.mark.parametrize("saved", [True, False])
def test_a_clear_counts_until_it_is_saved_and_no_longer(make_app: MakeApp, saved: bool) -> None:
    app = make_app()
    client = client_of(app)

    def view() -> None:
        session.clear()
        session["a"] = 1
        if saved:
            session.save()
        meanwhile(app, lambda theirs: theirs.update(theirs=1))
        session["b"] = 1

    in_a_view(app, client, view)
    expected = {"a": 1, "b": 1} | ({"theirs": 1} if saved else {})
    assert client.get("/read").json == expected


def test_a_clear_into_a_new_id_counts_until_it_is_saved(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)

    def view() -> None:
        session.regenerate(keep=False)
        session["b"] = 1
        session.save()
        meanwhile(app, lambda theirs: theirs.update(theirs=1))
        session["c"] = 1

    in_a_view(app, client, view)
    assert client.get("/read").json == {"b": 1, "theirs": 1, "c": 1}


def test_after_signing_in_with_a_dead_id_all_works_as_ever(make_app: MakeApp) -> None:
    app = make_app()
    client = dead_session(app)

    def view() -> list[str]:
        session.regenerate()
        session["_user_id"] = "ada"
        flash("hello")
        session.save()
        session["count"] = 0
        session.save()
        for _ in range(2):
            meanwhile(app, lambda theirs: theirs.update(count=theirs["count"] + 1))
        assert session.atomic(count) == 3
        with pytest.raises(ZeroDivisionError):
            session.atomic(lambda session: session.update(half=1 / 0))
        return list(get_flashed_messages())

    assert in_a_view(app, client, view) == ["hello"]
    assert client.get("/read").json == {"_user_id": "ada", "count": 3}


def test_nothing_of_a_session_that_has_ended_goes_to_who_signs_in(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app, _user_id="ada", secret="hers")

    def view() -> None:
        end_meanwhile(app)
        session.regenerate()
        session["_user_id"] = "grace"

    in_a_view(app, client, view)
    assert client.get("/read").json == {"_user_id": "grace"}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("then", ["atomic", "messages", "save"])
def test_who_was_signed_out_does_not_sign_in_by_what_was_loaded(
    make_app: MakeApp, keep: bool, then: str
) -> None:
    app = make_app()
    client = client_of(app, _user_id="ada", _flashes=[("message", "hello")])

    def view() -> None:
        user = session["_user_id"]
        end_meanwhile(app)
        session.regenerate(keep=keep)
        if then == "atomic":
            session.atomic(lambda session: session.update(_user_id=user))
        elif then == "messages":
            get_flashed_messages()
        else:
            session.save()
        session["_user_id"] = user
        session.save()
        session.regenerate()
        session["_user_id"] = user

    in_a_view(app, client, view)
    assert client.get("/read").json == {}


@pytest.mark.parametrize("before", ["touch", "begin"])
@pytest.mark.parametrize("after", ["destroy", "write"])
def test_no_cookie_is_sent_for_a_session_that_has_ended_by_then(
    make_app: MakeApp, before: str, after: str
) -> None:
    app = make_app()
    client = client_of(app) if before == "touch" else app.test_client()
    cookie = client.get_cookie("session")

    def view() -> None:
        if before == "touch":
            session.touch()
        else:
            session["a"] = 1
            session.save()
        end_meanwhile(app)
        if after == "destroy":
            session.destroy()
        else:
            session["a"] = 2

    in_a_view(app, client, view)
    assert client.get_cookie("session") == cookie


def test_who_was_signed_out_does_not_sign_in_by_way_of_another_name(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app, _user_id="ada")

    def view() -> None:
        end_meanwhile(app)
        session["b"] = 1
        session.save()
        session["_user_id"] = "grace"
        session.save()
        session.regenerate()
        session["_user_id"] = "ada"

    in_a_view(app, client, view)
    assert client.get("/read").json == {}


def test_destroying_twice_clears_the_cookie(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)
    in_a_view(app, client, lambda: (session.destroy(), session.destroy()))
    assert client.get_cookie("session") is None


def test_a_new_id_that_was_refused_leaves_no_session_behind(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="error")
    client = client_of(app)
    handles = []

    def view() -> None:
        old = session.handle
        session["a"] = "mine"
        session.regenerate()
        handles.append(session.handle)
        meanwhile(app, lambda theirs: theirs.update(a="theirs"), handle=old)
        with pytest.raises(SessionConflict):
            session.save()

    in_a_view(app, client, view)
    assert store_of(app).load(handles[0]) is None
    assert client.get("/read").json == {"a": "theirs"}


def test_a_new_id_that_could_not_be_stored_is_given_to_nobody(make_app: MakeApp) -> None:
    app = make_app(SESSION_MAX_SIZE=200)
    client = client_of(app)

    def view() -> None:
        session.touch()
        session.regenerate()
        session["b"] = "x" * 1000
        with pytest.raises(SessionTooLarge):
            session.save()

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 1}


@pytest.mark.parametrize("propagate", [True, False])
def test_what_was_stored_before_a_save_failed_is_not_lost_to_the_client(
    make_app: MakeApp, propagate: bool
) -> None:
    app = make_app(SESSION_MAX_SIZE=200, TESTING=False)

    @app.get("/sign-in")
    def sign_in() -> str:
        session.regenerate()
        session["_user_id"] = "ada"
        session.save()
        session["b"] = "x" * 1000
        return ""

    if propagate:

        @app.errorhandler(SessionTooLarge)
        def sorry(error: SessionTooLarge) -> tuple[str, int]:
            return "", 500

    client = client_of(app)
    assert client.get("/sign-in").status_code == 500
    assert client.get("/read").json == {"a": 1, "_user_id": "ada"}


@pytest.mark.parametrize("act", ["regenerate", "clear", "destroy", "lifetime"])
def test_what_was_done_after_a_refused_save_is_done(make_app: MakeApp, act: str) -> None:
    app = make_app(SESSION_ON_CONFLICT="error")
    client = client_of(app)
    old = client.get_cookie("session")
    assert old is not None

    def view() -> None:
        session["a"] = "mine"
        meanwhile(app, lambda theirs: theirs.update(a="theirs"))
        with pytest.raises(SessionConflict):
            session.save()
        session.reload()
        if act == "lifetime":
            session.lifetime = 77
        else:
            getattr(session, act)()

    in_a_view(app, client, view)
    cookie = client.get_cookie("session")
    if act == "lifetime":
        assert in_a_view(app, client, lambda: session.lifetime) == timedelta(seconds=77)
    else:
        assert cookie is None or cookie.value != old.value


def test_the_same_data_after_an_end_is_not_what_was_refused(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="error")
    client = client_of(app)

    def view() -> None:
        session["a"] = "mine"
        meanwhile(app, lambda theirs: theirs.update(a="theirs"))
        with pytest.raises(SessionConflict):
            session.save()
        session.destroy()
        session["a"] = "mine"

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": "mine"}


def test_an_atomic_function_that_fails_does_not_take_other_changes_with_it(
    make_app: MakeApp,
) -> None:
    app = make_app()
    client = client_of(app)

    def view() -> None:
        session["b"] = 1
        with pytest.raises(SessionError):
            session.atomic(lambda session: session.save())

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 1, "b": 1}


def test_an_error_page_that_writes_has_nothing_saved(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(TESTING=False, SESSION_MAX_SIZE=200)

    @app.get("/break")
    def break_it() -> str:
        session["b"] = "x" * 1000
        return ""

    @app.errorhandler(500)
    def sorry(error: Exception) -> tuple[str, int]:
        session.pop("b", None)
        flash("sorry")
        return "", 500

    client = client_of(app)
    assert client.get("/break").status_code == 500
    assert client.get("/read").json == {"a": 1}


def test_a_deletion_that_comes_too_late_ends_nothing(make_app: MakeApp) -> None:
    """Others have moved the session to a new id, and saved to it, meanwhile."""
    app = make_app()
    client = client_of(app)
    cookie = client.get_cookie("session")
    assert cookie is not None

    def view() -> None:
        del session["a"]
        other = app.test_client()
        other.set_cookie("session", cookie.value)
        other.get("/regenerate")
        other.get("/write?b=theirs")
        client.set_cookie("session", getattr(other.get_cookie("session"), "value", ""))

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 1, "b": "theirs"}


def test_an_id_from_before_signing_in_by_a_key_alone_cannot_end_it(make_app: MakeApp) -> None:
    app = make_app()
    client, planted = client_of(app), app.test_client()
    cookie = client.get_cookie("session")
    assert cookie is not None
    planted.set_cookie("session", cookie.value)
    client.get("/regenerate")
    client.get("/write?_user_id=ada")
    for path in ("/destroy", "/clear"):
        planted.get(path)
    assert client.get("/read").json == {"a": 1, "_user_id": "ada"}


def test_a_new_id_keeps_the_lifetime_that_others_have_saved(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app)

    def view() -> None:
        record = store_of(app).load(session.handle)
        assert record is not None
        session.regenerate()
        later = record._replace(version=2, lifetime=1_000_000)
        assert store_of(app).replace(later) is later

    in_a_view(app, client, view)
    assert in_a_view(app, client, lambda: session.lifetime) == timedelta(seconds=1000)


def test_atomic_leaves_what_nobody_has_changed_the_very_object(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app, cart=[1])
    runs = []

    def function(session: Any) -> None:
        runs.append(1)
        if len(runs) == 1:
            meanwhile(app, lambda theirs: theirs.update(z=1))
        session["b"] = 1

    def view() -> None:
        cart = session["cart"]
        session.atomic(function)
        cart.append(2)

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 1, "cart": [1, 2], "z": 1, "b": 1}


# -- messages


def stored(app: Flask) -> Any:
    """What stands in the store of the current request's session."""
    record = store_of(app).load(session.handle)
    return record and data_of(app, record)


def test_messages_are_out_of_the_store_before_they_are_shown(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app, _flashes=[("message", "hello")])
    seen = in_a_view(app, client, lambda: (get_flashed_messages(), stored(app)))
    assert seen == (["hello"], {"a": 1})


def test_messages_are_shown_once_whatever_else_the_view_takes_out(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app, _flashes=[("message", "hello")])
    assert in_a_view(app, client, lambda: session.pop("a")) == 1
    assert client.get("/messages").json == ["hello"]
    assert client.get("/messages").json == []


def test_an_atomic_function_may_take_the_messages(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app, _flashes=[("message", "hello")])
    taken = in_a_view(app, client, lambda: session.atomic(lambda s: s.pop("_flashes")))
    assert [tuple(message) for message in taken] == [("message", "hello")]
    assert client.get("/messages").json == []


def test_messages_of_the_same_request_need_no_session(make_app: MakeApp) -> None:
    app = make_app()
    client = app.test_client()

    def view() -> tuple[list[Any], Any]:
        flash("hello")
        return list(get_flashed_messages()), stored(app)

    assert in_a_view(app, client, view) == (["hello"], None)
    assert client.get_cookie("session") is None


def test_with_a_new_id_messages_are_out_of_the_store_before_they_are_shown(
    make_app: MakeApp,
) -> None:
    app = make_app()
    client = client_of(app, _flashes=[("message", "hello")])

    def view() -> tuple[Any, ...]:
        old = session.handle
        session.regenerate()
        return list(get_flashed_messages()), stored(app), is_alive(app, old)

    assert in_a_view(app, client, view) == (["hello"], {"a": 1}, False)


@pytest.mark.parametrize(("default", "expected"), [((), []), (("none",), "none")])
def test_messages_that_another_request_shows_are_not_shown_again(
    make_app: MakeApp, default: tuple[str, ...], expected: object
) -> None:
    app = make_app()
    client = client_of(app, _flashes=[("message", "hello")])

    def view() -> Any:
        assert "_flashes" in session
        meanwhile(app, lambda theirs: theirs.pop("_flashes"))
        return session.pop("_flashes", *default)

    assert in_a_view(app, client, view) == expected


def test_messages_of_a_session_that_has_ended_are_not_shown(make_app: MakeApp) -> None:
    app = make_app()
    client = client_of(app, _flashes=[("message", "hello")])

    def view() -> list[Any]:
        assert "_flashes" in session
        end_meanwhile(app)
        return list(get_flashed_messages())

    assert in_a_view(app, client, view) == []


# -- signing out while another request has given the session a new id


def given_a_new_id(client: FlaskClient) -> FlaskClient:
    """Another browser with the same cookie, to which the session now belongs."""
    cookie = client.get_cookie("session")
    assert cookie is not None
    other = client.application.test_client()
    other.set_cookie("session", cookie.value)
    other.get("/regenerate")
    return other


@pytest.mark.parametrize("how", ["clear", "pop", "clear under a new id"])
def test_who_signs_out_is_signed_out_under_the_id_that_others_have_given(
    make_app: MakeApp, how: str
) -> None:
    app = make_app()
    client = client_of(app, _user_id="ada")
    others = []

    def view() -> None:
        assert session["_user_id"] == "ada"
        others.append(given_a_new_id(client))
        if how == "pop":
            session.pop("_user_id")
        else:
            session.clear()
        if how == "clear under a new id":
            session.regenerate()

    in_a_view(app, client, view)
    assert client.get_cookie("session") is None
    assert others[0].get("/read").json == {}


def test_who_only_writes_ends_nothing_under_the_id_that_others_have_given(
    make_app: MakeApp,
) -> None:
    app = make_app()
    client = client_of(app, _user_id="ada")
    others = []

    def view() -> None:
        session["b"] = 1
        others.append(given_a_new_id(client))

    in_a_view(app, client, view)
    assert client.get_cookie("session") is not None
    assert others[0].get("/read").json == {"a": 1, "_user_id": "ada"}


def test_who_signs_in_as_another_ends_the_former_session_and_has_a_cookie(
    make_app: MakeApp,
) -> None:
    app = make_app()
    client = client_of(app, _user_id="ada")
    others = []

    def view() -> None:
        session["_user_id"] = "grace"
        others.append(given_a_new_id(client))

    in_a_view(app, client, view)
    assert client.get("/read").json == {"_user_id": "grace"}
    assert others[0].get("/read").json == {}


@pytest.mark.parametrize(("path", "left"), [("/read", {"a": 1}), ("/clear", {})])
def test_a_superseded_id_ends_the_session_only_by_clearing_it(
    make_app: MakeApp, path: str, left: dict[str, Any]
) -> None:
    app = make_app()
    client = client_of(app)
    other = given_a_new_id(client)
    assert client.get("/read").json == {}
    client.get(path)
    assert other.get("/read").json == left


# -- the last resorts


@pytest.mark.parametrize("new_id", [False, True])
def test_who_is_always_too_late_is_refused_and_it_is_signalled(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, new_id: bool
) -> None:
    app = make_app()
    client = client_of(app, _user_id="ada")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    handles = []

    def view() -> None:
        handles.append(session.handle)
        if new_id:
            session.regenerate()
        session["b"] = "mine"
        store, replace = store_of(app), store_of(app).replace

        def overtaken(record: Any) -> Any:
            if record.handle == handles[0]:
                with monkeypatch.context() as patch:
                    patch.setattr(store, "replace", replace)
                    meanwhile(app, lambda theirs: theirs.update(c=1), handle=handles[0])
            return replace(record)

        with monkeypatch.context() as patch:
            patch.setattr(store, "replace", overtaken)
            with pytest.raises(SessionConflict, match=handles[0]):
                session.save()

    heard = reasons(app, client, view)
    assert heard[-1] == (app, handles[0], "ada", "refused")
    assert {reason for *_, reason in heard[:-1]} == {"merged"}


def test_with_last_atomic_is_right_under_a_new_id_too(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="last")
    client = client_of(app, count=0)

    def view() -> Any:
        old, runs = session.handle, []
        session.regenerate()

        def function(session: Any) -> int:
            runs.append(1)
            if len(runs) == 1:
                meanwhile(app, lambda theirs: theirs.update(count=1), handle=old)
            return count(session)

        return session.atomic(function)

    assert in_a_view(app, client, view) == 2
    assert client.get("/read").json == {"a": 1, "count": 2}


def test_without_atomic_last_is_last_under_a_new_id_too(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_CONFLICT="last")
    client = client_of(app)

    def view() -> None:
        old = session.handle
        session.regenerate()
        session["a"] = 2
        meanwhile(app, lambda theirs: theirs.update(b="theirs"), handle=old)

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 2}


def test_of_a_session_that_has_ended_only_what_the_request_has_set_deep_down_is_kept(
    make_app: MakeApp,
) -> None:
    app = make_app()
    client = client_of(app, cart=[[1]], deep={"x": [1]})

    def view() -> None:
        session["deep"]["x"].append(2)
        end_meanwhile(app)
        sign_in()

    in_a_view(app, client, view)
    assert client.get("/read").json == {"deep": {"x": [1, 2]}, "_user_id": "ada"}


def test_who_asks_for_a_new_id_is_told_that_the_session_has_ended(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_GONE="raise")

    def view() -> None:
        end_meanwhile(app)
        session.regenerate()
        with pytest.raises(SessionGone):
            session.save()

    in_a_view(app, client_of(app), view)


def test_clearing_a_session_that_has_ended_meanwhile_is_no_conflict(make_app: MakeApp) -> None:
    app = make_app(SESSION_ON_GONE="raise")

    def view() -> None:
        session.clear()
        end_meanwhile(app)
        session.save()

    assert reasons(app, client_of(app), view) == []


def test_who_is_refused_is_told_which_session_it_was(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(SESSION_ON_GONE="raise")
    client = client_of(app)

    def gone() -> None:
        session["b"], handle = 1, session.handle
        end_meanwhile(app)
        with pytest.raises(SessionGone, match=f"Session {handle} has ended"):
            session.save()

    def taken() -> None:
        session["b"] = 1
        with pytest.raises(SessionConflict, match=f"a session {session.handle} already"):
            session.save()

    in_a_view(app, client, gone)
    monkeypatch.setattr(store_of(app), "create", lambda record: False)
    in_a_view(app, app.test_client(), taken)


@pytest.mark.parametrize("name", ["atomic", "reauthenticated"])
def test_what_an_atomic_function_may_not_call_is_named(make_app: MakeApp, name: str) -> None:
    app = make_app()

    def view() -> None:
        arguments = [count] if name == "atomic" else []
        with pytest.raises(SessionError, match=rf"^session\.{name}\(\) was called"):
            session.atomic(lambda session: getattr(session, name)(*arguments))

    in_a_view(app, client_of(app), view)
