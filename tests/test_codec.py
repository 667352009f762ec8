"""What goes into a session comes out of it, and what cannot is named."""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable
from datetime import date
from datetime import datetime
from datetime import time
from datetime import timedelta
from datetime import timezone
from decimal import Decimal
from typing import Any
from typing import NamedTuple
from uuid import UUID

import ormsgpack
import pytest
from backends import Running
from flask import Flask
from flask import session
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from markupsafe import Markup

from flask_serverside import SerializationError
from flask_serverside.sealing.codec import Codec
from flask_serverside.sealing.serializers import JSON
from flask_serverside.sealing.serializers import MsgPack

MakeApp = Callable[..., Flask]

codec = Codec(MsgPack())


class Colour(enum.StrEnum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Plain(enum.Enum):
    ONE = 1


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        # In the same order, too: a dict has one.
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if isinstance(one, datetime | time):
        return repr(one.utcoffset()) == repr(other.utcoffset()) and one == other
    return repr(one) == repr(other)


offsets = st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
surrogates = st.text(st.characters(), max_size=5)
hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False),
    surrogates,
    st.text(max_size=5).map(Markup),
    st.binary(max_size=5),
    st.uuids(),
    st.dates(),
    st.times(timezones=st.one_of(st.none(), offsets)).map(lambda t: t.replace(fold=0)),
    st.datetimes(timezones=st.one_of(st.none(), offsets)).map(lambda d: d.replace(fold=0)),
    st.timedeltas(),
)
keys = st.one_of(hashable, st.tuples(hashable, hashable), st.frozensets(hashable, max_size=2))
values = st.recursive(
    st.one_of(hashable, st.sets(st.one_of(st.integers(), st.text()), max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.one_of(st.text(), keys), values, max_size=4))
def test_every_value_comes_back_equal_and_of_its_type(data: dict[Any, Any]) -> None:
    assert same(codec.decode(codec.encode(data)), data)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(), values, max_size=4))
def test_what_was_read_gives_the_bytes_it_was_read_from(data: dict[str, Any]) -> None:
    encoded = codec.encode(data)
    assert codec.encode(codec.decode(encoded)) == encoded


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    try:
        data = codec.decode(payload)
    except SerializationError:
        return
    assert isinstance(data, dict)


@pytest.mark.parametrize(
    "value",
    [
        0,
        -(2**63),
        2**64 - 1,
        2**64,
        -(2**200),
        float("inf"),
        "\ud800",
        b"\x00\xff",
        (1, (2, [3])),
        {1: {2: 3}},
        {("a", 1): "tuple", None: "none", True: "bool"},
        {UUID(int=1): Decimal("1.10"), date(2026, 1, 1): timedelta(-1)},
        {Markup("<b>"): Markup("<i>")},
        datetime(2026, 1, 1, 12, 30, 15, 123456),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        {"deep": [{"er": ({"est"},)}]},
    ],
    ids=repr,
)
def test_this_value_comes_back_equal_and_of_its_type(value: Any) -> None:
    assert same(codec.decode(codec.encode({"value": value}))["value"], value)


def test_a_subclass_comes_back_as_the_type_below_it() -> None:
    data = {"a": Colour.RED, "b": Size.BIG, "c": OrderedDict(x=1), "d": bytearray(b"x")}
    assert same(
        codec.decode(codec.encode(data)), {"a": "red", "b": 3, "c": {"x": 1}, "d": b"x"}
    )


def loop() -> list[Any]:
    inside: list[Any] = []
    inside.append(inside)
    return inside


UNSTORABLE: list[tuple[dict[str, Any], str, str]] = [
    ({"cart": [1, 2, {"price": object()}]}, "session['cart'][2]['price']", "object"),
    ({"a": 1, "b": {"c": (1, Plain.ONE)}}, "session['b']['c'][1]", "Plain"),
    ({"a": {1: {(2,): {object()}}}}, "session['a'][1][(2,)]", "set"),
    ({"a": loop()}, "session['a']" + "[0]" * 19, "list"),
    ({"f": print}, "session['f']", "builtin_function_or_method"),
]


@pytest.mark.parametrize(("data", "path", "kind"), UNSTORABLE, ids=[u[1] for u in UNSTORABLE])
def test_what_cannot_be_stored_is_named_with_its_path(
    data: dict[str, Any], path: str, kind: str
) -> None:
    with pytest.raises(SerializationError) as error:
        codec.encode(data)
    assert str(error.value).startswith(f"{path} cannot be stored, of type {kind}: ")
    assert len(str(error.value)) < 400


def test_json_names_the_path_too() -> None:
    with pytest.raises(SerializationError, match=r"session\['cart'\]\[2\]\['price'\]"):
        Codec(JSON()).encode({"cart": [1, 2, {"price": object()}]})


def test_what_cannot_be_stored_leaves_the_stored_session(
    make_app: MakeApp, backend: Running
) -> None:
    app = make_app(backend)

    @app.get("/break")
    def break_it() -> str:
        session["a"] = "changed"
        session["cart"] = [1, 2, {"price": object()}]
        return ""

    client = app.test_client()
    client.get("/write?a=1")
    with pytest.raises(SerializationError, match=r"session\['cart'\]\[2\]\['price'\]"):
        client.get("/break")
    assert client.get("/read").json == {"a": "1"}
    app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = client.get("/break")
    assert answer.status_code == 500
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_each_format_stores_nested_changes(
    make_app: MakeApp, backend: Running, format: str
) -> None:
    client = make_app(backend, SESSION_SERIALIZATION_FORMAT=format).test_client()
    client.get("/append")
    assert client.get("/append").json == [1, 1]


@pytest.mark.parametrize(
    "value", [None, "", "ada", "Jürgen Müller", 7, UUID(int=7), "x" * 255], ids=str
)
def test_the_subject_is_stored_with_the_session(
    make_app: MakeApp, backend: Running, value: object
) -> None:
    app = make_app(backend)
    with app.test_client() as client:
        with client.session_transaction() as transaction:
            transaction["_user_id"] = value
        with client.session_transaction() as transaction:
            handle = transaction.handle  # type: ignore[attr-defined]
            expected = None if value in (None, "") else str(value)
            assert transaction.subject == expected  # type: ignore[attr-defined]
    record = app.session_interface.store.load(handle)  # type: ignore[attr-defined]
    assert record.subject == expected


@pytest.mark.parametrize("value", ["x" * 256, "a\0b", "\ud800", ["a"], 1.5], ids=repr)
def test_what_cannot_be_a_subject_is_refused(make_app: MakeApp, value: object) -> None:
    client = make_app().test_client()
    with (
        pytest.raises(SerializationError, match=r"session\['_user_id'\]"),
        client.session_transaction() as transaction,
    ):
        transaction["_user_id"] = value


class Point(NamedTuple):
    x: int
    y: int


class Moment(datetime):
    pass


class Money(Decimal):
    pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1, 2), (1, 2)),
        (Moment(2026, 1, 2, 3), datetime(2026, 1, 2, 3)),
        (Money("1.20"), Decimal("1.20")),
    ],
)
def test_a_subclass_of_what_messagepack_lacks_comes_back_as_the_type_below_it(
    value: Any, expected: Any
) -> None:
    assert same(codec.decode(codec.encode({"a": value})), {"a": expected})


@pytest.mark.parametrize(
    ("value", "number", "content"),
    [
        (Markup("<b>"), 1, b"<b>"),
        ((1, 2), 2, b"\x92\x01\x02"),
        ({2, 1}, 3, b"\x92\x01\x02"),
        (frozenset({2, 1}), 4, b"\x92\x01\x02"),
        (datetime(2026, 1, 2, 3), 5, b"2026-01-02T03:00:00"),
        (date(2026, 1, 2), 6, b"2026-01-02"),
        (time(3), 7, b"03:00:00"),
        (timedelta(1, 2, 3), 8, b"\x93\x01\x02\x03"),
        (UUID(int=1), 9, bytes(15) + b"\x01"),
        (Decimal("1.20"), 10, b"1.20"),
        (2**64, 11, b"\x01" + bytes(8)),
        ("\ud800", 12, b"\xed\xa0\x80"),
        ({1: 2}, 13, b"\x92\x01\x02"),
    ],
)
def test_what_is_stored_is_read_by_later_versions(
    value: Any, number: int, content: bytes
) -> None:
    stored = ormsgpack.packb(ormsgpack.Ext(number, content))
    assert MsgPack().dumps(value) == stored
    assert same(MsgPack().loads(stored), value)


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (b"\xc1", "The stored data cannot be read: ."),
        (MsgPack().dumps([1]), "The stored data is no dict: list"),
        (ormsgpack.packb(ormsgpack.Ext(13, b"\x91\x01")), "The stored data cannot be read: "),
    ],
)
def test_what_cannot_be_read_is_said(stored: bytes, why: str) -> None:
    with pytest.raises(SerializationError, match=why):
        codec.decode(stored)


def test_what_cannot_be_stored_is_named_and_so_is_what_becomes_of_the_session() -> None:
    with pytest.raises(SerializationError) as refused:
        codec.encode({"a": object()})
    text = str(refused.value)
    assert text.startswith("session['a'] cannot be stored, of type object: ")
    assert text.endswith(". The stored session is unchanged.")
