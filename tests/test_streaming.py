"""What is changed while a response is being sent, or where there is none."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from backends import Running
from flask import flash
from flask import Flask
from flask import Response
from flask import stream_with_context
from flask.testing import FlaskClient
from flask_socketio import emit
from flask_socketio import SocketIO
from test_life_of_a_request import is_alive
from test_life_of_a_request import store_of
from test_session import in_a_view
from test_session import meanwhile

from flask_serverside import current_session as session
from flask_serverside import SerializationError
from flask_serverside import StoreUnavailable

MakeApp = Callable[..., Flask]


def streaming(app: Flask, change: Callable[[], Any], before: Callable[[], Any] = int) -> None:
    """Adds a view that changes the session between two parts of its response."""

    @app.get("/stream")
    def stream() -> Any:
        def parts() -> Iterator[str]:
            yield "one"
            change()
            yield "two"

        before()
        return app.response_class(stream_with_context(parts()))


def send_all(client: FlaskClient) -> str:
    """Take all of the response, and close it, as a WSGI server does."""
    return client.get("/stream", buffered=True).text


def client_with_session(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.get("/write?a=1")
    return client


def test_changes_made_while_sending_are_stored_when_it_closes(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)
    streaming(app, lambda: session.setdefault("deep", []).append(1))
    client = client_with_session(app)
    for length in (1, 2):
        assert send_all(client) == "onetwo"
        assert client.get("/read").json == {"a": "1", "deep": [1] * length}


def test_changes_before_and_while_sending_are_both_stored(make_app: MakeApp) -> None:
    app = make_app()
    streaming(app, lambda: session.update(b=2), before=lambda: session.update(c=3))
    client = client_with_session(app)
    send_all(client)
    assert client.get("/read").json == {"a": "1", "b": 2, "c": 3}


def test_a_session_that_began_before_sending_takes_changes(make_app: MakeApp) -> None:
    app = make_app()
    streaming(app, lambda: session.update(b=2), before=lambda: session.update(c=3))
    client = app.test_client()
    send_all(client)
    assert client.get("/read").json == {"b": 2, "c": 3}


def test_what_others_save_while_sending_is_kept(make_app: MakeApp) -> None:
    app = make_app()

    def change() -> None:
        session["b"] = 2
        meanwhile(app, lambda theirs: theirs.update(c="3"))

    streaming(app, change)
    client = client_with_session(app)
    send_all(client)
    assert client.get("/read").json == {"a": "1", "b": 2, "c": "3"}


def test_a_session_that_begins_while_sending_is_lost_and_said_to_be(make_app: MakeApp) -> None:
    app = make_app()
    streaming(app, lambda: session.update(b=2))
    client = app.test_client()
    with pytest.warns(RuntimeWarning, match=r"Lost from the session: 'b'.*before that"):
        send_all(client)
    assert client.get("/read").json == {}


def test_a_new_id_while_sending_is_lost_and_said_to_be(make_app: MakeApp) -> None:
    app = make_app()
    streaming(app, lambda: session.regenerate())
    client = client_with_session(app)
    with pytest.warns(RuntimeWarning, match="Lost from the session: its new id"):
        send_all(client)
    assert client.get("/read").json == {"a": "1"}


@pytest.mark.parametrize(
    "sign_out",
    [
        lambda: (session.pop("_user_id"), session.regenerate()),
        lambda: (session.clear(), session.regenerate()),
        lambda: session.regenerate(keep=False),
        lambda: (session.pop("_user_id"), session.regenerate(keep=["a"])),
    ],
)
def test_a_sign_out_while_sending_counts_though_no_new_id_can_be_given(
    make_app: MakeApp, sign_out: Callable[[], object]
) -> None:
    app = make_app()
    streaming(app, sign_out)
    client = app.test_client()
    client.get("/write?a=1&_user_id=ada")
    send_all(client)
    assert "_user_id" not in client.get("/read").json


@pytest.mark.parametrize("end", ["destroy", "clear"])
def test_a_session_that_ends_while_sending_leaves_the_client_free(
    make_app: MakeApp, end: str
) -> None:
    app = make_app()
    handles = []

    def change() -> None:
        handles.append(session.handle)
        getattr(session, end)()

    streaming(app, change)
    client = client_with_session(app)
    send_all(client)
    assert not is_alive(app, handles[0])
    client.get("/write?b=2")
    assert client.get("/read").json == {"b": "2"}


def test_a_change_that_cannot_be_stored_is_not_passed_over(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    streaming(app, lambda: session.update(b=2))
    client = client_with_session(app)

    def down(record: Any) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(store_of(app), "replace", down)
    with pytest.raises(StoreUnavailable):
        send_all(client)


def test_a_stream_that_leaves_the_session_alone_costs_no_trip(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    streaming(app, lambda: None)
    client = client_with_session(app)
    monkeypatch.setattr(store_of(app), "find", None)
    assert send_all(client) == "onetwo"


# -- Flask-SocketIO


@pytest.fixture
def chat(make_app: MakeApp) -> tuple[Flask, SocketIO]:
    app = make_app()
    socketio = SocketIO(app, manage_session=False, async_mode="threading")

    @socketio.on("say")
    def say(word: str) -> None:
        session.setdefault("said", []).append(word)
        emit("heard", session["said"])

    @socketio.on("leave")
    def leave() -> None:
        session.destroy()
        flash("you have left")

    return app, socketio


def test_socketio_and_http_share_the_session(chat: tuple[Flask, SocketIO]) -> None:
    app, socketio = chat
    client = client_with_session(app)
    socket = socketio.test_client(app, flask_test_client=client)
    socket.emit("say", "hello")
    assert client.get("/read").json == {"a": "1", "said": ["hello"]}
    client.get("/write?b=2")
    socket.emit("say", "again")
    assert client.get("/read").json == {"a": "1", "b": "2", "said": ["hello", "again"]}
    assert socket.get_received()[-1]["args"] == [["hello", "again"]]


def test_a_session_that_begins_in_socketio_is_lost_and_said_to_be(
    chat: tuple[Flask, SocketIO],
) -> None:
    app, socketio = chat
    client = app.test_client()
    socket = socketio.test_client(app, flask_test_client=client)
    with pytest.warns(RuntimeWarning, match="Lost from the session: 'said'"):
        socket.emit("say", "hello")
    assert client.get("/read").json == {}


def test_socketio_is_told_of_a_save_that_failed(
    chat: tuple[Flask, SocketIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, socketio = chat
    client = client_with_session(app)
    socket = socketio.test_client(app, flask_test_client=client)

    def down(record: Any) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(store_of(app), "replace", down)
    with pytest.raises(StoreUnavailable):
        socket.emit("say", "hello")


def test_a_session_that_ends_in_socketio_leaves_the_client_free(
    chat: tuple[Flask, SocketIO],
) -> None:
    app, socketio = chat
    client = client_with_session(app)
    socket = socketio.test_client(app, flask_test_client=client)
    handle = in_a_view(app, client, lambda: session.handle)
    with pytest.warns(RuntimeWarning, match="_flashes"):
        socket.emit("leave")
    assert not is_alive(app, handle)


def test_the_answer_to_an_error_is_closed_once_it_was_sent(make_app: MakeApp) -> None:
    app = make_app()
    closed = []

    @app.get("/fails")
    def fails() -> str:
        session["a"] = object()
        return ""

    @app.errorhandler(SerializationError)
    def sorry(error: SerializationError) -> Response:
        answer = Response("sorry", 500)
        answer.call_on_close(lambda: closed.append(True))
        return answer

    with app.test_client().get("/fails") as answer:
        assert answer.text == "sorry"
    assert closed == [True]


def test_while_the_answer_to_an_error_is_sent_nothing_is_stored(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    streaming(app, int, before=lambda: session.update(b=2))

    @app.errorhandler(StoreUnavailable)
    def sorry(error: StoreUnavailable) -> Response:
        return Response(stream_with_context(iter(["sor", "ry"])), 503)

    client = client_with_session(app)

    def down(record: Any) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(store_of(app), "replace", down)
    assert send_all(client) == "sorry"
