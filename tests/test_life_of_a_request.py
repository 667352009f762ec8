"""What reaches the store and the client in a request, on every backend."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from backends import Running
from flask import Flask
from flask import Request
from flask import request
from flask import Response
from flask import session
from flask import stream_with_context
from flask.sessions import SessionInterface
from flask.sessions import SessionMixin

from flask_serverside import ConfigurationError
from flask_serverside import ServerSideSessionInterface
from flask_serverside import StoreUnavailable
from flask_serverside.stores import Record
from flask_serverside.stores import Store
from flask_serverside.testing import Clock
from flask_serverside.web.identity import handle_of

MakeApp = Callable[..., Flask]


def store_of(app: Flask) -> Store:
    assert isinstance(app.session_interface, ServerSideSessionInterface)
    return app.session_interface.store


def handle_in(cookie: str) -> str:
    return handle_of(cookie.partition(".")[0])


def is_alive(app: Flask, handle: str) -> bool:
    record = store_of(app).load(handle)
    return record is not None and not record.ended


def test_a_session_lasts_from_one_request_to_the_next(
    make_app: MakeApp, backend: Running
) -> None:
    client = make_app(backend).test_client()
    client.get("/write?color=green")
    client.get("/write?size=7")
    assert client.get("/read").json == {"color": "green", "size": "7"}


def test_a_change_deep_in_the_data_is_stored(make_app: MakeApp, backend: Running) -> None:
    client = make_app(backend).test_client()
    for length in range(1, 5):
        assert client.get("/append").json == [1] * length


def test_two_clients_have_their_own_sessions(make_app: MakeApp, backend: Running) -> None:
    app = make_app(backend)
    alice, bob = app.test_client(), app.test_client()
    alice.get("/write?name=alice")
    bob.get("/write?name=bob")
    assert alice.get("/read").json == {"name": "alice"}
    assert bob.get("/read").json == {"name": "bob"}


def test_an_emptied_session_is_deleted_and_its_cookie_cleared(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)
    client = app.test_client()
    client.get("/write?a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    handle = handle_in(cookie.value)
    assert is_alive(app, handle)
    client.get("/clear")
    assert not is_alive(app, handle)
    assert client.get_cookie("session") is None


def test_a_session_outlives_the_application(make_app: MakeApp, server_backend: Running) -> None:
    client = make_app(server_backend).test_client()
    client.get("/write?a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    after_restart = make_app(server_backend).test_client()
    after_restart.set_cookie("session", cookie.value)
    assert after_restart.get("/read").json == {"a": "1"}


def test_an_expired_session_is_empty_and_its_id_not_used_again(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend, PERMANENT_SESSION_LIFETIME=100)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")
    old = client.get_cookie("session")
    assert old is not None
    clock.advance(100)
    assert client.get("/read").json == {}
    client.get("/write?b=1")
    new = client.get_cookie("session")
    assert new is not None
    assert new.value != old.value
    assert client.get("/read").json == {"b": "1"}


def test_reading_keeps_a_session_alive(make_app: MakeApp, backend: Running) -> None:
    app = make_app(backend, PERMANENT_SESSION_LIFETIME=100)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")
    for _ in range(5):
        clock.advance(60)
        assert client.get("/read").json == {"a": "1"}
    clock.advance(100)
    assert client.get("/read").json == {}


def test_a_session_that_is_never_looked_at_is_not_kept_alive(make_app: MakeApp) -> None:
    app = make_app(PERMANENT_SESSION_LIFETIME=100)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")
    clock.advance(60)
    client.get("/untouched")
    clock.advance(60)
    assert client.get("/read").json == {}


def test_without_refresh_only_writing_keeps_a_session_alive(make_app: MakeApp) -> None:
    app = make_app(PERMANENT_SESSION_LIFETIME=100, SESSION_REFRESH_EACH_REQUEST=False)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")
    clock.advance(60)
    client.get("/write?a=2")
    clock.advance(60)
    assert client.get("/read").json == {"a": "2"}
    clock.advance(60)
    assert client.get("/read").json == {}


def test_the_absolute_lifetime_ends_a_session_in_use(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend, PERMANENT_SESSION_LIFETIME=100, SESSION_ABSOLUTE_LIFETIME=250)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")
    for seconds in (80, 80, 80):
        clock.advance(seconds)
        client.get("/write?b=1")
        assert client.get("/read").json == {"a": "1", "b": "1"}
    clock.advance(10)
    assert client.get("/read").json == {}


def test_two_threads_adding_keys_to_one_session_lose_none(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend)
    first = app.test_client()
    first.get("/write?start=1")
    cookie = first.get_cookie("session")
    assert cookie is not None
    answers: list[int] = []

    def add(name: str) -> None:
        client = app.test_client()
        client.set_cookie("session", cookie.value)
        for number in range(200):
            answers.append(client.get(f"/write?{name}{number}=1").status_code)

    threads = [threading.Thread(target=add, args=[name]) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 400
    expected = {f"{name}{number}" for name in "ab" for number in range(200)} | {"start"}
    assert first.get("/read").json.keys() == expected


def test_a_session_deleted_while_a_request_holds_it_stays_deleted(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)
    handles = []

    @app.get("/slow")
    def slow() -> str:
        session["a"] = "changed"
        handles.append(session.handle)  # type: ignore[attr-defined]
        store_of(app).delete(handles[0])
        return ""

    client = app.test_client()
    client.get("/write?a=1")
    answer = client.get("/slow")
    assert not is_alive(app, handles[0])
    assert "Set-Cookie" not in answer.headers
    assert client.get("/read").json == {}


def test_a_deleted_session_is_not_revived_by_being_read(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend, SESSION_TOUCH_INTERVAL=0)

    @app.get("/slow")
    def slow() -> str:
        assert session["a"] == "1"
        store_of(app).delete(session.handle)  # type: ignore[attr-defined]
        return ""

    client = app.test_client()
    client.get("/write?a=1")
    assert "Set-Cookie" not in client.get("/slow").headers
    assert client.get("/read").json == {}


def test_session_transaction_reads_and_writes(make_app: MakeApp, backend: Running) -> None:
    client = make_app(backend).test_client()
    with client.session_transaction() as transaction:
        transaction["a"] = {"b": [1]}
    with client.session_transaction() as transaction:
        transaction["a"]["b"].append(2)
    assert client.get("/read").json == {"a": {"b": [1, 2]}}


def test_session_transaction_raises_that_it_was_not_stored(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()

    def refuse(*_: object) -> bool:
        raise StoreUnavailable("gone")

    with app.test_client() as client:  # which keeps the context of its last request
        client.get("/read")
        monkeypatch.setattr(store_of(app), "create", refuse)
        with pytest.raises(StoreUnavailable), client.session_transaction() as transaction:
            transaction["a"] = 1


def test_an_interface_that_passes_everything_on_may_stand_before_ours(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    ours = app.session_interface

    class Wrapper(SessionInterface):
        def open_session(self, app: Flask, request: Request) -> SessionMixin | None:
            return ours.open_session(app, request)

        def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
            ours.save_session(app, session, response)

    app.session_interface = Wrapper()
    client = app.test_client()
    client.get("/write?a=1")
    assert client.get("/read").json == {"a": "1"}

    def refuse(*_: object) -> bool:
        raise StoreUnavailable("gone")

    assert isinstance(ours, ServerSideSessionInterface)
    monkeypatch.setattr(ours.store, "replace", refuse)
    assert client.get("/write?a=2").status_code == 503


def test_a_streamed_response_reads_the_session(make_app: MakeApp, backend: Running) -> None:
    app = make_app(backend)

    @app.get("/stream")
    def stream() -> object:
        return app.response_class(stream_with_context(session[key] for key in "abc"))

    @app.get("/stream-late")
    def stream_late() -> object:
        def parts() -> object:
            yield session["a"]

        return app.response_class(stream_with_context(parts()))

    client = app.test_client()
    client.get("/write?a=1&b=2&c=3")
    assert client.get("/stream").text == "123"
    assert client.get("/stream-late").text == "1"


def test_regenerating_gives_a_new_id_and_ends_the_old_one(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)

    client = app.test_client()
    client.get("/write?a=1")
    old = client.get_cookie("session")
    client.get("/regenerate")
    new = client.get_cookie("session")
    assert old is not None
    assert new is not None
    assert new.value != old.value
    assert client.get("/read").json == {"a": "1"}
    assert is_alive(app, handle_in(new.value))
    assert not is_alive(app, handle_in(old.value))
    thief = app.test_client()
    thief.set_cookie("session", old.value)
    assert thief.get("/read").json == {}


def test_destroying_ends_the_session_and_a_new_one_may_begin(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)

    @app.get("/sign-out")
    def sign_out() -> str:
        session.destroy()  # type: ignore[attr-defined]
        session["message"] = "signed out"
        return ""

    client = app.test_client()
    client.get("/write?a=1")
    old = client.get_cookie("session")
    client.get("/sign-out")
    new = client.get_cookie("session")
    assert old is not None
    assert new is not None
    assert new.value != old.value
    assert client.get("/read").json == {"message": "signed out"}
    client.get("/destroy")
    assert client.get_cookie("session") is None
    client.set_cookie("session", old.value)
    assert client.get("/read").json == {}


def test_applications_in_one_process_do_not_share_sessions(make_app: MakeApp) -> None:
    shop, forum = make_app(), make_app(SECRET_KEY="another")
    client, other = shop.test_client(), forum.test_client()
    client.get("/write?a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    other.set_cookie("session", cookie.value)
    assert other.get("/read").json == {}


@pytest.mark.parametrize("fallbacks", [["test"], "test", ["older", "test"]])
def test_a_key_among_the_fallbacks_still_verifies(make_app: MakeApp, fallbacks: object) -> None:
    app = make_app()
    client = app.test_client()
    client.get("/write?a=1")
    old = client.get_cookie("session")
    assert old is not None
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=fallbacks)
    assert client.get("/read").json == {"a": "1"}
    app.config.update(SECRET_KEY_FALLBACKS=None)
    assert client.get("/read").json == {"a": "1"}
    client.set_cookie("session", old.value)
    assert client.get("/read").json == {}


def test_an_old_id_that_could_not_be_ended_is_no_success(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    store = store_of(app)

    def down(record: Record) -> Record | None:
        raise StoreUnavailable("down")

    @app.get("/sign-in")
    def sign_in() -> str:
        session.regenerate()  # type: ignore[attr-defined]
        with pytest.raises(StoreUnavailable):
            session.save()  # type: ignore[attr-defined]
        return "welcome"

    client = app.test_client()
    client.get("/write?a=1")
    monkeypatch.setattr(store, "replace", down)
    answer = client.get("/sign-in")
    assert answer.status_code == 503
    assert "Set-Cookie" not in answer.headers
    monkeypatch.undo()
    assert client.get("/read").json == {"a": "1"}


def test_a_new_id_does_not_bring_back_a_session_that_was_ended(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)
    handles = []

    @app.get("/renew")
    def renew() -> str:
        store_of(app).delete(session.handle)  # type: ignore[attr-defined]
        session.regenerate()  # type: ignore[attr-defined]
        handles.append(session.handle)  # type: ignore[attr-defined]
        return ""

    client = app.test_client()
    client.get("/write?a=1")
    answer = client.get("/renew")
    assert "Set-Cookie" not in answer.headers
    assert not is_alive(app, handles[0])
    assert client.get("/read").json == {}


def test_a_new_id_keeps_the_end_of_the_session_unless_somebody_signs_in(
    make_app: MakeApp,
) -> None:
    app = make_app(SESSION_ABSOLUTE_LIFETIME=1000)
    store_of(app).clock = clock = Clock()

    @app.get("/renew")
    def renew() -> str:
        session.regenerate()  # type: ignore[attr-defined]
        session.update(request.args)
        return ""

    @app.get("/left")
    def left() -> str:
        expires_at = session.expires_at  # type: ignore[attr-defined]
        return f"{expires_at.timestamp() - clock():.0f}"

    client = app.test_client()
    client.get("/write?a=1")
    clock.advance(400)
    client.get("/renew")
    assert client.get("/left").text == "600"
    clock.advance(599)
    assert client.get("/read").json == {"a": "1"}
    client.get("/renew?_user_id=ada")
    clock.advance(999)
    assert client.get("/read").json == {"a": "1", "_user_id": "ada"}
    clock.advance(1)
    assert client.get("/read").json == {}


def test_a_lifetime_of_its_own_is_kept_with_the_session(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)
    store_of(app).clock = clock = Clock()

    @app.get("/remember")
    def remember() -> str:
        session.lifetime = 30  # type: ignore[attr-defined]
        return ""

    client = app.test_client()
    client.get("/write?a=1")
    assert "Max-Age=30" in client.get("/remember").headers["Set-Cookie"]
    for _ in range(5):
        clock.advance(20)
        assert client.get("/read").json == {"a": "1"}
    clock.advance(30)
    assert client.get("/read").json == {}
    for wrong in (0, -1, "soon", float("nan"), True, None):
        with (
            pytest.raises(ConfigurationError, match=r"session\.lifetime"),
            client.session_transaction() as transaction,
        ):
            transaction.lifetime = wrong  # type: ignore[attr-defined]


def test_a_session_made_not_permanent_ends_with_the_browser(make_app: MakeApp) -> None:
    app = make_app()

    @app.get("/forget")
    def forget() -> str:
        session.permanent = False
        return ""

    client = app.test_client()
    client.get("/write?a=1")
    assert "Max-Age" not in client.get("/forget").headers["Set-Cookie"]
    assert "Set-Cookie" not in client.get("/write?a=2").headers
