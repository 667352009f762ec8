"""What this request knows of its session: one frozen value, and what can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import NamedTuple

from ..sealing.envelope import Contents
from ..stores import Record


class Snapshot(NamedTuple):
    """What this request last saw of the stored session."""

    sid: str
    record: Record
    contents: Contents
    #: Whose session the data says it is. The record, if it says otherwise, is out of date.
    subject: str | None
    #: Whether the cookie that the client has outlives the browser.
    permanent: bool

    @property
    def handle(self) -> str:
        return self.record.handle


class Move(NamedTuple):
    """Why a session is given a new id."""

    #: As :data:`~flask_serverside.session_regenerated` has it.
    reason: str
    #: What leads from the old id to the new one, if anything is to.
    rotation: bytes = b""


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing is stored: the session is new."""

    #: Empty: nobody has asked for it yet.
    sid: str = ""
    #: Whether a new id was asked for, as whoever signs in does.
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """It is stored under the id that the client has."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Moving:
    """It is stored under an id that it is about to give up."""

    former: Snapshot
    move: Move
    sid: str = ""
    #: What stands under the new id already, of which nobody has been told.
    placed: Snapshot | None = None
    #: Whether that counts as one more session of its subject.
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The session that the client has the id of was ended, and not by this request: another
    one has set or cleared the cookie, and this one leaves it alone.
    """

    #: What is known of the session.
    tombstone: Record
    #: Whose it was, if this request has seen it alive.
    subject: str | None = None
    sid: str = ""
    asked: bool = False


Known = Absent | Held | Moving | Ended


@dataclass(frozen=True, slots=True)
class Unknown:
    """The store did not answer when it was told to write: nobody knows what stands there."""

    before: Known


State = Known | Unknown


def known(state: State) -> Known:
    """What was known before the store failed to answer, if it did."""
    return state.before if isinstance(state, Unknown) else state


def stored(state: State) -> Snapshot | None:
    """What stands in the store, under the old id or the new one."""
    state = known(state)
    if isinstance(state, Moving):
        return state.former
    return state.snapshot if isinstance(state, Held) else None


def current(state: State) -> Snapshot | None:
    """What stands in the store under the id that the session goes on with."""
    state = known(state)
    if isinstance(state, Moving):
        return state.placed
    return state.snapshot if isinstance(state, Held) else None


def sid_of(state: State) -> str:
    """The id that the session goes on with; empty: there is none yet."""
    state = known(state)
    return state.snapshot.sid if isinstance(state, Held) else state.sid


def with_sid(state: State, sid: str) -> State:
    """The same, with an id where there is none yet."""
    if isinstance(state, Unknown):
        return Unknown(_named(state.before, sid))
    return _named(state, sid)


def _named(state: Known, sid: str) -> Known:
    return state if isinstance(state, Held) else replace(state, sid=sid)


def renewed(state: State) -> State:
    """The same, with a new id from the next save on."""
    if isinstance(state, Unknown):
        return Unknown(_renewed(state.before))
    return _renewed(state)


def _renewed(state: Known) -> Known:
    former = stored(state)
    if former is not None:
        return Moving(former, Move("asked"))
    assert isinstance(state, Absent | Ended)
    return replace(state, sid="", asked=True)


def unmoved(state: Known) -> Known:
    """What is left when moving it has failed: whoever has asked for a new id still does."""
    if not isinstance(state, Moving):
        return state
    if state.move.reason == "asked":
        return Moving(state.former, state.move, state.sid)
    return Held(state.former)
