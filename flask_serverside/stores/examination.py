"""What a store can say of itself and of its server, to an operator who asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import NamedTuple
from typing import TypeVar

T = TypeVar("T")

#: What is told instead of an answer that the server has refused.
REFUSED = "not allowed to ask"


class Examination(NamedTuple):
    """All of it is for people to read, and has no secrets in it."""

    #: The driver and its version.
    driver: str = ""
    #: The server and its version.
    server: str = ""
    #: What there is to know, by name.
    facts: tuple[tuple[str, str], ...] = ()
    #: What is wrong, and what to do; a sentence or two each.
    warnings: tuple[str, ...] = ()
    #: What is no fault, and good to know.
    notes: tuple[str, ...] = ()
    #: Seconds by which the server's clock is ahead of this machine's; ``None``: not known.
    ahead: float | None = None


def together(examined: Mapping[str, Examination]) -> Examination:
    """Those of several servers as one, each thing with the name of the server before it."""
    if len(examined) == 1:
        return next(iter(examined.values()))
    every = examined.items()
    aheads = [one.ahead for one in examined.values() if one.ahead is not None]
    return Examination(
        next(one.driver for one in examined.values()),
        ", ".join(dict.fromkeys(one.server for one in examined.values())),
        tuple((f"{name} {key}", value) for name, one in every for key, value in one.facts),
        tuple(f"{name}: {text}" for name, one in every for text in one.warnings),
        tuple(f"{name}: {text}" for name, one in every for text in one.notes),
        max(aheads, key=abs, default=None),
    )


def timed(ask: Callable[[], T]) -> tuple[T, float]:
    """The answer, and the time of this machine, in seconds, at which it was given: halfway."""
    began = time.time()
    answer = ask()
    return answer, (began + time.time()) / 2


def since(seconds: float) -> str:
    """How long a server has been running."""
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {name}"
    return f"{seconds:.0f} seconds"


def room(count: float) -> str:
    """Bytes of memory."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
