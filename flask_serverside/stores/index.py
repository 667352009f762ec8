"""What a store adds to the contract if it can say which sessions it keeps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import TypeVar

from ..errors import NotSupported
from ..errors import SerializationError
from ..errors import StoreUnavailable
from .base import Store
from .outage import log
from .record import Entry
from .record import Record

T = TypeVar("T")

#: How often sessions are gone through to end them, at most. One that is given another handle
#: meanwhile may be missed, and is met the next time.
_PASSES = 4
#: Batches that may fail one after the other before the rest is given up.
_FAILURES = 3
#: Pages that are looked at to know whether there is any session.
_PAGES = 100


class IndexedStore(Store):
    """Knows the sessions of each subject, and can go through all that there are.

    One more primitive, :meth:`_handles`, and the index it takes, kept true by the others. If
    an operation breaks off, the index may name a session that is not there, and must not
    lack one that is. Two more, :meth:`_entries` and :meth:`_end_many`, work as they are, one
    session at a time; a store replaces them where its server does a batch in one trip.

    Nothing here fetches payloads, however many sessions there are and however large. Each
    batch has a time limit of its own. After one that has failed the next has its turn, and
    :exc:`StoreUnavailable` is raised in the end.
    """

    #: Sessions that are looked at, or ended, in one trip.
    BATCH = 500

    def entries(self, subject: str | None = None, beginning: str = "") -> Iterator[Entry]:
        """The sessions that are alive, in no particular order, a batch of them at a time.

        :param subject: only those of this subject, at a cost that depends on their number.
        :param beginning: only those whose handle begins with these characters.
        """
        now, given = self.now(), set[str]()
        for entry in self._in_batches(subject, beginning, self._read):
            record = entry.record
            if record.ended and subject is not None:
                for moved in self._moved_to(record):
                    entry, record = moved, moved.record
            if record.ended or not record.alive(now) or subject not in (None, record.subject):
                continue
            if subject is not None:
                if record.handle in given:
                    continue
                given.add(record.handle)
            yield entry

    def is_empty(self) -> bool:
        """Whether no session was found in the first pages, expired or not."""
        after = None
        for _ in range(_PAGES):
            page, after = self._call(self._handles, None, "", after)
            if page:
                return False
            if after is None:
                return True
        return True

    def count(self, subject: str | None = None) -> int:
        """How many sessions are alive."""
        return sum(1 for _ in self.entries(subject))

    def end_all(
        self,
        subject: str | None = None,
        spared: Callable[[Record], bool] = lambda record: False,
    ) -> Iterator[Record]:
        """End all sessions, or those of one subject, also those that are given another handle
        meanwhile. Yields the record of each one when it has ended, without the payload.

        :param spared: whether one goes on.
        """
        followed: set[str] = set()

        def end(handles: list[str]) -> Iterator[Record]:
            # Whether they have expired is not asked: this machine's clock may be ahead.
            found = [entry.record for entry in self._read(handles)]
            chosen = {
                record.handle: record
                for record in found
                if not record.ended and subject in (None, record.subject) and not spared(record)
            }
            if chosen:
                gone = self._call(
                    self._end_many, [*chosen], subject, again=self._end_many_again
                )
                for handle in gone:
                    yield chosen[handle]
            # A session that was moved since the index named it. To go through all means to
            # meet all tombstones, which may be many: what they lead to is met by itself.
            moved = {r.successor for r in found if r.ended and r.successor and subject}
            if moved := moved - followed:
                followed.update(moved)
                yield from end([*moved])

        for number in range(_PASSES):
            ended = False
            followed.clear()
            for record in self._in_batches(subject, "", end):
                ended = True
                yield record
            if number and not ended:
                return

    @abstractmethod
    def _handles(
        self, subject: str | None, beginning: str, after: Any
    ) -> tuple[list[str], Any]:
        """Some of the handles that the index names: of one subject, or of all if it is
        ``None``, that begin so. May name what is not asked for as well.

        :param after: ``None`` at first, then what the last call has returned: where to go on.
        :returns: the handles, any number of them, and where to go on; ``None``: that was all.
        """

    def _entries(self, handles: list[str]) -> list[Entry]:
        """What stands under these handles, expired, ended or not, in any order."""
        loaded = (self._legible(self._load, handle) for handle in handles)
        return [Entry.of(record) for some in loaded for record in some]

    def _end_many(self, handles: list[str], subject: str | None) -> list[str]:
        """Remove these records for good, but for tombstones and, unless it is ``None``, those
        of another subject. Returns the handles of those that were removed.
        """
        return [
            record.handle
            for handle in handles
            for record in self._legible(self._load, handle)
            if not record.ended and subject in (None, record.subject)
            if self._delete(handle)
        ]

    def _end_many_again(self, handles: list[str], subject: str | None) -> list[str]:
        self._end_many(handles, subject)
        standing = {entry.record.handle for entry in self._entries(handles)}
        # What is gone was there a moment ago: our own first try has ended it.
        return [handle for handle in handles if handle not in standing]

    def _in_batches(
        self, subject: str | None, beginning: str, work: Callable[[list[str]], Iterable[T]]
    ) -> Iterator[T]:
        """What the work gives for each batch of handles."""
        failures: list[StoreUnavailable] = []
        in_a_row, after = 0, None
        while True:
            page, after = self._call(self._handles, subject, beginning, after)
            wanted = [handle for handle in page if handle.startswith(beginning)]
            for start in range(0, len(wanted), self.BATCH):
                try:
                    yield from work(wanted[start : start + self.BATCH])
                    in_a_row = 0
                except StoreUnavailable as error:
                    failures.append(error)
                    in_a_row += 1
                    if in_a_row == _FAILURES:
                        raise
            if after is None:
                break
        if failures:
            raise failures[0]

    def _read(self, handles: list[str]) -> list[Entry]:
        asked = {*handles}
        found = self._call(self._entries, handles)
        return [entry for entry in found if entry.record.handle in asked]

    def _moved_to(self, record: Record) -> Iterator[Entry]:
        """The session that this tombstone leads to, if it does, and that can be read."""
        passed: set[str] = set()
        while record.ended and record.successor and record.successor not in passed:
            passed.add(record.successor)
            found = self._read([record.successor])
            if not found:
                return
            record = found[0].record
            if not record.ended:
                yield found[0]

    def _legible(self, read: Callable[..., Record | None], *arguments: Any) -> Iterator[Record]:
        """The record that is read, if there is one that can be."""
        try:
            record = read(*arguments)
            if record is not None:
                yield record.checked()
        except SerializationError as error:
            log.warning("Left out of the list: %s", error)


def indexed(store: Store) -> IndexedStore:
    """:raises NotSupported: it cannot list sessions."""
    if not isinstance(store, IndexedStore):
        raise NotSupported(no_index(store))
    return store


def no_index(store: Store) -> str:
    return (
        f"{type(store).__name__} cannot list sessions. SESSION_TYPE = memory, redis, mongodb "
        "and sqlalchemy can."
    )
