"""Session data to bytes and back: what ``SESSION_SERIALIZATION_FORMAT`` names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from datetime import datetime
from datetime import time
from datetime import timedelta
from decimal import Decimal
from typing import Any
from typing import Protocol
from uuid import UUID

import ormsgpack
from flask.json.tag import TaggedJSONSerializer
from markupsafe import Markup


class Serializer(Protocol):
    """What ``SESSION_SERIALIZATION_FORMAT`` may be.

    The same data must give the same bytes, and what was read must give the bytes it was
    read from: whether a session has changed is decided by comparing them.
    """

    def dumps(self, data: Any, /) -> bytes: ...

    def loads(self, payload: bytes, /) -> Any:
        """The bytes may be anything. Whatever this raises, the session begins afresh."""


#: How often lists, dicts and tuples may be in one another.
DEEPEST = 100
#: The bytes with which MessagePack begins one.
_CONTAINERS = bytes([*range(0x80, 0xA0), *range(0xC7, 0xCA), *range(0xD4, 0xD9)]) + (
    b"\xdc\xdd\xde\xdf"
)


class JSON:
    """Flask's own session format: readable, and for fewer types (times to the second)."""

    def __init__(self) -> None:
        self._tagged = TaggedJSONSerializer()

    def dumps(self, data: Any, /) -> bytes:
        return self._not_too_deep(self._tagged.dumps(data).encode(), data)

    def loads(self, payload: bytes, /) -> Any:
        data = self._tagged.loads(payload.decode())
        self._not_too_deep(payload, data)
        return data

    def _not_too_deep(self, payload: bytes, data: Any) -> bytes:
        """How much more Python can write and read depends on who has called it."""
        if payload.count(b"[") + payload.count(b"{") > DEEPEST and _depth(data) > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} times")
        return payload


class MsgPack:
    """MessagePack, with extension types for what Python has and MessagePack has not.

    Every value comes back equal and with its type, except that an instance of a subclass
    comes back as the type below it (an ``OrderedDict`` as a ``dict``, a ``StrEnum`` member
    as a ``str``), as with Flask's own sessions, and a time zone as its offset.
    """

    def dumps(self, data: Any, /) -> bytes:
        try:
            return ormsgpack.packb(data, default=_extend, option=_OPTIONS)
        except TypeError:
            # Keys that are not strings, and strings that are not UTF-8, are rare enough
            # to be looked for only when the fast way has failed.
            return ormsgpack.packb(_spell_out(data), default=_extend, option=_OPTIONS)

    def loads(self, payload: bytes, /) -> Any:
        data = ormsgpack.unpackb(payload, ext_hook=_restore)
        if len(payload) - len(payload.translate(None, _CONTAINERS)) > DEEPEST:
            self.dumps(data)  # reads deeper than it writes: this could not be saved again
        return data


_OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_pack = MsgPack().dumps
_unpack = MsgPack().loads


def _pack_set(items: Any) -> bytes:
    """A set has no order of its own, but the same set must give the same bytes."""
    return _pack(sorted(items, key=_pack))


def _from_iso(kind: Any) -> Callable[[bytes], Any]:
    return lambda payload: kind.fromisoformat(payload.decode())


def _iso(value: date | time) -> bytes:
    return value.isoformat().encode()


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _from_text(payload: bytes) -> str:
    return payload.decode("utf-8", "surrogatepass")


def _from_pairs(payload: bytes) -> dict[Any, Any]:
    flat = iter(_unpack(payload))
    return dict(zip(flat, flat, strict=True))


#: The type, its number, and the way there and back. Stored sessions depend on the numbers:
#: add to them, never change one. A type stands before the one it inherits from.
_EXTENSIONS: list[tuple[type, int, Callable[[Any], bytes], Callable[[bytes], Any]]] = [
    (Markup, 1, _text, lambda b: Markup(_from_text(b))),
    (tuple, 2, lambda v: _pack(list(v)), lambda b: tuple(_unpack(b))),
    (set, 3, _pack_set, lambda b: set(_unpack(b))),
    (frozenset, 4, _pack_set, lambda b: frozenset(_unpack(b))),
    (datetime, 5, _iso, _from_iso(datetime)),
    (date, 6, _iso, _from_iso(date)),
    (time, 7, _iso, _from_iso(time)),
    (
        timedelta,
        8,
        lambda v: _pack([v.days, v.seconds, v.microseconds]),
        lambda b: timedelta(*_unpack(b)),
    ),
    (UUID, 9, lambda v: v.bytes, lambda b: UUID(bytes=b)),
    (Decimal, 10, lambda v: str(v).encode(), lambda b: Decimal(b.decode())),
]
#: Integers beyond 64 bits, strings that are not UTF-8, dicts with keys of any type.
_INTEGER, _TEXT, _MAPPING = 11, 12, 13

_WRITERS = {kind: (code, write) for kind, code, write, _ in _EXTENSIONS}
_READERS = {code: read for _, code, _, read in _EXTENSIONS}
_READERS |= {
    _INTEGER: lambda b: int.from_bytes(b, signed=True),
    _TEXT: _from_text,
    _MAPPING: _from_pairs,
}
_PLAIN: list[tuple[type, Callable[[Any], Any]]] = [
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, bytes),
    (list, list),
    (dict, dict),
]


def _extend(value: Any) -> Any:
    """What MessagePack has no form for: in an extension type, or as its plain base."""
    if kind := _WRITERS.get(type(value)):
        code, write = kind
        return ormsgpack.Ext(code, write(value))
    if type(value) is int:
        size = value.bit_length() // 8 + 1
        return ormsgpack.Ext(_INTEGER, value.to_bytes(size, signed=True))
    for base, code, write, _ in _EXTENSIONS:
        if isinstance(value, base):
            return ormsgpack.Ext(code, write(value))
    for base, convert in _PLAIN:
        if isinstance(value, base):
            return _spell_out(convert(value))
    raise TypeError("no form is known for its type")


def _restore(code: int, payload: bytes) -> Any:
    return _READERS[code](payload)


def _spell_out(value: Any) -> Any:
    """The same value without what MessagePack has no plain form for."""
    if type(value) is str:
        return value if _is_utf8(value) else ormsgpack.Ext(_TEXT, _text(value))
    if type(value) is list:
        return [_spell_out(part) for part in value]
    if type(value) is dict:
        if all(type(key) is str and _is_utf8(key) for key in value):
            return {key: _spell_out(part) for key, part in value.items()}
        return ormsgpack.Ext(_MAPPING, _pack([part for item in value.items() for part in item]))
    return value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(data: Any) -> int:
    depth, level = 0, [data]
    while level:
        depth += 1
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list | tuple):
                inner += value
        level = inner
    return depth
