"""What stands in the store is not trusted: other programs, faults and attackers write there."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
from backends import Running
from flask import Flask
from test_life_of_a_request import handle_in
from test_life_of_a_request import store_of
from test_rotation import heard
from test_session import cookie_of
from test_session import in_a_view

from flask_serverside import current_session as session
from flask_serverside import SerializationError
from flask_serverside import session_rejected
from flask_serverside.sealing.serializers import MsgPack
from flask_serverside.stores import Record
from flask_serverside.stores import Store

MakeApp = Callable[..., Flask]


def put_value(store: Any, handle: str, value: bytes) -> None:
    """Put these bytes where the whole record is, or what of it the backend has in bytes."""
    kind = type(store).__name__
    if kind == "RedisStore":
        store._call(store._line.send, "SET", store.prefix + handle, value)
    elif kind == "MemcachedStore":
        store._client(handle).set(store.prefix + handle, value, noreply=False)
    else:
        put_payload(store, handle, value)


def put_payload(store: Any, handle: str, payload: bytes) -> None:
    """Put these bytes where the data is, in a record that is otherwise right."""
    record: Record = store.load(handle)
    assert store.replace(record._replace(payload=payload, version=record.version + 1))


def put_another_type(store: Any, handle: str) -> None:
    """Put something there that is not even bytes, where the backend has types."""
    kind = type(store).__name__
    if kind == "RedisStore":
        store._call(store._line.send, "DEL", store.prefix + handle)
        store._call(store._line.send, "RPUSH", store.prefix + handle, "a", "list")
    elif kind == "MongoDBStore":
        later = store._collection.find_one({"_id": handle})["expires"]
        store._collection.replace_one({"_id": handle}, {"expires": later, "payload": "text"})
    elif kind == "SQLAlchemyStore" and store._engine.dialect.name == "sqlite":
        with store._engine.connect() as connection:
            connection.exec_driver_sql(
                "UPDATE sessions SET payload = 'text', version = 'x', seen = 'y'"
                " WHERE handle = ?",
                (handle,),
            )
    else:
        put_value(store, handle, b"text")


RANDOM = random.Random(5)
VALUES = {
    "nothing": b"",
    "text": b"hello",
    "zeros": bytes(500),
    "random": RANDOM.randbytes(300),
    "a pickle that would run a command": b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.",
    "a number": b"12",
    "Flask's JSON": b'{"a": 1}',
}
PAYLOADS = {
    **VALUES,
    "a list": MsgPack().dumps([1, 2]),
    "cut off": MsgPack().dumps({"a": list(range(100))})[:50],
    "an unknown extension": b"\x81\xa1a\xd4\x7f\x00",
    "extensions in extensions": b"\x81\xa1a" + b"\xc7\xff\x02" * 300,
    "a date that is none": b"\x81\xa1a\xc7\x04\x05abcd",
    "a set of lists": b"\x81\xa1a\xc7\x03\x03\x92\x90\x90",
    "pairs that are not": b"\x81\xa1a\xc7\x02\x0d\x91\x01",
    "a decimal that is none": b"\x81\xa1a\xd4\x0ax",
}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    return lambda: [r for r in caplog.records if r.levelno >= logging.WARNING]


def begins_afresh(
    app: Flask,
    logged: Callable[[], list[logging.LogRecord]],
    damage: Callable[[Store, str], None],
) -> None:
    client = app.test_client()
    client.get("/write?a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    handle = handle_in(cookie.value)
    store = store_of(app)
    assert store.load(handle) is not None
    damage(store, handle)
    answer = client.get("/read")
    assert (answer.status_code, answer.json) == (200, {})
    assert [handle in record.getMessage() for record in logged()] == [True]
    assert cookie.value.partition(".")[0] not in logged()[0].getMessage()
    assert client.get("/write?b=1").status_code == 200
    assert client.get("/read").json == {"b": "1"}
    new = client.get_cookie("session")
    assert new is not None
    assert new.value != cookie.value


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_foreign_value_gives_a_fresh_session_and_one_warning(
    make_app: MakeApp, backend: Running, logged: Any, value: bytes
) -> None:
    begins_afresh(make_app(backend), logged, lambda s, handle: put_value(s, handle, value))


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_damaged_data_gives_a_fresh_session_and_one_warning(
    make_app: MakeApp, backend: Running, logged: Any, payload: bytes
) -> None:
    begins_afresh(make_app(backend), logged, lambda s, handle: put_payload(s, handle, payload))


def test_another_type_gives_a_fresh_session_and_one_warning(
    make_app: MakeApp, backend: Running, logged: Any
) -> None:
    begins_afresh(make_app(backend), logged, put_another_type)


def test_a_truncated_record_gives_a_fresh_session(make_app: MakeApp, backend: Running) -> None:
    app = make_app(backend)
    whole = Record(
        "0" * 64, MsgPack().dumps({"a": "1" * 50}), 1, 1, 1, 2**50, 1, 5, "me"
    ).pack()
    client = app.test_client()
    for length in range(0, len(whole), 7):
        client.get("/write?a=1")
        cookie = client.get_cookie("session")
        assert cookie is not None
        put_value(store_of(app), handle_in(cookie.value), whole[:length])
        answer = client.get("/read")
        assert (answer.status_code, answer.json) == (200, {})


def test_damage_between_load_and_save_does_not_give_500(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)
    from flask import session

    @app.get("/slow")
    def slow() -> str:
        session["a"] = "changed"
        handle = session.handle  # type: ignore[attr-defined]
        put_payload(store_of(app), handle, b"\xc1\xc1")
        return ""

    client = app.test_client()
    client.get("/write?a=1")
    assert client.get("/slow").status_code == 200
    assert client.get("/read").json == {}


@pytest.mark.parametrize("payload", [VALUES["zeros"], PAYLOADS["cut off"]])
def test_what_is_ignored_is_told_with_its_handle_and_why(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, payload: bytes
) -> None:
    app = make_app()
    client = app.test_client()
    client.get("/write?a=1")
    handle = handle_in(cookie_of(client))
    put_payload(store_of(app), handle, payload)
    sent = heard(session_rejected, lambda: client.get("/read"))
    assert [(what["handle"], what["reason"]) for what in sent] == [(handle, "undecodable")]
    [warning] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.startswith(f"Session {handle} is ignored, it begins afresh: It is ")


@pytest.mark.parametrize("operation", ["find", "replace", "load"])
def test_what_a_store_cannot_read_is_told_with_its_handle_and_why(
    make_app: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    operation: str,
) -> None:
    app = make_app()
    client = app.test_client()
    client.get("/write?a=1")
    handle = handle_in(cookie_of(client))

    def damaged(argument: object) -> None:
        raise SerializationError("broken")

    def view() -> None:
        if operation == "find":
            monkeypatch.setattr(store_of(app), operation, damaged)
        session["b"] = 1
        monkeypatch.setattr(store_of(app), operation, damaged)
        session.reload() if operation == "load" else session.save()

    sent = heard(session_rejected, lambda: in_a_view(app, client, view))
    assert {"handle": handle, "subject": None, "reason": "undecodable"} in sent
    assert f"Session {handle} is ignored, it begins afresh: broken" in caplog.messages


def test_revoking_what_cannot_be_read_removes_it(make_app: MakeApp, backend: Running) -> None:
    app = make_app(backend)
    client = app.test_client()
    client.get("/write?a=1")
    cookie = client.get_cookie("session")
    assert cookie is not None
    handle = handle_in(cookie.value)
    put_value(store_of(app), handle, b"damaged")
    with app.app_context():
        assert app.extensions["flask_serverside"].revoke(handle)
    assert store_of(app).find(handle) is None
