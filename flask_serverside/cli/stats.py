"""How many sessions there are, of whom, how large and how old."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from ..saving.times import date_of
from ..stores import Entry

#: Within how many seconds a session was seen.
WITHIN = {"5 min": 300, "hour": 3600, "day": 86400, "week": 7 * 86400}
#: How many subjects are named.
_NAMED = 10


def census(entries: Iterable[Entry], now: int) -> dict[str, Any]:
    """What ``flask session stats`` tells. Goes through the sessions once; keeps two numbers of
    each, and each subject.

    :param now: milliseconds since the epoch.
    """
    sizes, births = array("Q"), array("Q")
    subjects: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for record, size in entries:
        sizes.append(size)
        births.append(record.created)
        if record.subject is not None:
            subjects[str(record.subject)] += 1
        silent = now - record.seen
        seen.update(name for name, most in WITHIN.items() if silent <= most * 1000)
    oldest, middle, youngest = _spread(births)
    smallest, median, largest = _spread(sizes)
    signed_in = subjects.total()
    return {
        "sessions": len(sizes),
        "signed_in": signed_in,
        "anonymous": len(sizes) - signed_in,
        "subjects": len(subjects),
        "bytes": {
            "total": sum(sizes),
            "smallest": smallest,
            "median": median,
            "largest": largest,
        },
        "created_at": {
            name: None if time is None else date_of(time)
            for name, time in (("youngest", youngest), ("median", middle), ("oldest", oldest))
        },
        "seen_within": {name: seen[name] for name in WITHIN},
        "most_sessions": [
            {"subject": subject, "sessions": number}
            for subject, number in subjects.most_common(_NAMED)
        ],
    }


def _spread(numbers: Sequence[int]) -> tuple[int | None, int | None, int | None]:
    """The least of them, the one in the middle, and the greatest."""
    ordered = sorted(numbers)
    if not ordered:
        return None, None, None
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]
