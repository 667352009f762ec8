"""What is stored is of no use without the cookie, and cannot be altered or exchanged."""

from __future__ import annotations

import base64
import secrets
import sys
from collections.abc import Callable
from datetime import datetime
from datetime import timedelta
from datetime import UTC
from typing import Any

import pytest
from backends import Running
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import Flask
from flask.testing import FlaskClient
from test_life_of_a_request import handle_in
from test_life_of_a_request import store_of
from test_rotation import heard
from test_session import cookie_of
from test_session import in_a_view

from flask_serverside import ConfigurationError
from flask_serverside import current_session as session
from flask_serverside import SerializationError
from flask_serverside import session_rejected
from flask_serverside.sealing.encryption import Encryption
from flask_serverside.sealing.envelope import Contents
from flask_serverside.sealing.envelope import Device
from flask_serverside.sealing.envelope import Envelope
from flask_serverside.stores import Record
from flask_serverside.testing import Clock
from flask_serverside.web.identity import handle_of

MakeApp = Callable[..., Flask]

KEY, OLD_KEY = secrets.token_bytes(32), secrets.token_bytes(32)
SECRET = "4111 1111 1111 1111"


def record_of(client: FlaskClient) -> Record:
    record = store_of(client.application).load(handle_in(cookie_of(client)))
    assert record is not None
    return record


def client_with_secret(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.get("/write", query_string={"card": SECRET})
    return client


def put(app: Flask, record: Record) -> None:
    """Have exactly this record stand in the store."""
    store_of(app).delete(record.handle)
    assert store_of(app).create(record._replace(seen=store_of(app).now()))


def reasons(client: FlaskClient, path: str = "/read") -> list[str]:
    """Why the session is rejected, which answers as an empty one."""
    answers: list[Any] = []
    sent = heard(session_rejected, lambda: answers.append(client.get(path)))
    assert answers[0].status_code == 200
    if path == "/read":
        assert (answers[0].json == {}) == bool(sent)
    return [what["reason"] for what in sent]


def test_nothing_of_the_data_stands_in_the_store(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend, SESSION_ENCRYPTION_KEYS=[KEY])
    client = client_with_secret(app)
    for _ in range(2):
        assert client.get("/read").json == {"card": SECRET}
        payload = record_of(client).payload
        for part in (b"card", SECRET.encode(), b"4111"):
            assert part not in payload
        client.get("/append")
        client.get("/regenerate")
        assert client.get("/read").json == {"card": SECRET, "deep": {"list": [1]}}
        client = client_with_secret(app)


def test_it_is_aes_gcm_with_a_key_from_hkdf(make_app: MakeApp) -> None:
    client = client_with_secret(make_app(SESSION_ENCRYPTION_KEYS=[KEY]))
    record, sid = record_of(client), cookie_of(client).partition(".")[0]
    head, nonce, sealed = record.payload[:30], record.payload[30:42], record.payload[42:]
    key = HKDF(SHA256(), 32, salt=KEY, info=b"flask-serverside.encryption").derive(sid.encode())
    context = record._replace(payload=b"", seen=0, expires=0).pack() + head
    assert b"card" in AESGCM(key).decrypt(nonce, sealed, context)
    # A dump and the keys are not enough.
    for guess in ("", record.handle, KEY.hex()):
        derive = HKDF(SHA256(), 32, salt=KEY, info=b"flask-serverside.encryption").derive
        with pytest.raises(InvalidTag):
            AESGCM(derive(guess.encode())).decrypt(nonce, sealed, context)


def test_the_same_data_is_never_encrypted_to_the_same_bytes(make_app: MakeApp) -> None:
    client = client_with_secret(make_app(SESSION_ENCRYPTION_KEYS=[KEY]))
    nonces = set()
    for number in range(100):
        client.get(f"/write?n={number}")
        nonces.add(record_of(client).payload[30:42])
    assert len(nonces) == 100


def test_no_byte_of_it_can_be_changed(make_app: MakeApp) -> None:
    app = make_app(SESSION_ENCRYPTION_KEYS=[KEY])
    client = client_with_secret(app)
    record = record_of(client)
    for position in range(len(record.payload)):
        altered = bytearray(record.payload)
        altered[position] ^= 1
        put(app, record._replace(payload=bytes(altered)))
        assert reasons(client) == ["undecodable"], position
    for length in range(len(record.payload)):
        put(app, record._replace(payload=record.payload[:length]))
        assert reasons(client) == ["undecodable"], length
    put(app, record)
    assert reasons(client) == []


@pytest.mark.parametrize(
    "change",
    [
        {"version": 7},
        {"subject": "mallory"},
        {"deadline": 2**45},
        {"created": 1},
        {"lifetime": 2**40},
    ],
)
def test_nothing_that_belongs_to_it_can_be_changed(
    make_app: MakeApp, real_backend: Running, change: dict[str, Any]
) -> None:
    app = make_app(real_backend, SESSION_ENCRYPTION_KEYS=[KEY])
    client = client_with_secret(app)
    put(app, record_of(client)._replace(**change))
    assert reasons(client) == ["undecodable"]


def test_a_touch_needs_no_key(make_app: MakeApp, real_backend: Running) -> None:
    app = make_app(real_backend, SESSION_ENCRYPTION_KEYS=[KEY], SESSION_TOUCH_INTERVAL=0)
    store_of(app).clock = clock = Clock()
    client = client_with_secret(app)
    clock.advance(5)
    before = record_of(client)
    client.get("/read")
    after = record_of(client)
    assert (after.expires - before.expires, after.payload) == (5000, before.payload)
    assert reasons(client) == []


def test_a_record_copied_onto_another_handle_fails(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend, SESSION_ENCRYPTION_KEYS=[KEY])
    admin, mallory = client_with_secret(app), app.test_client()
    mallory.get("/write?a=1")
    put(app, record_of(admin)._replace(handle=handle_in(cookie_of(mallory))))
    assert reasons(mallory) == ["undecodable"]


def test_a_payload_put_back_from_an_old_backup_fails(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(real_backend, SESSION_ENCRYPTION_KEYS=[KEY])
    client = app.test_client()
    client.get("/write?role=admin")
    old = record_of(client)
    client.get("/write?role=guest")
    put(app, record_of(client)._replace(payload=old.payload))
    assert reasons(client) == ["undecodable"]


def test_keys_are_rotated_without_anybody_being_logged_out(
    make_app: MakeApp, real_backend: Running
) -> None:
    before = make_app(real_backend, SESSION_ENCRYPTION_KEYS=[OLD_KEY])
    client = client_with_secret(before)
    cookie = cookie_of(client)
    between = make_app(real_backend, SESSION_ENCRYPTION_KEYS=[KEY, OLD_KEY])
    after = make_app(real_backend, SESSION_ENCRYPTION_KEYS=[KEY])
    if real_backend.name == "memory":
        between.session_interface.store = store_of(before)  # type: ignore[attr-defined]
        after.session_interface.store = store_of(before)  # type: ignore[attr-defined]

    def read(app: Flask) -> list[str]:
        client = app.test_client()
        client.set_cookie("session", cookie)
        return reasons(client)

    assert read(after) == ["undecodable"]
    assert read(between) == []  # and encrypts it anew
    assert read(after) == []
    assert read(before) == ["undecodable"]


@pytest.mark.parametrize("until", ["at the same time", None])
def test_plaintext_is_refused_except_in_the_window_that_is_stated(
    make_app: MakeApp, until: str | None
) -> None:
    plain = make_app()
    client = client_with_secret(plain)
    clock = Clock()
    end = datetime.fromtimestamp(clock.seconds + 100, UTC)
    window = {"SESSION_ENCRYPTION_PLAINTEXT_UNTIL": end.isoformat()} if until else {}
    app = make_app(SESSION_ENCRYPTION_KEYS=[KEY], **window)
    app.session_interface.store = store_of(plain)  # type: ignore[attr-defined]
    store_of(app).clock = clock
    migrated, late = app.test_client(), app.test_client()
    record = record_of(client)
    for other in (migrated, late):
        other.set_cookie("session", cookie_of(client))
    if until is None:
        assert reasons(late) == ["undecodable"]
        return
    clock.advance(99.999)
    assert reasons(migrated) == []
    assert SECRET.encode() not in record_of(client).payload  # it was encrypted by that
    put(app, record)
    clock.advance(0.001)
    assert reasons(late) == ["undecodable"]


def test_what_is_encrypted_is_refused_where_there_are_no_keys(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    encrypting = make_app(SESSION_ENCRYPTION_KEYS=[KEY])
    client = client_with_secret(encrypting)
    app = make_app()
    app.session_interface.store = store_of(encrypting)  # type: ignore[attr-defined]
    other = app.test_client()
    other.set_cookie("session", cookie_of(client))
    assert reasons(other) == ["undecodable"]
    assert "there is no SESSION_ENCRYPTION_KEYS" in caplog.text


def test_keys_may_be_text_as_in_the_environment(make_app: MakeApp) -> None:
    text = [base64.urlsafe_b64encode(key).decode() for key in (KEY, OLD_KEY)]
    for value in (text, ",".join(text), ", ".join(t.rstrip("=") for t in text), tuple(text)):
        app = make_app(SESSION_ENCRYPTION_KEYS=value)
        services = app.session_interface._services_for(app)  # type: ignore[attr-defined]
        assert services.settings.encryption == Encryption([KEY, OLD_KEY])


WRONG_KEYS: dict[str, Any] = {
    "none in a list": [],
    "empty": "",
    "short": [b"x" * 31],
    "long": [b"x" * 33],
    "a word": "secret-secret-secret",
    "hexadecimal": KEY.hex(),
    "one that is no key": [KEY, None],
    "bytes": KEY,
    "a number": 5,
    "not ASCII": "ü" * 43,
}


@pytest.mark.parametrize("value", WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_what_is_no_key_is_refused_and_not_shown(make_app: MakeApp, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="SESSION_ENCRYPTION_KEYS") as refused:
        make_app(SESSION_ENCRYPTION_KEYS=value)
    assert "secret-secret" not in str(refused.value)
    assert KEY.hex() not in str(refused.value)
    assert "token_urlsafe(32)" in str(refused.value)


@pytest.mark.parametrize("value", ["tomorrow", "2026-12-31", datetime(2026, 12, 31), 5, True])
def test_a_window_that_is_none_is_refused(make_app: MakeApp, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="SESSION_ENCRYPTION_PLAINTEXT_UNTIL"):
        make_app(SESSION_ENCRYPTION_KEYS=[KEY], SESSION_ENCRYPTION_PLAINTEXT_UNTIL=value)


def test_a_window_without_keys_is_refused(make_app: MakeApp) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    with pytest.raises(ConfigurationError, match="SESSION_ENCRYPTION_PLAINTEXT_UNTIL"):
        make_app(SESSION_ENCRYPTION_PLAINTEXT_UNTIL=until)


def test_without_the_library_it_says_what_to_install(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(
        ConfigurationError, match=r"pip install 'flask-serverside\[encryption\]'"
    ):
        make_app(SESSION_ENCRYPTION_KEYS=[KEY])


def test_merging_opens_what_others_have_sealed(
    make_app: MakeApp, real_backend: Running
) -> None:
    app = make_app(
        real_backend, SESSION_ENCRYPTION_KEYS=[KEY, OLD_KEY], SESSION_COMPRESSION="zlib"
    )
    other = app.test_client()

    @app.get("/slow")
    def slow() -> str:
        session["mine"] = "x" * 3000
        other.get("/write?theirs=1")
        return ""

    client = client_with_secret(app)
    other.set_cookie("session", cookie_of(client))
    client.get("/slow")
    assert client.get("/read").json == {"card": SECRET, "theirs": "1", "mine": "x" * 3000}


def test_a_tombstone_says_nothing_of_the_data(make_app: MakeApp) -> None:
    app = make_app(SESSION_ENCRYPTION_KEYS=[KEY])
    client = client_with_secret(app)
    handle = handle_in(cookie_of(client))
    client.get("/destroy")
    record = store_of(app).load(handle)
    assert record is not None
    assert record.payload == b""


def test_what_is_sealed_opens_again() -> None:
    encryption = Encryption([KEY])
    record = Record(handle_of("sid"), b"", 3, 1, 2, 3, 4, 5, "ada")
    contents = Contents(b"data", 7, 8, b"mark")
    for envelope in (Envelope(), Envelope(encryption=encryption)):
        sealed = envelope.close("sid", record, contents)
        assert envelope.open("sid", sealed, 0) == contents
    with pytest.raises(SerializationError, match="altered"):
        envelope.open("another", sealed, 0)


def test_what_was_encrypted_anew_is_not_stored_once_more(make_app: MakeApp) -> None:
    before = make_app(SESSION_ENCRYPTION_KEYS=[OLD_KEY])
    after = make_app(SESSION_ENCRYPTION_KEYS=[KEY, OLD_KEY])
    after.session_interface.store = store_of(before)  # type: ignore[attr-defined]
    client = after.test_client()
    client.set_cookie("session", cookie_of(client_with_secret(before)))

    def view() -> list[bool]:
        assert session["card"] == SECRET
        outdated = [session.modified]
        session.save()
        return [*outdated, session.modified]

    assert in_a_view(after, client, view) == [True, False]


@pytest.mark.parametrize(("value", "kind"), [(7, "int"), ("short", "str"), ([b"x"], "bytes")])
def test_what_is_no_key_is_named_by_its_type(make_app: MakeApp, value: Any, kind: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^SESSION_ENCRYPTION_KEYS.*'{kind}'"):
        make_app(SESSION_ENCRYPTION_KEYS=value)


def test_where_the_library_is_missing_the_key_is_named_and_not_shown(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    expected = r"^SESSION_ENCRYPTION_KEYS = <class 'list'>: expected cryptography installed\."
    with pytest.raises(ConfigurationError, match=expected):
        make_app(SESSION_ENCRYPTION_KEYS=[KEY])


def test_a_payload_says_its_format_and_times_in_front() -> None:
    record = Record("a" * 64, b"", 1, 0, 0, 0, 0, None, None)
    contents = Contents(b"data", 2, 3, b"mark", Device("agent", "::1"), b"former")
    payload = Envelope().close("sid", record, contents).payload
    head = bytes([2, 0, *bytes(7), 2, *bytes(7), 3, 4, 5, 3, 6])
    assert payload[:22] == head
    assert payload[30:] == b"markagent::1formerdata"


def test_no_two_saves_of_the_same_data_have_the_same_payload() -> None:
    """A save that lost its connection must not take another request's for its own."""
    record = Record("a" * 64, b"", 1, 0, 0, 0, 0, None, None)
    contents = Contents(b"data", 2)
    payloads = {Envelope().close("sid", record, contents).payload for _ in range(100)}
    assert len(payloads) == 100
