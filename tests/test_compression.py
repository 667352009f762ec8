"""Larger sessions take less room, and a few stored bytes do not fill the memory."""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from backends import Running
from flask import Flask
from flask.testing import FlaskClient
from test_encryption import put
from test_encryption import reasons
from test_encryption import record_of
from test_life_of_a_request import store_of
from test_session import cookie_of

from flask_serverside import ConfigurationError
from flask_serverside import SerializationError
from flask_serverside import SessionTooLarge
from flask_serverside.sealing import compression

MakeApp = Callable[..., Flask]

HEAD = 30
ALL = list(compression.METHODS)


def client_with(app: Flask, text: str) -> FlaskClient:
    client = app.test_client()
    with client.session_transaction() as transaction:
        transaction["text"] = text
    return client


@pytest.mark.parametrize("method", ALL)
def test_large_sessions_are_stored_smaller(
    make_app: MakeApp, real_backend: Running, method: str
) -> None:
    app = make_app(real_backend, SESSION_COMPRESSION=method)
    client = client_with(app, "abc" * 2000)
    assert len(record_of(client).payload) < 200
    assert client.get("/read").json == {"text": "abc" * 2000}
    client.get("/append")
    assert client.get("/read").json == {"text": "abc" * 2000, "deep": {"list": [1]}}


@pytest.mark.parametrize("method", ALL)
def test_small_ones_and_what_does_not_get_smaller_are_left_as_they_are(
    make_app: MakeApp, method: str
) -> None:
    for text in ("a" * 900, "".join(chr(48 + n * n % 7919 % 79) for n in range(90))):
        app = make_app(SESSION_COMPRESSION=method)
        assert text.encode() in record_of(client_with(app, text)).payload
    compress = compression.configured(method)
    noise = random.Random(3).randbytes(4000)
    assert compression.smaller(noise, compress) == (0, noise)
    assert compression.smaller(b"a" * 1023, compress)[0] == 0
    assert compression.smaller(b"a" * 1024, compress)[0] > 0


@pytest.mark.parametrize("written", [*ALL, None])
@pytest.mark.parametrize("read", [*ALL, None])
def test_all_methods_are_read_whichever_is_configured(
    make_app: MakeApp, written: str | None, read: str | None
) -> None:
    before = make_app(SESSION_COMPRESSION=written)
    client = client_with(before, "abc" * 2000)
    app = make_app(SESSION_COMPRESSION=read)
    app.session_interface.store = store_of(before)  # type: ignore[attr-defined]
    other = app.test_client()
    other.set_cookie("session", cookie_of(client))
    assert other.get("/read").json == {"text": "abc" * 2000}


def bomb(method: str, size: int) -> bytes:
    code, data = compression.smaller(b"\0" * size, compression.configured(method))
    assert code
    assert len(data) < 100_000
    return data


@pytest.mark.parametrize("method", ALL)
def test_a_few_bytes_do_not_become_more_than_the_limit(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    app = make_app(SESSION_COMPRESSION=method)
    client = client_with(app, "abc" * 2000)
    record = record_of(client)
    with monkeypatch.context() as patch:
        patch.setattr(compression, "LARGEST", 2**30)
        data = bomb(method, 2**20)
        patch.setattr(compression, "LARGEST", 2**20 - 1)
        put(app, record._replace(payload=record.payload[:HEAD] + data))
        assert reasons(client) == ["undecodable"]
        code = record.payload[1]
        patch.setattr(compression, "LARGEST", 2**20)
        assert len(compression.as_before(code, data)) == 2**20


@pytest.mark.parametrize("method", ALL)
def test_what_is_cut_off_or_goes_on_is_refused(method: str) -> None:
    compressed = compression.configured(method)
    code, data = compression.smaller(b"abc" * 1000, compressed)
    for damaged in (data[:-1], data + b"x", data + data, b"", b"\xff" * 20):
        with pytest.raises(SerializationError):
            compression.as_before(code, damaged)


def test_more_than_could_be_read_back_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "LARGEST", 2000)
    with pytest.raises(SessionTooLarge, match="2001 bytes is not compressed: 2000 at most"):
        compression.smaller(b"x" * 2001, compression.configured("zlib"))


@pytest.mark.parametrize("value", ["gzip", "", True, 1, ["zlib"]])
def test_an_unknown_method_is_refused(make_app: MakeApp, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"SESSION_COMPRESSION.*zlib, zstd"):
        make_app(SESSION_COMPRESSION=value)


def test_without_zstd_it_says_what_to_install_and_reads_the_rest(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = compression.smaller(b"abc" * 1000, compression.configured("zstd"))
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flask-serverside\[zstd\]'"):
        make_app(SESSION_COMPRESSION="zstd")
    with pytest.raises(SerializationError, match="compressed in a way not known here"):
        compression.as_before(*data)
    assert compression.as_before(1, zlib.compress(b"abc")) == b"abc"


def test_it_is_compressed_before_it_is_encrypted(make_app: MakeApp) -> None:
    app = make_app(SESSION_COMPRESSION="zlib", SESSION_ENCRYPTION_KEYS=[b"k" * 32])
    client = client_with(app, "abc" * 2000)
    assert len(record_of(client).payload) < 200
    assert client.get("/read").json == {"text": "abc" * 2000}


@pytest.mark.parametrize("method", ALL)
def test_no_more_is_unpacked_than_was_allowed(method: str) -> None:
    """What is beyond is never in memory."""
    way = compression.METHODS[method]()
    whole, complete = way.decompress(way.compress(bytes(10**6)), 1000)
    assert (len(whole), complete) == (1000, False)


def test_stored_payloads_say_how_by_numbers_that_stay_the_same() -> None:
    assert {name: make().code for name, make in compression.METHODS.items()} == {
        "zlib": 1,
        "zstd": 2,
    }


@pytest.mark.parametrize("method", ALL)
def test_as_much_as_can_be_read_back_is_written(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(compression, "LARGEST", 2000)
    code, packed = compression.smaller(bytes(2000), compression.METHODS[method]())
    assert compression.as_before(code, packed) == bytes(2000)


def test_without_zlib_zstd_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = compression.METHODS["zstd"]().compress(b"data")

    def missing() -> compression.Compression:
        raise ImportError

    monkeypatch.setitem(compression.METHODS, "zlib", missing)
    assert compression.as_before(2, packed) == b"data"


def test_a_missing_method_is_named_with_its_key(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    for value, expected in (
        ("zstd", "a method that is installed"),
        ("gzip", "none, or one of"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            make_app(SESSION_COMPRESSION=value)
        message = f"SESSION_COMPRESSION = '{value}': expected {expected}"
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize("method", ALL)
def test_why_it_cannot_be_unpacked_is_said(method: str) -> None:
    code, packed = compression.smaller(bytes(2000), compression.configured(method))
    with pytest.raises(SerializationError, match=f"^It is no {method} data: "):
        compression.as_before(code, b"\xff" * 100)
    with pytest.raises(SerializationError, match=f"^Its {method} data is cut off"):
        compression.as_before(code, packed[:-4])
