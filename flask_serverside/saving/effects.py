"""What the store can answer to a step, and what can come of it beside another state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from blinker import NamedSignal

from ..stores import Record
from .state import Snapshot


class Cookie(NamedTuple):
    """What the client is to be told."""

    #: The id; ``None``: the cookie is to be cleared.
    sid: str | None
    #: Seconds; ``None``: until the browser ends.
    max_age: int | None = None


CLEARED = Cookie(None)


# -- the answers


class Stored(NamedTuple):
    """It was stored, or touched. ``None``: as a tombstone."""

    snapshot: Snapshot | None


class Found(NamedTuple):
    """Others were first: this stands there."""

    snapshot: Snapshot
    data: dict[str, Any]


class Missing(NamedTuple):
    """It has ended, or can not be read: no session of this client's stands there."""

    standing: Record | None


class Ending(NamedTuple):
    """Whether there was anything to be ended."""

    ended: bool
    #: What it was, if that can be read.
    record: Record | None = None


class Evicted(NamedTuple):
    """Those that are too many were ended."""

    #: Whether the new one is among them.
    itself: bool


class TooMany(NamedTuple):
    """It was stored, and is one more than its subject may have."""

    snapshot: Snapshot


class Done(NamedTuple):
    """There is nothing to be told of it."""


Answer = Stored | Found | Missing | Ending | Evicted | TooMany | Done

DONE = Done()


# -- the effects


class Tell(NamedTuple):
    """Send a signal."""

    signal: NamedSignal
    record: Record
    more: Mapping[str, str] = {}


class TellClient(NamedTuple):
    """Give the client this cookie with the answer; ``None``: leave alone what it has."""

    cookie: Cookie | None


class Settle(NamedTuple):
    """The draft is stored: it asks for nothing any more that others' changes give way to."""


class Drop(NamedTuple):
    """Empty the draft."""


class Restore(NamedTuple):
    """Have the draft be what is stored so."""

    snapshot: Snapshot


class KeepMine(NamedTuple):
    """Leave in the draft only what this request has set itself."""

    base: Snapshot


class Remove(NamedTuple):
    """Remove a record for good."""

    handle: str


class Forget(NamedTuple):
    """What was presented is done with."""


class Remember(NamedTuple):
    """What was presented goes on elsewhere, and is to end if this request signs out."""

    handle: str


class TellLost(NamedTuple):
    """Warn that this cannot be delivered."""

    #: Whether it is a new id, or else the data.
    new_id: bool


class Report(NamedTuple):
    """What this request has changed is dropped, since its session has ended."""

    record: Record


class Refuse(NamedTuple):
    """The subject has as many sessions as they may have."""


Effect = (
    Tell
    | TellClient
    | Settle
    | Drop
    | Restore
    | KeepMine
    | Remove
    | Forget
    | Remember
    | TellLost
    | Report
    | Refuse
)
