"""Times as an operator reads them, and as a program does."""

from __future__ import annotations

from datetime import datetime
from datetime import UTC

#: From how many seconds on which unit is used, and how many seconds it has.
_UNITS = [(48 * 3600, 86400, "days"), (90 * 60, 3600, "h"), (90, 60, "min"), (0, 1, "s")]
_EXACT = [(86400, "day"), (3600, "h"), (60, "min")]


def iso(date: datetime) -> str:
    """ISO 8601, in UTC and whole seconds: what ``fromdate`` of jq takes."""
    return date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(date: datetime, now: datetime) -> str:
    """``3 min ago``, ``in 30 days``."""
    seconds = round((now - date).total_seconds())
    if seconds == 0:
        return "now"
    return f"{roughly(seconds)} ago" if seconds > 0 else f"in {roughly(-seconds)}"


def roughly(seconds: float) -> str:
    """As one number of a unit that fits."""
    size, name = next((size, name) for least, size, name in _UNITS if seconds >= least)
    return f"{round(seconds / size)} {name}"


def exactly(seconds: float) -> str:
    """As one number of the largest unit of which it is a whole number."""
    for size, name in _EXACT:
        if seconds >= size and seconds % size == 0:
            number = int(seconds // size)
            return f"{number} {name}{'s' if name == 'day' and number != 1 else ''}"
    return f"{seconds:g} s"
