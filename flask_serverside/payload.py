"""A record's payload: the session's data, and what is kept beside it, sealed.

The data is compressed and then encrypted, each if configured. The head stays readable. With
encryption, head, handle, version and all of the record that a touch does not change are
authenticated along with the data: nothing of them can be altered or exchanged, nor can a
payload be put onto another record, or back onto a later version of its own.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from .compression import as_before
from .compression import Compression
from .compression import smaller
from .encryption import Encryption
from .encryption import KEYS
from .encryption import PLAINTEXT_UNTIL
from .errors import SerializationError
from .stores import END_OF_TIME
from .stores import Record

_FORMAT = 1
_ENCRYPTED = 0x80
#: The format, how it is sealed, the times, and the size of the client's mark.
_HEAD = Struct(">BBQQB")


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
    #: Whether it is to be stored anew, since it is not sealed as it would be now.
    outdated: bool = False


class Seal:
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
        head = _HEAD.pack(
            _FORMAT, how, contents.issued, contents.authenticated, len(contents.client)
        )
        head += contents.client
        if self._encryption is not None:
            data = self._encryption.encrypt(sid, data, _context(record, head))
        return record._replace(payload=head + data)

    def open(self, sid: str, record: Record, now: int) -> Contents:
        """:raises SerializationError: it is not what :meth:`close` gave for this record."""
        payload = record.payload
        if len(payload) < _HEAD.size or payload[0] != _FORMAT:
            raise SerializationError("It is no payload of a session.")
        _, how, issued, authenticated, size = _HEAD.unpack_from(payload)
        if max(issued, authenticated) > END_OF_TIME:
            raise SerializationError("It has times that nobody of us has stored.")
        head, data = payload[: _HEAD.size + size], payload[_HEAD.size + size :]
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
        return Contents(data, issued, authenticated, head[_HEAD.size :], not current)


def _context(record: Record, head: bytes) -> bytes:
    """What is bound to the data: all that only a save changes."""
    bound = record._replace(payload=b"", seen=0, expires=0)
    return record.handle.encode() + bound.pack() + head
