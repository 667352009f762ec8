"""What the store's answer to a step means: the state from now on, and what is to be done. Pure.

:mod:`.decide` has chosen the step, :mod:`.unit` has done it, and does the effects.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ..config import Settings
from ..signals import session_created
from ..signals import session_destroyed
from ..signals import session_regenerated
from ..signals import session_saved
from ..stores import Record
from ..web.cookies import OLDEST
from .effects import Answer
from .effects import CLEARED
from .effects import Cookie
from .effects import Drop
from .effects import Effect
from .effects import Ending
from .effects import Evicted
from .effects import Forget
from .effects import Found
from .effects import KeepMine
from .effects import Missing
from .effects import Refuse
from .effects import Remember
from .effects import Remove
from .effects import Report
from .effects import Restore
from .effects import Settle
from .effects import Stored
from .effects import Tell
from .effects import TellClient
from .effects import TellLost
from .effects import TooMany
from .state import Absent
from .state import Ended
from .state import Held
from .state import Known
from .state import Moving
from .state import Snapshot
from .steps import Bury
from .steps import Create
from .steps import EndLeft
from .steps import EndPresented
from .steps import Evict
from .steps import Gone
from .steps import GoOn
from .steps import Moment
from .steps import Rule
from .steps import Save
from .steps import Step
from .steps import Touch
from .steps import Warn
from .steps import Withdraw
from .wanted import asks_for_nothing
from .wanted import Wanted


class Reaction(NamedTuple):
    """What comes of an answer."""

    state: Known
    effects: tuple[Effect, ...] = ()
    #: The step to be done next.
    then: Step | None = None
    #: Whether, if there is none, the next one is to be decided. If not, nothing is left.
    again: bool = False
    #: Whether what an atomic function has done is undone: it cannot be stored.
    undo: bool = False
    #: What others have saved, which mine is to be applied to before that.
    merge: Found | None = None


def react(
    state: Known,
    wanted: Wanted,
    step: Step,
    answer: Answer,
    moment: Moment,
    settings: Settings,
) -> Reaction:
    """What comes of a step's answer."""
    match step, answer:
        case GoOn(), _:
            return Reaction(step.state, again=True)
        case Touch(), Stored(Snapshot() as snapshot):
            told = _told(snapshot, moment) if snapshot.permanent else ()
            return Reaction(Held(snapshot), told)
        case Save() | Bury(), _:
            return _replaced(state, wanted, step, answer, moment)
        case Create(), Stored(Snapshot() as snapshot):
            return _created(state, step, snapshot, moment)
        case Create(), TooMany(snapshot):
            return _refused(state, snapshot)
        case Withdraw(), _:
            return _withdrawn(state, again=True)
        case EndPresented(), Ending():
            cleared = (TellClient(CLEARED),) if answer.ended else ()
            return Reaction(state, (Forget(), *cleared, *_destroyed(answer)), again=True)
        case EndLeft(), Ending():
            return _left_ended(state, wanted, step, answer)
        case Evict(), Evicted(itself):
            return _gone(state, step.snapshot.record) if itself else Reaction(state)
        case Gone(), _:
            return _gone(state, step.record)
        case Warn(), _:
            # Who signs out by that is signed out all the same when the request ends.
            settled = () if isinstance(state, Moving) else _settled(state)
            lost = TellLost(isinstance(state, Moving))
            return Reaction(state, (lost, *settled), undo=True)
        case _:
            return Reaction(state, _settled(state))


def _settled(state: Known) -> tuple[Effect, ...]:
    """Of what is stored, what was asked for stands until it is done."""
    return () if isinstance(state, Held) else (Settle(),)


# -- it was replaced, or was not


def _replaced(
    state: Known, wanted: Wanted, step: Save | Bury, answer: Answer, moment: Moment
) -> Reaction:
    if isinstance(state, Moving):
        if isinstance(step, Save):
            return _placed_again(state, step, answer)
        if isinstance(answer, Stored):
            return _moved(state, moment)
    assert isinstance(state, Held | Moving)
    if isinstance(answer, Stored):
        assert isinstance(state, Held)
        return _saved(state, answer.snapshot, moment)
    if isinstance(answer, Found):
        return _others_first(state, wanted, answer, moment)
    assert isinstance(answer, Missing)
    return _missing(state, wanted, answer.standing, moment)


def _saved(state: Held, snapshot: Snapshot | None, moment: Moment) -> Reaction:
    before = state.snapshot
    if snapshot is None:
        # No cookie will be cleared: what is remembered would keep the client out.
        removed = (Remove(before.handle),) if moment.late else ()
        told = (TellClient(CLEARED), Tell(session_destroyed, before.record))
        return Reaction(Absent(), (Settle(), *removed, *told))
    # The cookie is sent as seldom as its end moves: one that is on its way while another
    # request gets a new id takes the browser back to the old one.
    moved = snapshot.record.expires != before.record.expires
    owed = (snapshot.permanent and moved) or snapshot.permanent != before.permanent
    cookie = _told(snapshot, moment) if owed else ()
    return Reaction(Held(snapshot), (Settle(), *cookie, Tell(session_saved, snapshot.record)))


def _others_first(
    state: Held | Moving, wanted: Wanted, found: Found, moment: Moment
) -> Reaction:
    before = state.former if isinstance(state, Moving) else state.snapshot
    now = found.snapshot._replace(permanent=before.permanent)
    exchanged = now.sid != before.sid
    # The client has an id that was exchanged: without the new one it is out after the grace.
    told = _told(now._replace(permanent=wanted.permanent), moment) if exchanged else ()
    if isinstance(state, Held):
        return Reaction(Held(now), told, again=True, merge=found)
    if state.move.rotation and exchanged:
        # Of several that rotate at once one succeeds: the others go on under its id.
        left = _withdrawn(state, again=True)
        return left._replace(state=Held(now), effects=(*told, *left.effects), merge=found)
    return Reaction(replace(state, former=now), told, again=True, merge=found)


def _missing(
    state: Held | Moving, wanted: Wanted, standing: Record | None, moment: Moment
) -> Reaction:
    """The session has ended, or was given another id, since it was loaded."""
    left = _withdrawn(state)
    seen = state.former if isinstance(state, Moving) else state.snapshot
    was = seen.subject
    signs_out = (
        wanted.signed_out or wanted.emptied or (was is not None and wanted.subject != was)
    )
    if signs_out and standing is not None:
        # Who signs out does not stay signed in because the session has another id by now.
        end = EndLeft(Rule.TOO_LATE, standing, moment.remembered, seen)
        return left._replace(then=end)
    late = _too_late(left.state, wanted, seen, ended=False)
    return late._replace(effects=(*left.effects, *late.effects))


def _too_late(state: Known, wanted: Wanted, seen: Snapshot, ended: bool) -> Reaction:
    if isinstance(state, Moving) and wanted.subject not in (None, seen.subject):
        # Who signs in begins a session of their own, with nothing of the one that has ended.
        return Reaction(Absent(asked=True), (KeepMine(seen),), again=True)
    cookie = CLEARED if ended else None
    if wanted.emptied or asks_for_nothing(state, wanted, seen):
        # Nothing is lost by it, so that nobody is told.
        gone = Ended(seen.record, seen.record.subject)
        return Reaction(gone, (Drop(), TellClient(cookie)))
    return _gone(state, seen.record, cookie)


def _gone(state: Known, record: Record, cookie: Cookie | None = None) -> Reaction:
    """The session stays ended, and what was changed is dropped."""
    if isinstance(state, Ended):
        gone = Ended(state.tombstone, state.subject)
    else:
        gone = Ended(record, record.subject)
    return Reaction(gone, (Drop(), TellClient(cookie), Report(record)))


def _left_ended(state: Known, wanted: Wanted, step: EndLeft, answer: Ending) -> Reaction:
    told = _destroyed(answer)
    if step.seen is not None:
        late = _too_late(state, wanted, step.seen, answer.ended)
        return late._replace(effects=(*told, *late.effects))
    if wanted.encoded:  # what was written before, or after, would need a session
        return Reaction(state, told, then=Gone(Rule.ENDED, step.tombstone))
    return Reaction(state, (*told, Settle()))


# -- a new id


def _created(state: Known, step: Create, snapshot: Snapshot, moment: Moment) -> Reaction:
    if isinstance(state, Moving):
        placed = replace(state, placed=snapshot, counted=step.counted)
        return Reaction(placed, again=True)
    told = (*_told(snapshot, moment), Tell(session_created, snapshot.record), Settle())
    if isinstance(state, Ended):
        told = (*told, Remember(state.tombstone.handle))
    evict = Evict(Rule.EVICT, snapshot, None) if step.counted else None
    return Reaction(Held(snapshot), told, then=evict)


def _placed_again(state: Moving, step: Save, answer: Answer) -> Reaction:
    if isinstance(answer, Stored):
        return Reaction(replace(state, placed=answer.snapshot), again=True)
    return _gone(state, step.snapshot.record)  # it was revoked before anybody had its id


def _moved(state: Moving, moment: Moment) -> Reaction:
    former, new = state.former, state.placed
    if new is None:
        told = (TellClient(CLEARED), Tell(session_destroyed, former.record))
        return Reaction(Absent(), (Settle(), *told))
    more = {"former": former.handle, "reason": state.move.reason}
    told_of = (*_told(new, moment), Tell(session_regenerated, new.record, more))
    evict = Evict(Rule.EVICT, new, former.handle) if state.counted else None
    return Reaction(Held(new), (Settle(), *told_of), then=evict)


def _withdrawn(state: Known, again: bool = False) -> Reaction:
    """Nothing stands under the new id any more."""
    if not isinstance(state, Moving) or state.placed is None:
        return Reaction(state, again=again)
    left = replace(state, placed=None, counted=False)
    return Reaction(left, (Remove(state.placed.handle),), again=again)


def _refused(state: Known, snapshot: Snapshot) -> Reaction:
    """It is as if nobody had signed in: what is answered may write to that session."""
    effects = (Remove(snapshot.handle), Drop())
    if isinstance(state, Moving):
        return Reaction(Held(state.former), (*effects, Restore(state.former), Refuse()))
    return Reaction(Absent(), (*effects, Refuse()))


# -- what is told


def _told(snapshot: Snapshot, moment: Moment) -> tuple[Effect, ...]:
    """The client is to be told the id, or that its cookie lives longer."""
    return (TellClient(cookie_of(snapshot, moment.now)),)


def cookie_of(snapshot: Snapshot, now: int) -> Cookie:
    """The cookie that leads to what is stored so."""
    seconds = (snapshot.record.expires - now) // 1000
    return Cookie(snapshot.sid, min(seconds, OLDEST) if snapshot.permanent else None)


def _destroyed(answer: Ending) -> tuple[Effect, ...]:
    if not answer.ended or answer.record is None:
        return ()
    return (Tell(session_destroyed, answer.record),)
