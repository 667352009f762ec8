"""The store contract, and all that the backends share.

A backend subclasses :class:`Store` and writes the five primitives whose names begin with
an underscore, in its server's own idiom. The public methods around them keep the promises
that do not depend on the server: expiry is checked on every read, sizes before every
write, and only this package's errors come out.
"""

from __future__ import annotations

import time
from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar
from typing import Self
from typing import TYPE_CHECKING
from typing import TypedDict
from typing import Unpack

from ..errors import SerializationError
from ..errors import SessionTooLarge
from ..errors import StoreUnavailable
from .examination import Examination
from .operations import Operations
from .operations import OutOfStep
from .record import Record

if TYPE_CHECKING:
    from flask import Flask

#: Seconds for which an id that was destroyed, emptied or regenerated away is remembered. A
#: request that was sent before and arrives within that time leaves the cookie alone.
REMEMBERED = 30.0

#: Seconds for which a tombstone stands that is to be deleted: a second try has to find it.
_DELETING = 10.0

#: Conditional writes tried against other writers before giving up. One writer always gets
#: through, so this many are only needed when very many are at it.
ATTEMPTS = 256


class StoreOptions(TypedDict, total=False):
    """What every store takes, whichever backend it is."""

    #: Put before each handle on servers that others share. Default ``"session:"``.
    prefix: str
    #: Seconds an operation may take, connecting included. Default 2.
    timeout: float
    #: The largest payload, in bytes. Default: what the backend takes.
    max_size: int | None
    #: The time, in seconds since the epoch. Default :func:`time.time`.
    clock: Callable[[], float]


class Store(Operations, ABC):
    """Keeps records; one object serves all threads of a process.

    Every operation is one trip to the server where the backend allows it, is given up
    after ``timeout`` seconds in all, and raises only :exc:`StoreUnavailable` (what can pass by
    itself), :exc:`StoreError` (what cannot), :exc:`SessionTooLarge`, or
    :exc:`SerializationError` where something that is not a record stands in its place.
    """

    #: The largest payload, in bytes, where the server's limit is known beforehand.
    max_size: int | None = None
    #: Whether each process has sessions of its own.
    one_process: ClassVar[bool] = False

    def __init__(self, **options: Unpack[StoreOptions]) -> None:
        super().__init__(options.get("timeout", 2.0))
        self.prefix = options.get("prefix", "session:")
        self.clock = options.get("clock", time.time)
        self.max_size = options.get("max_size") or type(self).max_size

    @classmethod
    @abstractmethod
    def from_app(cls, app: Flask, **options: Unpack[StoreOptions]) -> Self:
        """The store that the application's configuration describes. Does no I/O.

        :raises ConfigurationError: a key of this backend cannot work.
        """

    def now(self) -> int:
        """Milliseconds since the epoch, by this store's clock."""
        return int(self.clock() * 1000)

    def create(self, record: Record) -> bool:
        """Store a new record, unless its handle is taken. Never overwrites.

        :returns: whether it was stored.
        """
        self._fit(record)
        return self._call(self._create, record, again=self._create_again)

    def load(self, handle: str) -> Record | None:
        """The record, or ``None`` if there is none or it has expired."""
        # By the time before it is fetched: one that had expired then can have been extended
        # by nobody since.
        now = self.now()
        return _alive(self.find(handle), now)

    def find(self, handle: str) -> Record | None:
        """The record as it stands, expired or not, for who can tell and wants to know why a
        session is not there. ``None``: there is none, or the server has removed it.
        """
        record = self._call(self._load_named, handle)
        return record and record.checked()

    def replace(self, record: Record) -> Record | None:
        """Store the record if the stored version is ``record.version - 1``.

        Never creates: what was deleted or has expired stays so.

        :returns: what stands in the store now: ``record`` itself if it was stored, the
            other one if somebody else was first, ``None`` if there is none.
        """
        self._fit(record)
        if record.expires <= record.seen:
            return None
        now = self.now()
        standing = self._replaced(record)
        return standing if standing is record else _alive(standing, now)

    def touch(self, record: Record) -> bool:
        """Give the stored record the ``seen`` and ``expires`` of this one, nothing else.

        Does nothing if the stored version is not ``record.version``: whoever saved it has
        extended or ended it. Never writes data, never revives.

        :returns: whether it was extended.
        """
        return record.expires > record.seen and self._call(self._touch, record)

    def delete(self, handle: str) -> bool:
        """Remove the record for good. :returns: whether there was one."""
        return self._call(self._delete, handle, again=self._delete_again)

    def end(self, record: Record, remembered: float = REMEMBERED) -> bool:
        """End the session that was loaded as this record, whatever others have saved to it
        meanwhile, and also if they have moved it to another handle. Not if somebody has signed
        in or out by that, or since: a handle from before has no say in what is theirs.

        :param remembered: seconds for which its handle is still known as that of a session
            that has ended; 0: not at all, which takes one more trip.
        :returns: whether there was one.
        """
        standing: Record | None = record
        attempts, passed, expired = 0, set(), False
        while standing is not None:
            record, handle = standing, standing.handle
            try:
                if record.ended:
                    if record.successor is None or record.successor in passed:
                        return False
                    handle = record.successor
                    passed.add(handle)
                    standing, expired = self.find(handle), False
                    if standing is not None and standing.subject != record.subject:
                        return False
                elif attempts == ATTEMPTS:
                    return self.delete(handle)
                else:
                    attempts += 1
                    # If it has expired by this machine's clock only, others are to see that it
                    # has ended: so it does a moment before.
                    now = max(0, record.expires - 1) if expired else self.now()
                    tombstone = record.tombstone(now, remembered or _DELETING)
                    standing = self._replaced(tombstone)
                    if standing is tombstone:
                        if not remembered:
                            self.delete(handle)
                        return True
                    if standing is not None and standing.version != record.version:
                        expired = False
                    elif expired:
                        return self.delete(handle)
                    else:  # there is none, or it has expired
                        standing, expired = standing or self.find(handle), True
            except SerializationError:  # what cannot be read is ended by removing it
                return self.delete(handle)
        return False

    def purge(self) -> int:
        """Remove what has expired, where the server does not do so by itself.

        :returns: how many were removed.
        """
        return 0

    def ping(self) -> None:
        """Ask the store for a record that nobody has: one trip, which fails as any would."""
        self._call(self._load, "0" * 64)

    def examine(self) -> Examination:
        """What there is to know of the driver and the server, for ``flask session check``."""
        return self._call(self._examine)

    def close(self) -> None:
        """Close the connections, if this store made the client."""

    @abstractmethod
    def _create(self, record: Record) -> bool: ...

    @abstractmethod
    def _load(self, handle: str) -> Record | None:
        """The record as it stands, expired or not."""

    @abstractmethod
    def _replace(self, record: Record) -> Record | None:
        """As :meth:`replace`. The stored record must also still be alive at
        ``record.seen``, which is now.
        """

    @abstractmethod
    def _touch(self, record: Record) -> bool:
        """As :meth:`touch`, and alive at ``record.seen``, too."""

    @abstractmethod
    def _delete(self, handle: str) -> bool: ...

    def _examine(self) -> Examination:
        """As :meth:`examine`. What the server does not let us ask is no error."""
        return Examination()

    def _fit(self, record: Record) -> None:
        if self.max_size is None or record.ended:  # a session can be ended at any size
            return
        if len(record.payload) > self.max_size:
            raise self._too_large(record)

    def _too_large(self, record: Record) -> SessionTooLarge:
        limit = f"{self.max_size} bytes" if self.max_size else "the server's limit"
        return SessionTooLarge(
            f"Session {record.handle} has {len(record.payload)} bytes, more than {limit}. "
            "The stored session is unchanged. Keep less in it, raise SESSION_MAX_SIZE, or "
            "raise the server's limit."
        )

    # -- the second try, when nobody knows whether the first one took effect

    def _create_again(self, record: Record) -> bool:
        if self._create(record):
            return True
        # The handle is taken, perhaps by our own first try.
        standing = self._load(record.handle)
        return standing is not None and _same(standing, record)

    def _replace_again(self, record: Record) -> Record | None:
        standing = self._replace_named(record)
        if standing is None or standing is record:
            return standing
        if _same(standing, record):  # our own first try; it may have been touched since
            return record
        goes_on = not standing.ended or standing.successor is not None
        if standing.version > record.version and goes_on and not record.ended:
            # Others have saved on top of our first try, or of somebody else's save, or have
            # moved that to a new id: to go on as after a conflict could do twice what is to be
            # done once, and to say that it is too late would be wrong if it was stored. Nobody
            # saves on top of a tombstone, so that to end a session goes on.
            raise StoreUnavailable(
                f"Session {record.handle} was saved by others while the connection was lost: "
                "nobody knows whether what this request changed is stored."
            )
        return standing

    def _delete_again(self, handle: str) -> bool:
        self._delete(handle)
        # If there was none, then our own first try has removed it. Who deletes has just seen
        # it; to say "there was none" would leave a cookie that is to be cleared.
        return True

    # -- an answer is believed only if it names what was asked for

    def _load_named(self, handle: str) -> Record | None:
        return _about(handle, self._load(handle))

    def _replaced(self, record: Record) -> Record | None:
        standing = self._call(self._replace_named, record, again=self._replace_again)
        return standing if standing is record else standing and standing.checked()

    def _replace_named(self, record: Record) -> Record | None:
        return _about(record.handle, self._replace(record))


def _alive(record: Record | None, now: int) -> Record | None:
    return record if record is not None and record.alive(now) else None


def _about(handle: str, record: Record | None) -> Record | None:
    if record is not None and record.handle != handle:
        raise OutOfStep(f"Asked for session {handle}, the server told of {record.handle}.")
    return record


def _same(standing: Record, record: Record) -> bool:
    """Whether one is what was stored as the other, touches aside. No two saves of a session
    have the same payload, whatever their data.
    """
    return _but_for_touches(standing) == _but_for_touches(record)


def _but_for_touches(record: Record) -> Record:
    return record._replace(seen=0, expires=0, token=None)
