"""A record's payload: the session's data, and what is kept beside it, sealed.

The data is compressed and then encrypted, each if configured. The head stays readable, for
who lists sessions has no id of theirs, and so no key. With
encryption, head, handle, version and all of the record that a touch does not change are
authenticated along with the data: nothing of them can be altered or exchanged, nor can a
payload be put onto another record, or back onto a later version of its own.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import NamedTuple

from ..errors import SerializationError
from ..stores import END_OF_TIME
from ..stores import Record
from .compression import as_before
from .compression import CODES
from .compression import Compression
from .compression import smaller
from .encryption import Encryption
from .encryption import KEYS
from .encryption import PLAINTEXT_UNTIL

_FORMAT = 2
_ENCRYPTED = 0x80
#: The format, how it is sealed, the times, the sizes of the client's mark, its user agent, its
#: address, and the handle from before, which follow, and a number that no other save has. By it
#: a save that lost its connection knows itself from another request's of the same data.
_HEAD = Struct(">BBQQBBBB8s")
_LONGEST = 255


class Device(NamedTuple):
    """Where a session is used, if that is recorded."""

    user_agent: str = ""
    remote_addr: str = ""

    @classmethod
    def shortened(cls, user_agent: str, remote_addr: str) -> Device:
        """As it is when it has been stored."""
        return cls(*(_text(_bytes(text)) for text in (user_agent, remote_addr)))


#: Of which nothing is recorded.
UNKNOWN = Device()


class Contents(NamedTuple):
    """What a payload says. Times in milliseconds since the epoch."""

    #: The session's data, encoded.
    data: bytes
    #: When the session was given its id.
    issued: int
    #: When somebody last proved who they are; 0: never.
    authenticated: int = 0
    #: The mark of the client it is bound to; empty: of none.
    client: bytes = b""
    #: Where it is used, if that is to be recorded; :func:`device_in` reads it.
    device: Device = UNKNOWN
    #: The handle from before it was given its id, as bytes; empty: there was none. While a
    #: session is being moved it stands there twice, and is one all the same.
    former: bytes = b""
    #: Whether it is to be stored anew, since it is not sealed as it would be now.
    outdated: bool = False


class Label(NamedTuple):
    """What anybody can read of a payload, who has no id and no key."""

    encrypted: bool
    #: As ``SESSION_COMPRESSION`` has it; ``None``: not compressed.
    compression: str | None
    issued: int
    authenticated: int
    #: Whether it is bound to a client.
    bound: bool
    device: Device
    #: The handle from before it was given its id.
    former: str | None


class Envelope:
    """Turns contents into payloads, and back.

    :param compression: for what is written; all that is known is read.
    :param encryption: if there is one, only what was encrypted is read.
    """

    def __init__(
        self, compression: Compression | None = None, encryption: Encryption | None = None
    ) -> None:
        self._compression = compression
        self._encryption = encryption

    def close(self, sid: str, record: Record, contents: Contents) -> Record:
        """The record with these contents as its payload."""
        how, data = smaller(contents.data, self._compression)
        if self._encryption is not None:
            how |= _ENCRYPTED
        parts = [contents.client, *map(_bytes, contents.device), contents.former]
        times = (contents.issued, contents.authenticated)
        number = os.urandom(8)  # not from a generator, whose state a fork would copy
        head = b"".join([_HEAD.pack(_FORMAT, how, *times, *map(len, parts), number), *parts])
        if self._encryption is not None:
            data = self._encryption.encrypt(sid, data, _context(record, head))
        return record._replace(payload=head + data)

    def open(self, sid: str, record: Record, now: int) -> Contents:
        """:raises SerializationError: it is not what :meth:`close` gave for this record."""
        payload = record.payload
        if len(payload) < _HEAD.size or payload[0] != _FORMAT:
            raise SerializationError("It is no payload of a session.")
        _, how, issued, authenticated, marked, agent, address, moved, _ = _HEAD.unpack_from(
            payload
        )
        if issued > END_OF_TIME or authenticated > END_OF_TIME:
            raise SerializationError("It has times that nobody of us has stored.")
        size = _HEAD.size + marked + agent + address + moved
        head, data = payload[:size], payload[size:]
        current = bool(how & _ENCRYPTED) == (self._encryption is not None)
        if how & _ENCRYPTED:
            if self._encryption is None:
                raise SerializationError(f"It is encrypted, and there is no {KEYS}.")
            data, current = self._encryption.decrypt(sid, data, _context(record, head))
        elif self._encryption is not None and now >= self._encryption.plaintext_until:
            raise SerializationError(
                f"It is not encrypted, and {KEYS} is set. {PLAINTEXT_UNTIL} lets in what was "
                "stored before that."
            )
        data = as_before(how & ~_ENCRYPTED, data)
        mark = head[_HEAD.size : _HEAD.size + marked]
        former = head[size - moved :]
        return Contents(data, issued, authenticated, mark, UNKNOWN, former, not current)


def device_in(payload: bytes) -> Device:
    """Where a session is used, by what anybody can read of its payload."""
    label = label_of(payload)
    return UNKNOWN if label is None else label.device


def former_in(payload: bytes) -> str | None:
    """The handle from before it was given its id, by what anybody can read of its payload."""
    label = label_of(payload)
    return None if label is None else label.former


def label_of(payload: bytes) -> Label | None:
    """``None``: it is no payload."""
    if len(payload) < _HEAD.size or payload[0] != _FORMAT:
        return None
    _, how, issued, authenticated, marked, agent, address, moved, _ = _HEAD.unpack_from(payload)
    if max(issued, authenticated) > END_OF_TIME:
        return None
    start = _HEAD.size + marked
    end = start + agent
    last = end + address
    device = Device(_text(payload[start:end]), _text(payload[end:last]))
    former = payload[last : last + moved].hex() or None
    names = {code: name for name, code in CODES.items()}
    code = how & ~_ENCRYPTED
    compression = names.get(code, "in a way not known here") if code else None
    encrypted = bool(how & _ENCRYPTED)
    bound = marked > 0
    return Label(encrypted, compression, issued, authenticated, bound, device, former)


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")[:_LONGEST]


def _text(stored: bytes) -> str:
    """Whoever sends it chooses it: nothing that could direct a terminal is left."""
    text = stored.decode(errors="ignore")
    return "".join(character for character in text if character.isprintable())


def _context(record: Record, head: bytes) -> bytes:
    """What is bound to the data: all that only a save changes."""
    bound = record._replace(payload=b"", seen=0, expires=0)
    return bound.pack() + head
