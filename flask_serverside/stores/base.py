"""The store contract, and all that the backends share.

A backend subclasses :class:`Store` and writes the six primitives whose names begin with
an underscore, in its server's own idiom. The public methods around them keep the promises
that do not depend on the server: expiry is checked on every read, sizes before every
write, and only this package's errors come out.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from typing import Any
from typing import ClassVar
from typing import Self
from typing import TYPE_CHECKING
from typing import TypedDict
from typing import TypeVar
from typing import Unpack

from ..errors import SerializationError
from ..errors import SessionTooLarge
from ..errors import StoreError
from ..errors import StoreUnavailable
from .examination import Examination
from .record import Record

if TYPE_CHECKING:
    from flask import Flask

T = TypeVar("T")

log = logging.getLogger("flask_serverside")

#: Seconds for which an id that was destroyed, emptied or regenerated away is remembered. A
#: request that was sent before and arrives within that time leaves the cookie alone.
REMEMBERED = 30.0

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


class Store(ABC):
    """Keeps records; one object serves all threads of a process.

    Every operation is one trip to the server where the backend allows it, is given up
    after ``timeout`` seconds, and raises only :exc:`StoreUnavailable` (no connection, no
    answer in time), :exc:`StoreError` (refused), :exc:`SessionTooLarge`, or
    :exc:`SerializationError` where something that is not a record stands in its place.
    """

    #: The driver's exceptions that mean: not reachable, or no answer in time.
    unavailable: ClassVar[tuple[type[Exception], ...]] = ()
    #: The driver's other exceptions.
    failed: ClassVar[tuple[type[Exception], ...]] = ()
    #: The largest payload, in bytes, where the server's limit is known beforehand.
    max_size: int | None = None
    #: Whether each process has sessions of its own.
    one_process: ClassVar[bool] = False

    def __init__(self, **options: Unpack[StoreOptions]) -> None:
        self.prefix = options.get("prefix", "session:")
        self.timeout = options.get("timeout", 2.0)
        self.clock = options.get("clock", time.time)
        self.max_size = options.get("max_size") or type(self).max_size
        _stores.add(self)

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
        started = time.monotonic()
        try:
            return self._call(self._create, record)
        except StoreUnavailable as error:
            if not self._worth_repeating(error, started):
                raise
            # The handle is the hash of a random id that nobody has been told yet: if it
            # is taken now, then by our own first try.
            self._call(self._create, record)
            return True

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
        started = time.monotonic()
        try:
            record = self._call(self._load, handle)
        except StoreUnavailable as error:
            if not self._worth_repeating(error, started):
                raise
            record = self._call(self._load, handle)
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
        standing = self._call(self._replace, record)
        if standing is None or standing is record:
            return standing
        return _alive(standing.checked(), now)

    def touch(self, record: Record) -> bool:
        """Give the stored record the ``seen`` and ``expires`` of this one, nothing else.

        Does nothing if the stored version is not ``record.version``: whoever saved it has
        extended or ended it. Never writes data, never revives.

        :returns: whether it was extended.
        """
        return record.expires > record.seen and self._call(self._touch, record)

    def delete(self, handle: str) -> bool:
        """Remove the record for good. :returns: whether there was one."""
        return self._call(self._delete, handle)

    def end(self, record: Record, remembered: float = REMEMBERED) -> bool:
        """End the session that was loaded as this record, whatever others have saved to it
        meanwhile, and also if they have moved it to another handle. Not if somebody has signed
        in or out by that, or since: a handle from before has no say in what is theirs.

        :param remembered: seconds for which its handle is still known as that of a session
            that has ended; 0: not at all, which takes one more trip.
        :returns: whether there was one.
        """
        standing: Record | None = record
        attempts, passed = 0, set()
        while standing is not None:
            record = standing
            handle = record.successor or record.handle
            try:
                if record.ended:
                    passed.add(record.handle)
                    if handle in passed:
                        return False
                    standing = self.load(handle)
                    if standing is not None and standing.subject != record.subject:
                        return False
                elif attempts == ATTEMPTS:
                    return self.delete(handle)
                else:
                    attempts += 1
                    tombstone = record.tombstone(self.now(), remembered)
                    standing = self.replace(tombstone)
                    if standing is tombstone:
                        if not remembered:
                            self.delete(handle)
                        return True
                    if standing is None:  # or it has expired, by this machine's clock only
                        return self.delete(handle)
            except SerializationError:  # what cannot be read is ended by removing it
                return self.delete(handle)
        return False

    def purge(self) -> int:
        """Remove what has expired, where the server does not do so by itself.

        :returns: how many were removed.
        """
        return 0

    def examine(self) -> Examination:
        """What there is to know of the driver and the server, for ``flask session check``."""
        return self._call(self._examine)

    def close(self) -> None:
        """Close the connections, if this store made the client."""

    def reset(self) -> None:
        """Forget all connections without closing them. Called in a forked child, where
        they still belong to the parent.
        """

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

    def _dropped(self, cause: BaseException | None) -> bool:
        """Whether the driver says that the server closed the connection, as it does to
        all of them when it restarts. The next operation must then use a new one.
        """
        return False

    def _worth_repeating(self, error: StoreUnavailable, started: float) -> bool:
        """Only if that took next to no time: no request waits for two time limits."""
        return self._dropped(error.__cause__) and time.monotonic() - started < self.timeout / 10

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

    def _call(self, primitive: Callable[..., T], *arguments: Any) -> T:
        try:
            return primitive(*arguments)
        except self.unavailable as error:
            raise StoreUnavailable(self._describe(error)) from error
        except self.failed as error:
            raise StoreError(self._describe(error)) from error

    def _describe(self, error: Exception) -> str:
        return f"{type(self).__name__}: {str(error)[:300] or type(error).__name__}"


def _alive(record: Record | None, now: int) -> Record | None:
    return record if record is not None and record.alive(now) else None


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _reset_stores() -> None:
    for store in list(_stores):
        store.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_stores)
