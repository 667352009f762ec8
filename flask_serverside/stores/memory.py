"""Sessions in this process's memory: for tests, development and one-process servers."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Collection
from typing import Any
from typing import Self
from typing import TYPE_CHECKING
from typing import Unpack

from .. import values
from .base import StoreOptions
from .examination import Examination
from .index import IndexedStore
from .outage import log
from .record import Entry
from .record import Record

if TYPE_CHECKING:
    from flask import Flask


class MemoryStore(IndexedStore):
    """A dict under a lock, with a heap that knows which record expires next.

    :param threshold: the most sessions kept. One more, and the one that would expire
        first is dropped.
    """

    one_process = True

    #: Expired records removed by each write, so that they never pile up and none waits.
    _SWEEP = 4
    #: Those that a purge removes before it lets others have a turn.
    _PURGE_BATCH = 1000

    def __init__(self, threshold: int = 100_000, **options: Unpack[StoreOptions]) -> None:
        super().__init__(**options)
        self.threshold = threshold
        self._full = False
        self._stored: dict[str, Record] = {}
        # One entry a record, (when to look, handle): extending a record leaves its entry
        # alone, and the entry is put back when it comes up too early.
        self._queue: list[tuple[int, str]] = []
        self._ended: dict[str, None] = {}  # whose sessions have ended, in that order
        # Of each subject's sessions: if it is one, as it mostly is, without a set, which would
        # take a quarter of all memory.
        self._of_subject: dict[str, str | set[str]] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_app(cls, app: Flask, **options: Unpack[StoreOptions]) -> Self:
        threshold = values.integer(
            app.config, "SESSION_MEMORY_THRESHOLD", 100_000, least=1, most=10**9
        )
        return cls(threshold, **options)

    def __len__(self) -> int:
        return len(self._stored)

    def purge(self) -> int:
        total, now = 0, self.now()
        while self._queue and self._queue[0][0] <= now:
            total += self._call(self._purge_batch)
            time.sleep(0)  # else whoever waits for the lock finds it taken again
        return total

    def _purge_batch(self) -> int:
        with self._lock:
            return self._sweep(self._PURGE_BATCH)

    def reset(self) -> None:
        self._lock = threading.Lock()

    def _create(self, record: Record) -> bool:
        with self._lock:
            self._sweep(self._SWEEP)
            if record.handle in self._stored:
                return False
            if len(self._stored) >= self.threshold:
                self._evict()
            self._put(record)
            heapq.heappush(self._queue, (record.expires, record.handle))
            return True

    def _load(self, handle: str) -> Record | None:
        return self._stored.get(handle)

    def _replace(self, record: Record) -> Record | None:
        with self._lock:
            standing = self._stored.get(record.handle)
            if standing is None or standing.expires <= record.seen:
                return None
            if standing.version != record.version - 1:
                return standing
            self._put(record)
            return record

    def _touch(self, record: Record) -> bool:
        with self._lock:
            standing = self._stored.get(record.handle)
            if standing is None or standing.expires <= record.seen:
                return False
            if standing.version != record.version:
                return False
            self._put(standing._replace(seen=record.seen, expires=record.expires))
            return True

    def _delete(self, handle: str) -> bool:
        with self._lock:
            return self._drop(handle)

    def _handles(
        self, subject: str | None, beginning: str, after: Any
    ) -> tuple[list[str], Any]:
        with self._lock:
            if subject is None:
                return list(self._stored), None
            return list(_several(self._of_subject.get(subject, ()))), None

    def _entries(self, handles: list[str]) -> list[Entry]:
        found = (self._stored.get(handle) for handle in handles)
        return [Entry.of(record) for record in found if record is not None]

    def _end_many(self, handles: list[str], subject: str | None) -> list[str]:
        with self._lock:
            return [
                handle
                for handle in handles
                if (record := self._stored.get(handle)) is not None
                and not record.ended
                and subject in (None, record.subject)
                and self._drop(handle)
            ]

    def _examine(self) -> Examination:
        return Examination(facts=(("sessions", f"{len(self)} of {self.threshold} at most"),))

    def _put(self, record: Record) -> None:
        standing = self._stored.get(record.handle)
        self._stored[record.handle] = record
        if standing is None or record.ended or standing.subject != record.subject:
            self._leave(standing)
            self._enter(record)
        if record.ended:
            self._ended[record.handle] = None
        if standing is not None and record.expires < standing.expires:
            heapq.heappush(self._queue, (record.expires, record.handle))

    def _sweep(self, most: int) -> int:
        now = self.now()
        before = len(self._stored)
        while most and self._queue and self._queue[0][0] <= now:
            most -= 1
            self._settle(now)
        return before - len(self._stored)

    def _evict(self) -> None:
        if not self._full:
            self._full = True
            log.warning(
                "The memory store is full: from now on each new session ends the one that "
                "would expire first. SESSION_MEMORY_THRESHOLD = %d.",
                self.threshold,
            )
        while len(self._stored) >= self.threshold:
            if self._ended:
                self._drop(next(iter(self._ended)))
            else:
                self._settle(self._queue[0][0])

    def _drop(self, handle: str) -> bool:
        self._ended.pop(handle, None)
        record = self._stored.pop(handle, None)
        self._leave(record)
        if len(self._queue) > 2 * len(self._stored) + 1024:
            self._queue = [(r.expires, r.handle) for r in self._stored.values()]
            heapq.heapify(self._queue)
        return record is not None

    def _enter(self, record: Record) -> None:
        if record.subject is not None and not record.ended:
            handles = self._of_subject.setdefault(record.subject, record.handle)
            if isinstance(handles, set):
                handles.add(record.handle)
            elif handles != record.handle:
                self._of_subject[record.subject] = {handles, record.handle}

    def _leave(self, record: Record | None) -> None:
        if record is not None and record.subject in self._of_subject:
            handles = self._of_subject[record.subject]
            if isinstance(handles, set):
                handles.discard(record.handle)
            if not handles or handles == record.handle:
                del self._of_subject[record.subject]

    def _settle(self, until: int) -> None:
        """Take the queue's first entry, and drop its record if that expires by ``until``;
        otherwise put the entry back at the time the record has now.
        """
        _, handle = self._queue[0]
        record = self._stored.get(handle)
        if record is None or record.expires <= until:
            heapq.heappop(self._queue)
            self._drop(handle)
        else:
            heapq.heapreplace(self._queue, (record.expires, handle))


def _several(handles: str | Collection[str]) -> Collection[str]:
    return (handles,) if isinstance(handles, str) else handles
