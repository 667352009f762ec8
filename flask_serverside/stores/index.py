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

#: How often sessions are gone through to end them, at most: until none is met that is to end.
#: Where others begin all the time that is never.
_PASSES = 8
#: Milliseconds for which a tombstone is young, by a clock that may differ.
_RECENT = 600_000
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

    No payload is fetched by a store that does so, however many sessions there are and however
    large. Each batch has a time limit of its own. After one that has failed the next has its
    turn, and :exc:`StoreUnavailable` is raised in the end.
    """

    #: Sessions that are looked at, or ended, in one trip.
    BATCH = 500

    def entries(
        self, subject: str | None = None, beginning: str = "", expired: bool = False
    ) -> Iterator[Entry]:
        """The sessions that are alive, in no particular order, a batch of them at a time.

        :param subject: only those of this subject, at a cost that depends on their number.
        :param beginning: only those whose handle begins with these characters.
        :param expired: also those that have expired by this machine's clock.
        """
        now, given = self.now(), set[str]()

        def listed(handles: list[str]) -> Iterator[Entry]:
            for found in self._with_successors(handles, lambda record: subject is not None):
                yield from found

        for entry in self._in_batches(subject, beginning, listed):
            record = entry.record
            if record.ended or subject not in (None, record.subject):
                continue
            if not (expired or record.alive(now)):
                continue
            if subject is not None:
                if record.handle in given:
                    continue
                given.add(record.handle)
            yield entry

    def is_empty(self) -> bool:
        """Whether there is no session, expired or not. If that takes long to say: no."""
        after = None
        for _ in range(_PAGES):
            page, after = self._call(self._handles, None, "", after)
            if page:
                return False
            if after is None:
                return True
        return False

    def count(self, subject: str | None = None) -> int:
        """How many sessions are alive."""
        return sum(1 for _ in self.entries(subject))

    def end_all(
        self,
        subject: str | None = None,
        spared: Callable[[Record], bool] = lambda record: False,
        told: Callable[[Record], object] = lambda record: None,
    ) -> Iterator[Record]:
        """End all sessions, or those of one subject, also those that are given another handle
        meanwhile. Yields the record of each one when it has ended, without the payload.

        :param spared: whether one goes on.
        :param told: called with each one of a batch that has ended before any is yielded:
            whoever takes no more of them has heard of all.
        """
        end = self._ending(subject, spared)
        for number in range(_PASSES):
            met = False
            for ended in self._in_batches(subject, "", end):
                met = True
                for record in ended:
                    told(record)
                yield from ended
            if number and not met:
                return

    def _ending(
        self, subject: str | None, spared: Callable[[Record], bool]
    ) -> Callable[[list[str]], Iterator[list[Record]]]:
        """What ends the sessions that a batch names. Gives nothing where there are none."""

        def end(handles: list[str]) -> Iterator[list[Record]]:
            for found in self._with_successors(handles, self._follows(subject)):
                # Whether they have expired is not asked: this machine's clock may be ahead.
                chosen = {
                    record.handle: record
                    for record, _ in found
                    if not record.ended
                    and subject in (None, record.subject)
                    and not spared(record)
                }
                if chosen:
                    yield from self._end_these(chosen, subject)

        return end

    def _end_these(
        self, chosen: dict[str, Record], subject: str | None
    ) -> Iterator[list[Record]]:
        gone = set(self._call(self._end_many, [*chosen], subject, again=self._end_many_again))
        yield [record for handle, record in chosen.items() if handle in gone]
        # Those that were given another handle a moment ago are followed there one by one, or
        # else a client that does so all the time would never be met. What one of them raises
        # hides none that has ended.
        for handle, record in chosen.items():
            if handle not in gone and self.end(record, remembered=0):
                yield [record]

    def _follows(self, subject: str | None) -> Callable[[Record], bool]:
        """Whether to look where a tombstone leads. An index of a subject names only those of
        sessions that were moved since it was asked. To go through all is to meet all
        tombstones, which may be many: what the older ones lead to is met by itself.
        """
        since = self.now() - _RECENT
        return lambda record: subject is not None or record.seen >= since

    def _with_successors(
        self, handles: list[str], follows: Callable[[Record], bool]
    ) -> Iterator[list[Entry]]:
        """What stands under these handles, then what the tombstones among them lead to."""
        passed = {*handles}
        while handles:
            found = self._read(handles)
            yield found
            moved = {
                record.successor
                for record, _ in found
                if record.ended and record.successor and follows(record)
            }
            handles = [*(moved - passed)]
            passed |= moved

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
        # Each is an operation of its own, with a time limit of its own.
        loaded = (self._legible(self._call, self._load, handle) for handle in handles)
        return [Entry.of(record) for some in loaded for record in some]

    def _end_many(self, handles: list[str], subject: str | None) -> list[str]:
        """Remove these records for good, but for tombstones and, unless it is ``None``, those
        of another subject. Returns the handles of those that were removed.
        """
        return [
            record.handle
            for handle in handles
            for record in self._legible(self._call, self._load, handle)
            if not record.ended and subject in (None, record.subject)
            if self._call(self._delete, handle)
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
            for batch in self._batches(wanted):
                try:
                    yield from work(batch)
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

    def _batches(self, handles: list[str]) -> Iterator[list[str]]:
        for together in self._apart(handles):
            for start in range(0, len(together), self.BATCH):
                yield together[start : start + self.BATCH]

    def _apart(self, handles: list[str]) -> Iterable[list[str]]:
        """By the servers that keep them, so that one that is away concerns no other's. Does no
        I/O, and may be wrong.
        """
        return [handles]

    def _read(self, handles: list[str]) -> list[Entry]:
        asked = {*handles}
        found = self._call(self._entries, handles)
        return [entry for entry in found if entry.record.handle in asked]

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
