"""Any bytes in the store: a whole record, its payload, the data in it, a tombstone.

They cost one user one session and never an error. Where they are encrypted, what a view sees of
the session is what was stored, or nothing.
"""

from __future__ import annotations

import base64
import functools
from typing import Any

from fuzzed_site import ACTIONS
from fuzzed_site import AGENT
from fuzzed_site import DATA
from fuzzed_site import Site
from pieces import NUMBERS
from pieces import Pieces

import flask_serverside.sealing.compression
from flask_serverside import SerializationError
from flask_serverside.sealing.codec import Codec
from flask_serverside.sealing.compression import METHODS
from flask_serverside.sealing.envelope import Contents
from flask_serverside.sealing.serializers import JSON
from flask_serverside.sealing.serializers import MsgPack
from flask_serverside.stores import Record

#: Less than there is, so that a few bytes are a bomb.
LARGEST = 2**16
#: More trips than a request makes that is answered well.
MANY = 12

ROTATING = {"SESSION_ROTATION_INTERVAL": 60, "SESSION_ABSOLUTE_LIFETIME": 86400}
ENCRYPTED = {"SESSION_ENCRYPTION_KEYS": [base64.urlsafe_b64encode(b"k" * 32).decode()]}
PLAINTEXT = {"SESSION_ENCRYPTION_PLAINTEXT_UNTIL": "2099-01-01T00:00:00+00:00"}
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"SESSION_BINDING": "user_agent"},
    "json": {"SESSION_SERIALIZATION_FORMAT": "json"},
    "zlib": {"SESSION_COMPRESSION": "zlib"} | ROTATING,
    "zstd": {"SESSION_COMPRESSION": "zstd"},
    "encrypted": {"SESSION_COMPRESSION": "zlib"} | ENCRYPTED | ROTATING,
    "plaintext allowed": ENCRYPTED | PLAINTEXT,
}
NAMES = [*CONFIGS]
PATHS = [f"/{name}" for name in ACTIONS]
KEYS = ["a", "_user_id", "_permanent", "_flashes"]
VALUES: list[Any] = [1, "x", [1], {"x": 2}, ("a", b"b"), 2**80, None, DATA["cart"]]
#: The size of a payload's head; its last byte says how much there is of a client's mark.
_FIXED = 30
#: Where in a record the times stand that a touch changes, and where they end.
_TIMES, _TIMES_END = 10, 26
FIELDS = ["version", "created", "seen", "expires", "lifetime", "deadline"]


def site(name: str, rotated: bool = False) -> Site:
    return _site(name, rotated)


@functools.cache
def _site(name: str, rotated: bool) -> Site:
    if not rotated:
        return Site(**CONFIGS[name])
    return Site(**(CONFIGS[name] | ROTATING)).rotate()


def check_packed(
    name: str, rotated: bool, path: str, packed: bytes, heir: bool = False
) -> None:
    """These bytes stand in the store for the session that the client asks for, or for the one
    that its id leads to.
    """
    of = site(name, rotated)
    of.restore()
    handle = next(one for one in of.packed if (one != of.handle) is heir)
    of.store.packed[handle] = packed
    check_unpacking(handle, packed)
    allowed = None
    if name == "encrypted":
        allowed = [{}]
        if Record.unpack(handle, of.packed[handle]).ended or is_as_bound(
            packed, of.packed[handle]
        ):
            allowed.append(DATA)
    check_requests(of, path, allowed)


def check_record(name: str, rotated: bool, path: str, record: Record) -> None:
    check_packed(name, rotated, path, record.pack())


def check_unpacking(handle: str, packed: bytes) -> None:
    try:
        record = Record.unpack(handle, packed)
    except SerializationError:
        return
    assert record.pack() == packed
    assert record.handle in repr(record)
    assert record.successor is None or (record.ended and len(record.successor) == 64)
    assert record.rotation is None or (record.ended and len(record.rotation) == 32)


def is_as_bound(packed: bytes, original: bytes) -> bool:
    """Whether it is the same but for the times that a touch changes."""
    return packed[:_TIMES] + packed[_TIMES_END:] == original[:_TIMES] + original[_TIMES_END:]


def check_requests(of: Site, path: str, allowed: list[dict[str, Any]] | None = None) -> None:
    """The client looks at the session, does something, and looks again.

    :param allowed: what it may see at first; ``None``: anything.
    """
    read = of.ask("/read", of.signed, AGENT)
    done = of.ask(path, of.signed if read.told is None else read.told or None, AGENT)
    again = of.ask("/read", done.told or read.told or of.signed, AGENT)
    for answer in (read, done):
        assert allowed is None or answer.seen.data in allowed
        assert allowed is None or not answer.seen.data or answer.seen == of.begun
    for answer in (read, done, again):
        assert len(answer.trips) <= MANY, f"{len(answer.trips)} trips"
    if path == "/write" and done.told and not done.seen.data:
        assert again.seen.data == {"b": 2}
        assert of.sid not in done.told


def check_seal(name: str, payload: bytes) -> None:
    """Bytes in the place of a payload are opened to what they say, or not at all."""
    of = site(name)
    services = of.services
    record = of.record
    try:
        contents = services.envelope.open(
            of.sid, record._replace(payload=payload), of.store.now()
        )
    except SerializationError:
        return
    if name == "encrypted":
        assert payload == record.payload
    if payload[1] & 0x7F:
        assert len(contents.data) <= LARGEST
    check_codec(services.codec, contents.data)


def check_codec(codec: Codec, data: bytes) -> None:
    """What can be read and written again stays the same from then on."""
    try:
        read = codec.decode(data)
        assert type(read) is dict
        written = codec.encode(read)
    except SerializationError:
        return
    assert codec.encode(codec.decode(written)) == written


def sealed(name: str, rotated: bool, data: bytes) -> Record:
    """The session's record with this data, sealed by ourselves."""
    of = site(name, rotated)
    record = of.record
    if record.ended:
        record = record._replace(lifetime=3_600_000, seen=of.store.now())
    contents = Contents(data, issued=of.store.now())
    return of.services.envelope.close(of.sid, record, contents)


def prepare() -> None:
    flask_serverside.sealing.compression.LARGEST = LARGEST
    for name in NAMES:
        site(name)
        site(name, rotated=True)


def run(data: bytes) -> None:
    pieces = Pieces(data)
    name, rotated = pieces.choose(NAMES), bool(pieces.number() & 1)
    path, kind = pieces.choose(PATHS), pieces.number() % 10
    of = site(name, rotated)
    whole, record = of.packed[of.handle], of.record
    if kind == 0:
        check_packed(name, rotated, path, pieces.rest())
    elif kind == 1:
        heir = rotated and bool(pieces.number() & 1)
        if heir:
            whole = next(packed for handle, packed in of.packed.items() if handle != of.handle)
        check_packed(name, rotated, path, pieces.edit(whole), heir)
    elif kind == 2:
        check_seal(name, payload := pieces.rest())
        check_record(name, rotated, path, record._replace(payload=payload))
    elif kind == 3:
        payload = pieces.edit(site(name).record.payload)
        check_seal(name, payload)
        check_record(name, False, path, site(name).record._replace(payload=payload))
    elif kind == 4:  # a head that is right, and data
        how = pieces.number()
        payload = payload_of(site(name).record, how, pieces.rest())
        check_seal(name, payload)
        check_record(name, False, path, site(name).record._replace(payload=payload))
    elif kind == 5:
        services, data = of.services, pieces.rest()
        check_codec(services.codec, data)
        check_record_of_ours(name, rotated, path, sealed(name, rotated, data))
    elif kind == 6:
        data = under_a_key(name, pieces.choose(KEYS), pieces.rest())
        check_record_of_ours(name, rotated, path, sealed(name, rotated, data))
    elif kind == 7:
        ended = record._replace(lifetime=0, payload=pieces.rest())
        check_record(name, rotated, path, ended)
    elif kind == 8:
        handles = [*of.packed]
        payload = pieces.choose(handles).encode() + pieces.take(8).hex().encode() * 8
        payload = pieces.edit(payload[: pieces.choose([64, 128])])
        check_record(name, rotated, path, record._replace(lifetime=0, payload=payload))
    else:
        fields: dict[str, Any] = {}
        while pieces.left:
            field, number = pieces.choose(FIELDS), pieces.choose(NUMBERS)
            if pieces.number() & 1:
                number = of.store.now() + pieces.number(2)
            fields[field] = number
        check_record(name, rotated, path, record._replace(**fields))


def check_record_of_ours(name: str, rotated: bool, path: str, record: Record) -> None:
    """Data that was sealed by us, and is as an earlier version or another may have left it."""
    of = site(name, rotated)
    of.restore()
    of.put(record)
    check_requests(of, path)


def under_a_key(name: str, key: str, value: bytes) -> bytes:
    """A session's data with these bytes where a value is."""
    if name == "json":
        return b'{"' + key.encode() + b'": ' + value + b"}"
    return b"\x81" + MsgPack().dumps(key) + value


def nested(name: str, depth: int) -> bytes:
    """Lists in lists. More of them can be read than written."""
    if name == "json":
        return b'{"a": ' + b"[" * depth + b"]" * depth + b"}"
    return b"\x81\xa1a" + b"\x91" * depth + b"\x90"


def head_size(payload: bytes) -> int:
    """Of what stands before the data, which is never encrypted."""
    return _FIXED + sum(payload[18:22])


def payload_of(right: Record, how: int, data: bytes) -> bytes:
    """Its head, but for how it says the data is sealed, and this data."""
    head = right.payload[: head_size(right.payload)]
    return head[:1] + bytes([how]) + head[2:] + data


def bomb(name: str, method: str, size: int) -> bytes:
    compression = METHODS[method]()
    return payload_of(site(name).record, compression.code, compression.compress(bytes(size)))


def seeds() -> list[bytes]:
    found = []
    for number, name in enumerate(NAMES):
        of, serializer = site(name), JSON() if name == "json" else MsgPack()
        rests = [
            b"\x00" + of.packed[of.handle],
            b"\x01\x00",
            b"\x01\x01",
            b"\x02" + of.record.payload,
            b"\x02" + bomb(name, "zlib", LARGEST + 1),
            b"\x02" + bomb(name, "zstd", LARGEST + 1),
            b"\x03",
            b"\x04\x00" + serializer.dumps(DATA),
            b"\x05" + serializer.dumps(DATA),
            b"\x05" + nested(name, 100),
            b"\x05" + nested(name, 300),
            b"\x05" + nested(name, 400),
            *(
                b"\x06" + bytes([key]) + serializer.dumps(value)
                for key in range(len(KEYS))
                for value in VALUES
            ),
            b"\x07",
            b"\x08\x00" + bytes(8) + b"\x00",
            b"\x08\x01" + bytes(8) + b"\x01",
            *(b"\x09" + bytes([field, 4, 0]) for field in range(len(FIELDS))),
        ]
        for rotated in (0, 1):
            found += [bytes([number, rotated, len(rest) % len(PATHS)]) + rest for rest in rests]
    return found
