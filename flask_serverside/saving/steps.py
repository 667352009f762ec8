"""What a save can do next, and why: the steps that :mod:`.decide` chooses among."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from ..sealing.envelope import Device
from ..sealing.envelope import UNKNOWN
from ..stores import Record
from ..stores import REMEMBERED
from .state import Known
from .state import Snapshot


class Rule(Enum):
    """Why a step is taken."""

    NO_ANSWER = (
        "The store did not answer before: nobody knows what stands there, so it fails again."
    )
    CAUGHT = "The store did not answer, and nothing is left to be stored: the view knows of it."
    UNCHANGED = "Nothing has changed and nothing is due: the store is left alone."
    ROTATION = "The id has been in use for long enough: the session moves to the next one."
    SUBJECT = "Somebody has signed in or out: the session moves to a new id."
    LATE_SUBJECT = (
        "Somebody has signed in, and the client can be told no id any more: that is warned of."
    )
    TOUCH = "It was only read, and its end is to move: it is touched."
    SAVE = "It has changed: the next version is stored, if nobody else was first."
    EMPTIED = "Nothing is left of it: a tombstone takes its place."
    EVICT = "Its subject has a quota: those of their sessions that are too many end."
    TOO_LATE = "It has ended meanwhile, and is signed out of: what it goes on as ends, too."
    LATE_SIGN_OUT = "Somebody signs out, and the client can be told no id: the old one ends."
    LATE_NEW_ID = "The client can be told no id any more: what needs one is warned of."
    PRESENTED = (
        "What the client has the id of cannot be used here, and is given up: it ends for all."
    )
    NOTHING_YET = "Nothing is stored and nothing is to be: the store is left alone."
    CREATE = "It is new: it is stored under an id that nobody has."
    ENDED = (
        "It has ended, and nobody signs in: it is not revived, and what was changed is dropped."
    )
    SIGN_OUT_OF_ENDED = "It has ended, and is signed out of: what it goes on as ends, too."
    TOO_OLD = "It would have expired before it is stored."
    PLACE = "Before the old id ends the session is stored under the new one."
    PLACE_AGAIN = "What others have saved under the old id is stored under the new one, too."
    WITHDRAW = "Nothing is left of it: what stands under the new id is removed first."
    SUPERSEDE = "The old id ends, and leads to the new one: of several who do so, one succeeds."


class Moment(NamedTuple):
    """What else a decision depends on."""

    #: The store's clock: milliseconds since the epoch.
    now: int
    #: Whether the client can be told nothing any more: its response is on the way.
    late: bool = False
    #: Whether the request is over.
    finishing: bool = False
    #: Where the request comes from, if that is recorded.
    device: Device = UNKNOWN
    #: The handle of the id that the client has presented, if this request can make nothing of
    #: what is stored there, while others perhaps can: it has expired by the clock of this
    #: machine, is encrypted with a key that it has not, or was given up a while ago.
    presented: str | None = None

    @property
    def remembered(self) -> float:
        """Seconds for which it is known that the session has ended. If the cookie cannot be
        cleared any more, not at all: it must not keep the client from a new session.
        """
        return 0.0 if self.late else REMEMBERED


class Nothing(NamedTuple):
    """Nothing is left to be done."""

    rule: Rule


class Fail(NamedTuple):
    """Raise once more what the store has failed with."""

    rule: Rule


class Warn(NamedTuple):
    """Say that what was changed is lost."""

    rule: Rule


class GoOn(NamedTuple):
    """Go on in another state, and decide again."""

    rule: Rule
    state: Known


class Rotate(NamedTuple):
    """Go on under the id that follows this one, and decide again."""

    rule: Rule
    snapshot: Snapshot


class Touch(NamedTuple):
    """Give what is stored the times of this record, and nothing else."""

    rule: Rule
    snapshot: Snapshot
    record: Record


class Save(NamedTuple):
    """Store this next version, once it is sealed."""

    rule: Rule
    snapshot: Snapshot


class Bury(NamedTuple):
    """Put a tombstone in the place of what stands under this id."""

    rule: Rule
    sid: str
    tombstone: Record


class Create(NamedTuple):
    """Store this first version, once it is sealed."""

    rule: Rule
    snapshot: Snapshot
    #: Whether its subject has a quota, and it is one more of theirs.
    counted: bool
    #: The handle of the one that it takes the place of, which does not count.
    replaced: str | None


class Withdraw(NamedTuple):
    """Remove what stands under an id that nobody was told."""

    rule: Rule
    snapshot: Snapshot


class EndPresented(NamedTuple):
    """End what stands under the id that was presented."""

    rule: Rule
    handle: str
    #: Seconds.
    remembered: float


class EndLeft(NamedTuple):
    """End what the session that has ended goes on as."""

    rule: Rule
    tombstone: Record
    #: Seconds.
    remembered: float
    #: What this request has seen of it before it has ended.
    seen: Snapshot | None = None


class Evict(NamedTuple):
    """End those of a subject's sessions that are too many."""

    rule: Rule
    snapshot: Snapshot
    replaced: str | None


class Gone(NamedTuple):
    """The session has ended: what was changed is dropped, or an error raised."""

    rule: Rule
    record: Record


Step = (
    Nothing
    | Fail
    | Warn
    | GoOn
    | Rotate
    | Touch
    | Save
    | Bury
    | Create
    | Withdraw
    | EndPresented
    | EndLeft
    | Evict
    | Gone
)
