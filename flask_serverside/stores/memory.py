"""Sessions in this process's memory: for tests, development and one-process servers."""

from __future__ import annotations

import heapq
import threading
from typing import Self
from typing import TYPE_CHECKING
from typing import Unpack

from .. import values
from .base import log
from .base import Store
from .base import StoreOptions
from .record import Record

if TYPE_CHECKING:
    from flask import Flask


class MemoryStore(Store):
    """A dict under a lock, with a heap that knows which record expires next.

    :param threshold: the most sessions kept. One more, and the one that would expire
        first is dropped.
    """

    one_process = True

    #: Expired records removed by each write, so that they never pile up and none waits.
    _SWEEP = 4

    def __init__(self, threshold: int = 100_000, **options: Unpack[StoreOptions]) -> None:
        super().__init__(**options)
        self.threshold = threshold
        self._full = False
        self._records: dict[str, Record] = {}
        # One entry a record, (when to look, handle): extending a record leaves its entry
        # alone, and the entry is put back when it comes up too early.
        self._queue: list[tuple[int, str]] = []
        self._ended: dict[str, None] = {}  # whose sessions have ended, in that order
        self._lock = threading.Lock()

    @classmethod
    def from_app(cls, app: Flask, **options: Unpack[StoreOptions]) -> Self:
        threshold = values.integer(
            app.config, "SESSION_MEMORY_THRESHOLD", 100_000, least=1, most=10**9
        )
        return cls(threshold, **options)

    def __len__(self) -> int:
        return len(self._records)

    def purge(self) -> int:
        with self._lock:
            return self._sweep(len(self._queue))

    def reset(self) -> None:
        self._lock = threading.Lock()

    def _create(self, record: Record) -> bool:
        with self._lock:
            self._sweep(self._SWEEP)
            if record.handle in self._records:
                return False
            if len(self._records) >= self.threshold:
                self._evict()
            self._put(record)
            heapq.heappush(self._queue, (record.expires, record.handle))
            return True

    def _load(self, handle: str) -> Record | None:
        return self._records.get(handle)

    def _replace(self, record: Record) -> Record | None:
        with self._lock:
            standing = self._records.get(record.handle)
            if standing is None or standing.expires <= record.seen:
                return None
            if standing.version != record.version - 1:
                return standing
            self._put(record)
            return record

    def _touch(self, record: Record) -> bool:
        with self._lock:
            standing = self._records.get(record.handle)
            if standing is None or standing.expires <= record.seen:
                return False
            if standing.version != record.version:
                return False
            self._put(standing._replace(seen=record.seen, expires=record.expires))
            return True

    def _delete(self, handle: str) -> bool:
        with self._lock:
            return self._drop(handle)

    def _put(self, record: Record) -> None:
        standing = self._records.get(record.handle)
        self._records[record.handle] = record
        if record.ended:
            self._ended[record.handle] = None
        if standing is not None and record.expires < standing.expires:
            heapq.heappush(self._queue, (record.expires, record.handle))

    def _sweep(self, most: int) -> int:
        now = self.now()
        before = len(self._records)
        while most and self._queue and self._queue[0][0] <= now:
            most -= 1
            self._settle(now)
        return before - len(self._records)

    def _evict(self) -> None:
        if not self._full:
            self._full = True
            log.warning(
                "The memory store is full: from now on each new session ends the one that "
                "would expire first. SESSION_MEMORY_THRESHOLD = %d.",
                self.threshold,
            )
        while len(self._records) >= self.threshold:
            if self._ended:
                self._drop(next(iter(self._ended)))
            else:
                self._settle(self._queue[0][0])

    def _drop(self, handle: str) -> bool:
        self._ended.pop(handle, None)
        found = self._records.pop(handle, None) is not None
        if len(self._queue) > 2 * len(self._records) + 1024:
            self._queue = [(r.expires, r.handle) for r in self._records.values()]
            heapq.heapify(self._queue)
        return found

    def _settle(self, until: int) -> None:
        """Take the queue's first entry, and drop its record if that expires by ``until``;
        otherwise put the entry back at the time the record has now.
        """
        _, handle = self._queue[0]
        record = self._records.get(handle)
        if record is None or record.expires <= until:
            heapq.heappop(self._queue)
            self._drop(handle)
        else:
            heapq.heapreplace(self._queue, (record.expires, handle))
