"""What a store adds to the contract if it can say which sessions it keeps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from ..errors import SerializationError
from .base import log
from .base import Store
from .record import Record

#: How often sessions are gone through to end them, at most. One that is given another handle
#: meanwhile may be missed, and is met the next time.
_PASSES = 4


class IndexedStore(Store):
    """Knows the sessions of each subject, and can go through all that there are.

    One more primitive, :meth:`_records`, and the index it takes, kept true by the others. If
    an operation breaks off, the index may name a session that is not there, and must not
    lack one that is.
    """

    def records(self, subject: str | None = None, beginning: str = "") -> Iterator[Record]:
        """The sessions that are alive, in no particular order, a batch of them at a time.

        :param subject: only those of this subject, at a cost that depends on their number.
        :param beginning: only those whose handle begins with these characters.
        """
        if subject is None:
            for record in self._found(subject, beginning):
                if not record.ended:
                    yield record
            return
        given: set[str] = set()
        for named in self._found(subject, beginning):
            moved = self._moved_to(named)
            if moved is None or moved.subject != subject or moved.handle in given:
                continue
            given.add(moved.handle)
            yield moved

    def count(self, subject: str | None = None) -> int:
        """How many sessions are alive."""
        return sum(1 for _ in self.records(subject))

    def end_all(
        self,
        subject: str | None = None,
        spared: Callable[[Record], bool] = lambda record: False,
    ) -> Iterator[Record]:
        """End all sessions, or those of one subject, also those that are given another handle
        meanwhile. Yields each one when it has ended.

        :param spared: whether one goes on.
        """
        for number in range(_PASSES):
            ended = False
            # Whether they have expired is not asked: this machine's clock may be ahead.
            for record in self._named(subject, ""):
                # An index names no tombstone, except where a session was moved since it was
                # asked. To go through all means to meet all tombstones, which may be many.
                if record.ended and subject is None:
                    continue
                if spared(record):
                    continue
                if self.end(record, remembered=0):
                    ended = True
                    yield record
            if number and not ended:
                return

    @abstractmethod
    def _records(self, subject: str | None, beginning: str) -> Iterator[Record]:
        """As :meth:`records`. May yield what is not asked for as well, such as records that
        have expired. May leave out tombstones, if what it yields is as the store was at one
        moment.
        """

    def _found(self, subject: str | None, beginning: str) -> Iterator[Record]:
        now = self.now()
        return (record for record in self._named(subject, beginning) if record.alive(now))

    def _named(self, subject: str | None, beginning: str) -> Iterator[Record]:
        found = self._records(subject, beginning)
        while (record := self._call(next, found, None)) is not None:
            if subject in (None, record.subject) and record.handle.startswith(beginning):
                yield record

    def _moved_to(self, named: Record) -> Record | None:
        """The record, or the one to which its session was moved since an index named it."""
        record: Record | None = named
        passed: set[str] = set()
        while record is not None and record.ended:
            passed.add(record.handle)
            if record.successor is None or record.successor in passed:
                return None
            record = next(self._legible(self.load, record.successor), None)
        return record

    def _legible(self, read: Callable[..., Record | None], *arguments: Any) -> Iterator[Record]:
        """The record that is read, if there is one that can be."""
        try:
            record = read(*arguments)
            if record is not None:
                yield record.checked()
        except SerializationError as error:
            log.warning("Left out of the list: %s", error)
