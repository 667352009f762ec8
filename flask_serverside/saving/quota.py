"""How many sessions a subject may have.

Whoever signs in stores the session and then looks at all that the subject has. It does not
matter how many do so at once: they all come to the same ones that are too many, and who was
last to store has seen them all.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..config import Settings
from ..sealing.envelope import former_in
from ..stores import END_OF_TIME
from ..stores import Entry
from ..stores import IndexedStore
from ..stores import Record
from .gateway import Gateway


class Quota:
    """``SESSION_MAX_PER_SUBJECT``, as one request keeps it.

    :param replaced: the session that a new one takes the place of; it does not count.
    """

    def __init__(self, gateway: Gateway, settings: Settings, replaced: str | None) -> None:
        assert settings.max_per_subject is not None
        self._gateway = gateway
        self._most = settings.max_per_subject
        self._evicts = settings.overflow == "evict"
        self._replaced = replaced

    def as_newest(self, record: Record) -> Record:
        """The record as one that begins after all that are there, also if another machine
        has stored them, whose clock is ahead.
        """
        latest = max((other.created for other in self._sessions_of(record)), default=0)
        return record._replace(created=min(max(record.created, latest + 1), END_OF_TIME))

    def surplus(self, record: Record) -> list[Record]:
        """The sessions of this one's subject that are too many."""
        counted = _each_once(self._sessions_of(record))
        oldest_first = sorted(counted, key=lambda r: (r.created, r.handle))
        if self._evicts:
            return oldest_first[: -self._most]
        return oldest_first[self._most :]

    def _sessions_of(self, record: Record) -> list[Record]:
        store = self._gateway.store
        assert isinstance(store, IndexedStore)  # made sure of at start-up
        found: list[Entry] = self._gateway.call(list, store.entries(record.subject))
        return [entry.record for entry in found if entry.record.handle != self._replaced]


def _each_once(records: Iterable[Record]) -> Iterable[Record]:
    """Without those that are being given a new id, if they are there under that, too; and of
    several that take the place of the same one, which only one will do, the oldest.
    """
    by_handle = {record.handle: record for record in records}
    oldest_first = sorted(by_handle.values(), key=lambda r: (r.created, r.handle))
    taken: set[str] = set()
    for record in oldest_first:
        former = former_in(record.payload)
        if former in taken:
            del by_handle[record.handle]
        elif former is not None:
            taken.add(former)
            by_handle.pop(former, None)
    return by_handle.values()
