"""What a store keeps for one session."""

from __future__ import annotations

import re
from struct import Struct
from typing import Any
from typing import NamedTuple

from ..errors import SerializationError

_MAGIC = b"\xf5\x02"
#: The magic bytes, the version, the times seen and expires, created, lifetime, deadline, the
#: handle, and the size of the subject, which follows.
_HEADER = Struct(">2s6Q32sH")
#: Bytes of the header.
HEADER = _HEADER.size
#: Where each number begins in it, for servers that look into a record: 8 bytes, big-endian.
#: The size of the subject is the last two bytes of the header.
PLACES = {
    name: len(_MAGIC) + 8 * number
    for number, name in enumerate(
        ("version", "seen", "expires", "created", "lifetime", "deadline")
    )
}

#: Bytes of the longest packed form of a record without its payload: subjects have 255
#: characters at most.
LONGEST_HEADER = _HEADER.size + 4 * 255
#: How many bytes of a payload a list needs: more than the longest label has.
LABEL = 1100
#: No record has a higher version, a later time or a longer lifetime, both in milliseconds.
LAST_VERSION, END_OF_TIME, LONGEST_LIFETIME = 2**62, 253_370_764_800_000, 3_200_000_000_000
_SUCCESSOR = re.compile(rb"([0-9a-f]{64})([0-9a-f]{64})?")
_INT = Struct(">Q")
_TIMES = Struct(">QQ")


class Record(NamedTuple):
    """One session as it is stored. All times are milliseconds since the epoch, UTC."""

    #: ``sha256(id)`` in hex: the name of the record, safe to log.
    handle: str
    #: The session's data, encoded.
    payload: bytes
    #: 1 when created, one more with each :meth:`~flask_serverside.stores.Store.replace`.
    version: int
    created: int
    #: When the session was last created, saved or touched.
    seen: int
    #: When the session ends unless it is used again; never after ``deadline``.
    expires: int
    #: How far each use moves ``expires``, in milliseconds; 0: see :attr:`ended`.
    lifetime: int
    #: When the session ends however much it is used; ``None``: never.
    deadline: int | None = None
    #: Whose session it is, if anybody has signed in.
    subject: str | None = None
    #: The backend's own mark of this state, such as Memcached's cas number.
    token: Any = None

    def __repr__(self) -> str:  # the payload is the user's data: not for logs
        return f"<Record {self.handle} version {self.version}, {len(self.payload)} bytes>"

    @property
    def ended(self) -> bool:
        """Whether this is a tombstone: it says for a while that there was a session here,
        so that a request which still carries its id is not taken for a newcomer.
        """
        return self.lifetime == 0

    @property
    def successor(self) -> str | None:
        """The handle under which an ended session goes on, if it was given a new id."""
        found = _SUCCESSOR.fullmatch(self.payload) if self.ended else None
        return found and found[1].decode()

    @property
    def rotation(self) -> bytes | None:
        """What leads from the old id to the new one, with the old id only, if the session was
        given it because time had passed.
        """
        found = _SUCCESSOR.fullmatch(self.payload) if self.ended else None
        return bytes.fromhex(found[2].decode()) if found and found[2] else None

    def checked(self) -> Record:
        """:raises SerializationError: it has numbers that nobody of us has stored."""
        if not (
            0 < self.version < LAST_VERSION
            and 0 <= self.created <= END_OF_TIME
            and 0 <= self.seen <= END_OF_TIME
            and 0 <= self.expires <= END_OF_TIME
            and 0 <= (self.deadline or 0) <= END_OF_TIME
            and 0 <= self.lifetime <= LONGEST_LIFETIME
        ):
            raise SerializationError(f"The record of session {self.handle} is damaged.")
        return self

    def alive(self, now: int) -> bool:
        """Whether it has not expired. The deadline counts whatever the store says: to extend
        a session, even one that is encrypted, takes no key.
        """
        return now < self.expires and (self.deadline is None or now < self.deadline)

    def tombstone(
        self, now: int, remembered: float, successor: str = "", rotation: bytes = b""
    ) -> Record:
        """What takes this record's place when its session ends, for ``remembered`` seconds."""
        return self._replace(
            payload=(successor + rotation.hex()).encode(),
            version=self.version + 1,
            seen=now,
            expires=now + max(1, int(remembered * 1000)),
            lifetime=0,
            deadline=None,
        )

    def pack(self) -> bytes:
        """The record as one string: a fixed header of 84 bytes, the subject, the payload."""
        subject = self.subject.encode() if self.subject else b""
        header = _HEADER.pack(
            _MAGIC,
            self.version,
            self.seen,
            self.expires,
            self.created,
            self.lifetime,
            self.deadline or 0,
            bytes.fromhex(self.handle),
            len(subject),
        )
        return header + subject + self.payload

    @classmethod
    def unpack(cls, handle: str, packed: bytes, token: Any = None) -> Record:
        """The record, with the handle that it says itself.

        :param handle: the one that was asked for, to be named in errors.
        :raises SerializationError: this is not a packed record.
        """
        if len(packed) < _HEADER.size or packed[:2] != _MAGIC:
            raise SerializationError(f"What is stored for session {handle} is not a record.")
        _, *numbers, named, size = _HEADER.unpack_from(packed)
        version, seen, expires, created, lifetime, deadline = numbers
        start = _HEADER.size + size
        try:
            subject = packed[_HEADER.size : start].decode() or None
        except UnicodeDecodeError:
            raise SerializationError(f"The record of session {handle} is damaged.") from None
        if len(packed) < start:
            raise SerializationError(f"The record of session {handle} is cut off.")
        return cls(
            named.hex(),
            packed[start:],
            version,
            created,
            seen,
            expires,
            lifetime,
            deadline or None,
            subject,
            token,
        )


class Entry(NamedTuple):
    """A session as a list has it: its payload is not fetched, only the label before it."""

    #: The record, with the first :data:`~flask_serverside.stores.LABEL` bytes of its payload:
    #: not to be stored again.
    record: Record
    #: Bytes of the whole payload.
    size: int

    @classmethod
    def of(cls, record: Record) -> Entry:
        """What a list needs of a whole record."""
        cut = record._replace(payload=record.payload[:LABEL], token=None)
        return cls(cut, len(record.payload))


def packed_version(version: int) -> bytes:
    return _INT.pack(version)


def packed_times(seen: int, expires: int) -> bytes:
    return _TIMES.pack(seen, expires)
