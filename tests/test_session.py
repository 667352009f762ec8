"""The mapping that a view sees, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from datetime import UTC
from typing import Any

import pytest
from flask import Flask
from flask import request
from flask import session as flask_session
from flask.testing import FlaskClient
from test_life_of_a_request import handle_in
from test_life_of_a_request import is_alive
from test_life_of_a_request import store_of

from flask_serverside import current_session as session
from flask_serverside import SerializationError
from flask_serverside import SessionConflict
from flask_serverside import StoreUnavailable
from flask_serverside.saving.unit import Unit
from flask_serverside.sealing.codec import Codec
from flask_serverside.sealing.envelope import Contents
from flask_serverside.sealing.envelope import Envelope
from flask_serverside.sealing.serializers import MsgPack
from flask_serverside.testing import Clock
from flask_serverside.testing import saved_again

MakeApp = Callable[..., Flask]
Seen = list[Any]


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.get("/write?a=1")
    return client


def in_a_view(app: Flask, client: FlaskClient, view: Callable[[], Any]) -> Any:
    """What ``view`` returns, called in a request of this client."""
    seen: Seen = []

    def answer() -> str:
        seen.append(view())
        return ""

    endpoint = f"view{len(app.view_functions)}"
    app._got_first_request = False  # views may be added between the requests of a test
    app.add_url_rule(f"/{endpoint}", endpoint, answer)
    assert client.get(f"/{endpoint}").status_code == 200
    return seen[0]


def cookie_of(client: FlaskClient) -> str:
    cookie = client.get_cookie("session")
    assert cookie is not None
    return cookie.value


def test_it_is_a_dict_in_all_that_counts(app: Flask, client: FlaskClient) -> None:
    def view() -> None:
        itself = flask_session._get_current_object()  # type: ignore[attr-defined]
        session.update(b=2, c=3)
        assert list(session) == ["a", "b", "c"]
        assert list(reversed(itself)) == ["c", "b", "a"]
        assert session | {"a": 5} == {"a": 5, "b": 2, "c": 3}
        assert {"a": 5, "d": 4} | session == {"a": "1", "d": 4, "b": 2, "c": 3}
        assert session.pop("b") == 2
        assert session.pop("x", None) is None
        assert session.setdefault("d", []) == []
        del session["d"]
        assert ("a" in session, "d" in session, len(session)) == (True, False, 2)
        same = itself
        same |= {"e": 5}
        assert same is itself
        assert session.get("e") == 5
        copy = session.copy()
        copy["f"] = 6
        assert "f" not in session
        assert session == {"a": "1", "c": 3, "e": 5}
        with pytest.raises(KeyError):
            session["x"]

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": "1", "c": 3, "e": 5}


def test_it_says_when_it_began_and_when_it_ends(app: Flask, client: FlaskClient) -> None:
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    assert in_a_view(app, client, lambda: session.created_at or session.expires_at) is None
    client.get("/write?a=1")
    clock.advance(1000)
    created, expires = in_a_view(app, client, lambda: (session.created_at, session.expires_at))
    assert created.tzinfo is UTC
    assert created.timestamp() == clock() - 1000
    assert expires - created == timedelta(days=31)
    later = in_a_view(app, client, lambda: session.expires_at)
    assert later - expires == timedelta(seconds=1000)


def test_it_says_whether_it_is_new_and_modified(app: Flask) -> None:
    client = app.test_client()

    def first() -> None:
        assert (session.new, session.modified) == (True, False)
        session["a"] = {"b": 1}
        assert (session.new, session.modified) == (True, True)
        session.save()
        assert (session.new, session.modified) == (False, False)

    def second() -> None:
        assert (session.new, session.modified) == (False, False)
        session["a"]["b"] = 2
        assert session.modified
        session["a"]["b"] = 1
        assert not session.modified
        session.modified = True
        assert not session.modified

    in_a_view(app, client, first)
    in_a_view(app, client, second)


def test_its_repr_shows_neither_data_nor_id_and_loads_nothing(app: Flask) -> None:
    client = app.test_client()
    client.get("/write?secret=value")

    def view() -> list[str]:
        bare = flask_session._get_current_object()  # type: ignore[attr-defined]
        before = repr(bare)
        session.get("secret")
        return [before, repr(bare), session.sid, session.handle]

    before, after, sid, handle = in_a_view(app, client, view)
    assert before == "<ServerSideSession, not loaded>"
    assert after == f"<ServerSideSession {handle}, 1 key>"
    assert sid not in after


def test_saving_twice_in_a_request_stores_both(app: Flask, client: FlaskClient) -> None:
    def view() -> None:
        session["a"] = 1
        session.save()
        session["b"] = 2
        session.save()
        session["c"] = 3

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": 1, "b": 2, "c": 3}


def test_saving_twice_is_no_sign_in(app: Flask) -> None:
    client = app.test_client()
    client.get("/write?_user_id=ada")

    def view() -> bool:
        before = session.sid
        for number in range(3):
            session["a"] = number
            session.save()
        return session.sid == before

    assert in_a_view(app, client, view)


def test_regenerating_without_keeping_begins_empty(app: Flask, client: FlaskClient) -> None:
    old = cookie_of(client)

    def view() -> None:
        session.lifetime = 60
        session.regenerate(keep=False)
        assert session.lifetime == timedelta(days=31)
        session["b"] = 1

    in_a_view(app, client, view)
    assert client.get("/read").json == {"b": 1}
    assert not is_alive(app, handle_in(old))


def test_regenerating_twice_ends_the_stored_one(app: Flask, client: FlaskClient) -> None:
    old = cookie_of(client)
    in_a_view(app, client, lambda: (session.regenerate(), session.regenerate()))
    assert client.get("/read").json == {"a": "1"}
    assert not is_alive(app, handle_in(old))


def test_regenerating_into_nothing_clears_the_cookie(app: Flask, client: FlaskClient) -> None:
    old = cookie_of(client)
    in_a_view(app, client, lambda: session.regenerate(keep=False))
    assert client.get_cookie("session") is None
    assert not is_alive(app, handle_in(old))


def test_regenerating_keeps_a_lifetime_of_its_own(app: Flask, client: FlaskClient) -> None:
    in_a_view(app, client, lambda: setattr(session, "lifetime", 60))
    in_a_view(app, client, lambda: session.regenerate())
    assert in_a_view(app, client, lambda: session.lifetime) == timedelta(seconds=60)


def test_regenerating_an_empty_session_gives_it_another_id(app: Flask) -> None:
    def view() -> bool:
        before = session.sid
        session.regenerate()
        return session.sid != before

    assert in_a_view(app, app.test_client(), view)


def test_destroying_after_regenerating_ends_both(app: Flask, client: FlaskClient) -> None:
    old = cookie_of(client)
    in_a_view(app, client, lambda: (session.regenerate(), session.destroy()))
    assert client.get_cookie("session") is None
    assert not is_alive(app, handle_in(old))


def test_a_lifetime_does_not_outlive_its_session(app: Flask, client: FlaskClient) -> None:
    def view() -> timedelta:
        session.lifetime = 60
        session.destroy()
        return session.lifetime

    assert in_a_view(app, client, view) == timedelta(days=31)


def test_the_subject_changes_with_the_data(make_app: MakeApp) -> None:
    app = make_app(SESSION_SUBJECT_KEY="user")
    client = app.test_client()
    for user in ("ada", "grace", None):
        in_a_view(app, client, lambda user=user: session.update(user=user))  # type: ignore[misc]
        record = store_of(app).load(handle_in(cookie_of(client)))
        assert record is not None
        assert record.subject == user
    client.get("/write?_user_id=1")
    assert in_a_view(app, client, lambda: session.subject) is None


def test_no_subject_is_kept_if_there_is_no_key_for_it(make_app: MakeApp) -> None:
    app = make_app(SESSION_SUBJECT_KEY=None)
    client = app.test_client()
    client.get("/write?_user_id=1")
    assert in_a_view(app, client, lambda: session.subject) is None


def test_a_bool_is_no_subject(app: Flask, client: FlaskClient) -> None:
    with (
        pytest.raises(SerializationError, match="_user_id"),
        client.session_transaction() as transaction,
    ):
        transaction["_user_id"] = True


def test_the_id_is_as_long_as_configured(make_app: MakeApp) -> None:
    app = make_app(SESSION_ID_LENGTH=48)
    assert len(in_a_view(app, app.test_client(), lambda: session.sid)) == 64


def meanwhile(
    app: Flask, change: Callable[[dict[str, Any]], None], handle: str | None = None
) -> None:
    """Somebody else changes the session that the current request has loaded."""
    store = store_of(app)
    record = store.load(handle or session.handle)
    assert record is not None
    codec = session._unit.draft._codec
    contents = payload_of(app, record)
    data = codec.decode(contents.data)
    change(data)
    changed = contents._replace(data=codec.encode(data))
    assert store.replace(Envelope().close("", saved_again(record, b""), changed))


def payload_of(app: Flask, record: Any) -> Contents:
    """What a record says that is not encrypted."""
    return Envelope().open("", record, store_of(app).now())


def data_of(app: Flask, record: Any) -> Any:
    return Codec(MsgPack()).decode(payload_of(app, record).data)


def test_keys_that_one_deletes_and_the_other_leaves_are_gone(
    app: Flask, client: FlaskClient
) -> None:
    client.get("/write?b=2&c=3")

    def view() -> None:
        del session["a"]
        session["d"] = 4
        meanwhile(app, lambda theirs: theirs.pop("b"))

    in_a_view(app, client, view)
    assert client.get("/read").json == {"c": "3", "d": 4}


def test_a_value_that_changes_only_its_type_has_changed(
    app: Flask, client: FlaskClient
) -> None:
    in_a_view(app, client, lambda: session.update(a=1, b=1))

    def view() -> None:
        session["a"] = True
        meanwhile(app, lambda theirs: theirs.update(b=2))

    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": True, "b": 2}


def test_what_both_delete_leaves_no_empty_record(app: Flask, client: FlaskClient) -> None:
    client.get("/write?b=2")
    handles = []

    def view() -> None:
        del session["a"]
        handles.append(session.handle)
        meanwhile(app, lambda theirs: theirs.pop("b"))

    in_a_view(app, client, view)
    assert not is_alive(app, handles[0])
    assert client.get_cookie("session") is None


def test_what_both_write_alike_is_written_once(app: Flask, client: FlaskClient) -> None:
    handles = []

    def view() -> None:
        session["a"] = 2
        handles.append(session.handle)
        meanwhile(app, lambda theirs: theirs.update(a=2))

    in_a_view(app, client, view)
    record = store_of(app).load(handles[0])
    assert record is not None
    assert record.version == 2


def test_a_save_that_never_wins_says_so(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def view() -> None:
        session["a"] = 2
        replace = store_of(app).replace

        def always_late(record: Any) -> Any:
            monkeypatch.undo()
            meanwhile(app, lambda theirs: theirs.update(n=theirs.get("n", 0) + 1))
            monkeypatch.setattr(store_of(app), "replace", always_late)
            return replace(record)

        monkeypatch.setattr(store_of(app), "replace", always_late)
        with pytest.raises(SessionConflict, match="not stored"):
            session.save()
        monkeypatch.undo()
        record = store_of(app).load(session.handle)
        assert record is not None
        assert data_of(app, record)["a"] == "1"

    in_a_view(app, client, view)


def test_a_failed_save_is_not_tried_again_for_the_error_page(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    tries, finish = [], Unit.finish

    @app.get("/break")
    def break_it() -> str:
        session["a"] = object()
        return ""

    def counted(unit: Unit) -> None:
        tries.append(1)
        finish(unit)

    monkeypatch.setattr(Unit, "finish", counted)

    assert app.test_client().get("/break").status_code == 500
    assert tries == [1]


def test_the_answer_to_a_failed_save_keeps_nothing_of_the_first(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Body:
        def __iter__(self) -> Any:
            return iter([b"written"])

        def close(self) -> None:
            closed.append(True)

    @app.get("/file")
    def file() -> Any:
        session["a"] = "changed"
        answer = app.response_class(Body(), headers={"X-Written": "yes"})
        answer.direct_passthrough = True
        return answer

    @app.errorhandler(StoreUnavailable)
    def sorry(error: StoreUnavailable) -> tuple[str, int]:
        return f"sorry, {request.path}", 503

    def down(record: Any) -> None:
        raise StoreUnavailable("down")

    client = app.test_client()
    client.get("/write?a=1")
    monkeypatch.setattr(store_of(app), "replace", down)
    answer = client.get("/file")
    assert (answer.status_code, answer.text) == (503, "sorry, /file")
    assert "X-Written" not in answer.headers
    assert "Cookie" in answer.vary
    assert closed == [True]


def test_keys_of_flask_that_change_count_at_once(app: Flask, client: FlaskClient) -> None:
    store_of(app).clock = clock = Clock()
    app.config["PERMANENT_SESSION_LIFETIME"] = 100
    newcomer = app.test_client()
    assert "Max-Age=100" in newcomer.get("/write?a=1").headers["Set-Cookie"]
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    clock.advance(60)
    assert "Set-Cookie" not in newcomer.get("/read").headers
    app.config["SESSION_REFRESH_EACH_REQUEST"] = True
    assert "Set-Cookie" in newcomer.get("/read").headers


def test_the_newest_key_signs(app: Flask) -> None:
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["test"])
    client = app.test_client()
    client.get("/write?a=1")
    app.config["SECRET_KEY_FALLBACKS"] = None
    assert client.get("/read").json == {"a": "1"}


def test_it_says_how_many_keys_it_has(app: Flask, client: FlaskClient) -> None:
    def view() -> tuple[str, str]:
        session["b"] = 2
        before = repr(session._get_current_object())
        session.clear()
        return before, repr(session._get_current_object())

    before, after = in_a_view(app, client, view)
    assert before.endswith(", 2 keys>")
    assert after.endswith(", 0 keys>")


def test_who_never_proved_anything_is_not_fresh_within_any_time(
    app: Flask, client: FlaskClient
) -> None:
    for days in (1, 36500):
        assert not in_a_view(app, client, lambda d=days: session.fresh(timedelta(days=d)))


def test_after_an_emptied_session_was_saved_another_can_begin(
    app: Flask, client: FlaskClient
) -> None:
    old = cookie_of(client)

    def view() -> dict[str, Any]:
        session.clear()
        session.save()
        assert dict(session) == {}
        session["b"] = 2
        return dict(session)

    assert in_a_view(app, client, view) == {"b": 2}
    assert client.get("/read").json == {"b": 2}
    assert cookie_of(client) != old


def test_saving_often_sends_no_cookie_that_is_not_due(app: Flask) -> None:
    @app.get("/often")
    def often() -> str:
        for number in range(3):
            session["b"] = number
            session.save()
        return ""

    client = app.test_client()
    assert "Set-Cookie" in client.get("/often").headers
    assert "Set-Cookie" not in client.get("/often").headers


def test_a_new_id_does_not_make_a_session_younger(app: Flask, client: FlaskClient) -> None:
    store_of(app).clock = clock = Clock()
    client.get("/write?b=1")
    began = in_a_view(app, client, lambda: session.created_at)
    clock.advance(100)
    client.get("/regenerate")
    assert in_a_view(app, client, lambda: session.created_at) == began


def test_what_keeps_not_all_has_the_lifetime_of_a_new_session(
    app: Flask, client: FlaskClient
) -> None:
    default = in_a_view(app, client, lambda: session.lifetime)

    def shorten() -> None:
        session.lifetime = timedelta(seconds=1000)

    def begin_anew() -> timedelta:
        session.regenerate(keep=["a"])
        lifetime: timedelta = session.lifetime
        return lifetime

    in_a_view(app, client, shorten)
    assert in_a_view(app, client, begin_anew) == default
    assert in_a_view(app, client, lambda: session.lifetime) == default


def test_what_all_requests_share_is_made_once(app: Flask, client: FlaskClient) -> None:
    """It derives keys, and looks at the whole configuration."""
    interface: Any = app.session_interface
    shared = interface._services
    client.get("/read")
    assert interface._services is shared
    app.config["SECRET_KEY"] = "another"
    client.get("/read")
    assert interface._services is not shared


def test_once_the_store_has_failed_a_request_does_not_ask_it_again(
    app: Flask,
    client: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def find(handle: str) -> Any:
        asked.append(handle)
        raise StoreUnavailable("gone fishing")

    monkeypatch.setattr(store_of(app), "find", find)

    def view() -> None:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="gone fishing"):
                session.get("a")

    in_a_view(app, client, view)
    assert len(asked) == 1
