"""Ids cannot be guessed, chosen or forged, and are nowhere but with the client."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from typing import Any

import itsdangerous
import pytest
from backends import Running
from flask import Flask
from test_life_of_a_request import handle_in
from test_life_of_a_request import store_of
from test_rotation import heard
from test_session import cookie_of

import flask_serverside
from flask_serverside import current_session as session
from flask_serverside import session_rejected
from flask_serverside.testing import Clock
from flask_serverside.web.identity import handle_of
from flask_serverside.web.identity import Identity
from flask_serverside.web.identity import mark_of
from flask_serverside.web.identity import new_id
from flask_serverside.web.identity import successor_of
from flask_serverside.web.identity import well_formed

MakeApp = Callable[..., Flask]

SID = "A" * 43
SIGNALS = [
    value for name, value in vars(flask_serverside).items() if name.startswith("session_")
]


def test_an_id_is_256_bits_of_the_systems_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def urandom(size: int) -> bytes:
        asked.append(size)
        return b"\xff" * size

    monkeypatch.setattr(secrets, "token_bytes", urandom)
    assert new_id() == "_" * 42 + "8"
    assert asked == [32]
    assert len(new_id(16)) == 22
    assert asked == [32, 16]


def test_the_signature_is_hmac_sha256_under_a_key_for_this_purpose() -> None:
    cookie = Identity(["secret"]).sign(SID)
    key = hmac.digest(b"secret", b"flask-serverside.session-id", "sha256")
    expected = hmac.digest(key, SID.encode(), "sha256")
    assert cookie.partition(".")[0] == SID
    assert itsdangerous.base64_decode(cookie.partition(".")[2]) == expected


def test_the_signature_is_checked_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = Identity(["secret"]).sign(SID)
    compared, compare_digest = [], hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return compare_digest(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    wrong = cookie[:-1] + ("A" if cookie[-1] != "A" else "B")
    identity = Identity(["secret"])
    assert identity.verify(wrong[:-2] + "AA") is None
    assert identity.verify(cookie) == SID
    assert len(compared) == 2
    assert all(len(a) == len(b) == len(cookie) for a, b in compared)


def test_every_byte_of_id_and_signature_counts() -> None:
    identity = Identity(["secret"])
    cookie = identity.sign(SID)
    for position in range(len(cookie)):
        for other in "Bx_-.":
            if cookie[position] != other:
                changed = cookie[:position] + other + cookie[position + 1 :]
                assert identity.verify(changed) is None, changed


def test_all_keys_verify_and_the_last_signs() -> None:
    old, new = Identity(["old"]), Identity(["older", "old", b"new"])
    for key in ("older", "old", "new"):
        cookie = Identity([key]).sign(SID)
        assert new.verify(cookie) == SID
        assert new.is_outdated(cookie) == (key != "new")
    assert new.sign(SID) == Identity(["new"]).sign(SID)
    assert old.verify(new.sign(SID)) is None
    assert not Identity(["old"]).is_outdated(old.sign(SID))


def test_what_is_not_well_formed_costs_no_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity(["secret"])
    monkeypatch.setattr("flask_serverside.web.identity.hmac", None)
    for value in (
        "",
        SID,
        f"{SID}.",
        f"{SID}.{'B' * 42}",
        f"{SID}.{'B' * 44}",
        f"{'A' * 21}.{'B' * 43}",
        f"{'A' * 257}.{'B' * 43}",
        f"{SID}.{'B' * 42}+",
        f"{SID}.{'B' * 43}\n",
        f" {SID}.{'B' * 43}",
        f"{SID}..{'B' * 43}",
        f"{'é' * 43}.{'B' * 43}",
    ):
        assert not well_formed(value)
        assert identity.verify(value) is None
    for size in (22, 256):
        assert well_formed(f"{'A' * size}.{'B' * 43}")


def test_an_old_signature_is_renewed_on_the_way(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend, PERMANENT_SESSION_LIFETIME=100)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")
    old = cookie_of(client)
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["test"])
    assert "Set-Cookie" not in client.get("/untouched").headers
    clock.advance(3)
    answer = client.get("/read")
    assert answer.json == {"a": "1"}
    assert "Max-Age=97;" in answer.headers["Set-Cookie"]
    new = cookie_of(client)
    assert handle_in(new) == handle_in(old)
    assert new == Identity(["new"]).sign(old.partition(".")[0])
    assert "Set-Cookie" not in client.get("/read").headers
    app.config.update(SECRET_KEY_FALLBACKS=None)
    assert client.get("/read").json == {"a": "1"}
    client.get("/destroy")
    client.set_cookie("session", old)
    app.config.update(SECRET_KEY_FALLBACKS=["test"])
    assert "Set-Cookie" not in client.get("/read").headers  # nothing to be renewed


def test_a_leaked_handle_is_of_no_use_as_a_cookie(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend)
    client = app.test_client()
    client.get("/write?a=1")
    handle = handle_in(cookie_of(client))
    assert store_of(app).load(handle) is not None
    signature = cookie_of(client).partition(".")[2]
    for value in (handle, f"{handle}.{signature}", Identity(["test"]).sign(handle)):
        thief = app.test_client()
        thief.set_cookie("session", value)
        assert thief.get("/read").json == {}


REASONS = {
    "malformed": lambda sid: sid,
    "bad signature": lambda sid: Identity(["another"]).sign(sid),
    "unknown": lambda sid: Identity(["test"]).sign(SID),
}


@pytest.mark.parametrize("reason", REASONS)
def test_why_a_cookie_is_rejected(
    make_app: MakeApp, real_backend: Running, reason: str
) -> None:
    app = make_app(real_backend)
    client = app.test_client()
    client.get("/write?a=1")
    client.set_cookie("session", REASONS[reason](cookie_of(client).partition(".")[0]))
    handle = handle_of(SID) if reason == "unknown" else None
    assert heard(session_rejected, lambda: client.get("/read")) == [
        {"handle": handle, "subject": None, "reason": reason}
    ]


def test_an_expired_session_is_rejected_as_such_where_that_is_known(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend, PERMANENT_SESSION_LIFETIME=1000)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")
    handle = handle_in(cookie_of(client))
    clock.advance(1000)  # the server has not noticed, but would it tell?
    sent = heard(session_rejected, lambda: client.get("/read"))
    assert [(what["handle"], what["reason"]) for what in sent] == [(handle, "expired")]


def test_an_id_that_has_just_ended_is_rejected_as_such(make_app: MakeApp) -> None:
    app = make_app()
    client = app.test_client()
    client.get("/write?_user_id=ada")
    cookie = cookie_of(client)
    client.get("/destroy")
    client.set_cookie("session", cookie)
    assert heard(session_rejected, lambda: client.get("/read")) == [
        {"handle": handle_in(cookie), "subject": "ada", "reason": "ended"}
    ]


@pytest.mark.parametrize("what", ["unknown", "expired", "ended"])
def test_an_unknown_id_costs_the_same_as_one_that_was_known(
    make_app: MakeApp, real_backend: Running, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    app = make_app(real_backend, PERMANENT_SESSION_LIFETIME=1000)
    store_of(app).clock = clock = Clock()
    client = app.test_client()
    client.get("/write?a=1")
    if what == "unknown":
        client.set_cookie("session", Identity(["test"]).sign(SID))
    elif what == "ended":
        cookie = cookie_of(client)
        client.get("/destroy")
        client.set_cookie("session", cookie)
    else:
        clock.advance(1000)
    operations = []
    call = store_of(app)._call

    def counted(primitive: Any, *arguments: Any) -> Any:
        operations.append(primitive.__name__)
        return call(primitive, *arguments)

    monkeypatch.setattr(store_of(app), "_call", counted)
    answer = client.get("/read")
    assert operations == ["_load_named"]
    assert answer.json == {}
    assert sorted(answer.headers.keys()) == ["Content-Length", "Content-Type", "Vary"]


def test_the_successor_of_an_id_is_a_keyed_hash_of_the_length_that_is_configured() -> None:
    rotation = b"r" * 32
    expected = hashlib.shake_256(b"flask-serverside.successor\0" + rotation + SID.encode())
    assert itsdangerous.base64_decode(successor_of(SID, rotation)) == expected.digest(32)
    for size in (16, 32, 33, 192):
        sid = successor_of(SID, rotation, size)
        assert len(itsdangerous.base64_decode(sid)) == size
        assert well_formed(f"{sid}.{'B' * 43}")
    assert successor_of(SID, b"s" * 32) != successor_of(SID, rotation)
    assert successor_of("B" * 43, rotation) != successor_of(SID, rotation)


def test_a_mark_depends_on_client_and_id() -> None:
    marks = {mark_of(sid, client) for sid in (SID, "B") for client in ("", "a", "b", "é\udcff")}
    assert len(marks) == 8
    assert {len(mark) for mark in marks} == {16}


def test_no_id_in_any_log_signal_repr_or_error(
    make_app: MakeApp, real_backend: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = make_app(
        real_backend,
        SESSION_ROTATION_INTERVAL=100,
        SESSION_ENCRYPTION_KEYS=[b"k" * 32],
        SESSION_MAX_SIZE=4000,
        TESTING=False,
        PROPAGATE_EXCEPTIONS=False,
    )
    store_of(app).clock = clock = Clock()
    texts: list[str] = []
    ids: set[str] = set()

    @app.get("/show")
    def show() -> str:
        session["a"] = 1
        texts.extend([repr(session), str(session), repr(vars(session)["_unit"])])
        ids.add(session.sid)
        return ""

    @app.get("/too-much")
    def too_much() -> str:
        session["b"] = "x" * 10_000
        return ""

    @app.errorhandler(Exception)
    def error(error: Exception) -> str:
        texts.extend([repr(error), str(error)])
        return "error"

    def hear(sender: Flask, **what: Any) -> None:
        texts.append(repr(what))

    for signal in SIGNALS:
        signal.connect(hear)
    try:
        client, late = app.test_client(), app.test_client()
        for path in (
            *("/show", "/write?b=1", "/too-much", "/write?_user_id=ada", "/show"),
            *("/regenerate", "/show", "/read", "/show", "/read", "/clear", "/write?a=1"),
            *("/show", "/destroy"),
        ):
            clock.advance(101)
            if cookie := client.get_cookie("session"):
                ids.add(cookie.value.partition(".")[0])
                late.set_cookie("session", cookie.value)
            client.get(path)
            late.get("/write?c=1")
            clock.advance(11)
            late.get("/read")
    finally:
        for signal in SIGNALS:
            signal.disconnect(hear)
    assert len(ids) >= 8
    assert len(texts) > 30
    everything = caplog.text + "".join(texts)
    assert [sid for sid in ids if sid in everything] == []
    assert [sid for sid in ids if handle_of(sid) in everything] != []


@pytest.mark.parametrize(("length", "size"), [(16, 22), (32, 43), (48, 64)])
def test_ids_that_follow_in_a_rotation_are_all_as_long(length: int, size: int) -> None:
    rotations = [number.to_bytes(32) for number in range(500)]
    assert {len(successor_of(SID, rotation, length)) for rotation in rotations} == {size}
