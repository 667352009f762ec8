"""What the commands tell, in lines for people and in values for programs."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from itertools import islice
from typing import Any

from ..info import SessionInfo
from .check import Checkup
from .tables import printable
from .tables import Table
from .times import age
from .times import exactly
from .times import iso

_ELASTIC = ("subject", "address", "user agent")
#: Characters of a handle that are shown at least.
_FEWEST = 8
#: Rows of a table, unless told otherwise.
_ROWS = 100


def plain(value: Any) -> str:
    """For JSON, what it does not know."""
    return iso(value) if isinstance(value, datetime) else str(value)


def row(info: SessionInfo) -> dict[str, Any]:
    """One session of a list, for programs."""
    told = info._asdict()
    del told["current"]  # there is no request
    return told


def table(found: Iterator[SessionInfo], limit: int | None, now: datetime) -> Iterator[str]:
    """Those seen last come first, if that can be told before all are there.

    :param limit: the most rows; 0: all there are. Default 100.
    """
    most = _ROWS if limit is None else limit
    first = list(islice(found, most or _ROWS))
    more = list(islice(found, 1))
    if not first:
        yield "No sessions."
        return
    if not more:
        first.sort(key=lambda info: info.last_seen_at, reverse=True)
    table = _Sessions(first, now)
    yield table.head
    yield from map(table.line, first if most else chain(first, more, found))
    if more and most:
        yield f"There are more than these {most}. --limit 0 lists all, stats counts them."
    if table.left_out:
        yield f"Too narrow for: {', '.join(table.left_out)}."


class _Sessions:
    """One line a session.

    :param first: the sessions by which columns are chosen and measured.
    """

    def __init__(self, first: Sequence[SessionInfo], now: datetime) -> None:
        self._now = now
        self._digits = _digits([info.handle for info in first])
        self._device = {
            title: name
            for title, name in (("address", "remote_addr"), ("user agent", "user_agent"))
            if any(getattr(info, name) for info in first)
        }
        titles = ["handle", "subject", "last seen", "expires", "created", *self._device]
        self._table = Table(titles, map(self._cells, first), _ELASTIC)
        self.head, self.left_out = self._table.head, self._table.left_out

    def line(self, info: SessionInfo) -> str:
        return self._table.line(self._cells(info))

    def _cells(self, info: SessionInfo) -> list[str]:
        times = (info.last_seen_at, info.expires_at, info.created_at)
        return [
            info.handle[: self._digits],
            "-" if info.subject is None else str(info.subject),
            *(age(time, self._now) for time in times),
            *(_device(getattr(info, name)) for name in self._device.values()),
        ]


def facts(told: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """Of one session, or of anything that is told by name; what is ``None`` is left out."""
    return _pairs({_title(k): _value(k, v, now) for k, v in told.items() if v is not None})


def statistics(counted: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """What :func:`.stats.census` has counted."""
    told = {"sessions": str(counted["sessions"])}
    if counted["sessions"]:
        size, seen = counted["bytes"], counted["seen_within"]
        told |= {
            "signed in": f"{counted['signed_in']}, subjects: {counted['subjects']}",
            "anonymous": str(counted["anonymous"]),
            "bytes": f"{size['total']} in all, median {size['median']}, "
            f"smallest {size['smallest']}, largest {size['largest']}",
            "created": ", ".join(
                f"{name} {age(time, now)}" for name, time in counted["created_at"].items()
            ),
            "last seen": ", ".join(f"within {name} {number}" for name, number in seen.items()),
        }
    yield from _pairs(told)
    if counted["most_sessions"]:
        yield ""
        rows = [(str(most["sessions"]), most["subject"]) for most in counted["most_sessions"]]
        table = Table(("sessions", "of subject"), rows, ("of subject",))
        yield from (table.head, *map(table.line, rows))


def checkup(found: Checkup) -> Iterator[str]:
    """What :func:`.checkup.check` has found; what matters most comes last."""
    probe = {name: f"{took:.1f} ms" for name, took in found.probe.items()}
    sections = {
        "Configuration": found.configuration,
        "Cookie" if "name" in found.cookie else "Header": found.cookie,
        "Store": found.store,
        "Probe": probe,
    }
    for title, told in sections.items():
        if told:
            yield title
            yield from _pairs(told, indent="  ")
            yield ""
    for title, texts in (("Good to know", found.notes), ("Warnings", found.warnings)):
        if texts:
            yield title
            for text in texts:
                yield from _wrapped(text, "- ", "  ")
            yield ""
    if found.error is None:
        number = len(found.warnings)
        yield f"{number or 'No'} warning{'' if number == 1 else 's'}."


def _device(text: str | None) -> str:
    """Without what all browsers begin with."""
    return (text or "-").removeprefix("Mozilla/5.0 ")


def _title(key: str) -> str:
    if key == "remote_addr":
        return "address"
    return key.removesuffix("_at").removesuffix("_seconds").replace("_", " ")


def _value(key: str, value: Any, now: datetime) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC, {age(value, now)}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return exactly(value) if key.endswith("_seconds") else str(value)


def _pairs(told: Mapping[str, str], indent: str = "") -> Iterator[str]:
    widest = max(map(len, told))
    for name, value in told.items():
        beginning = f"{indent}{name.ljust(widest)}  "
        yield from _wrapped(value, beginning, " " * len(beginning))


def _wrapped(text: str, first: str, following: str) -> Iterator[str]:
    """Lines that fit the terminal, if it is not so narrow that no word fits."""
    room = max(shutil.get_terminal_size().columns, len(first) + 20)
    lines = textwrap.wrap(
        printable(text),
        room,
        initial_indent=first,
        subsequent_indent=following,
        break_long_words=False,
        break_on_hyphens=False,
    )
    yield from lines or [first.rstrip()]


def _digits(handles: Sequence[str]) -> int:
    """How many characters tell these handles apart."""
    digits = _FEWEST
    while len({handle[:digits] for handle in handles}) < len(set(handles)):
        digits += 1
    return digits
