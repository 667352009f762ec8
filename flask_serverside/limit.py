"""How many sessions a subject may have."""

from __future__ import annotations

from collections.abc import Iterable

from .config import Overflow
from .stores import Record


def surplus(records: Iterable[Record], most: int, overflow: Overflow) -> list[Record]:
    """Those of a subject's sessions that are too many.

    Whoever stores one more looks at all of them afterwards. It does not matter how many do so
    at once: they all come to the same ones, and whoever was last to store has seen them all.
    """
    from_the_oldest = sorted(records, key=lambda record: (record.created, record.handle))
    return from_the_oldest[:-most] if overflow == "evict" else from_the_oldest[most:]
