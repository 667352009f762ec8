"""The next step of a save, decided by what is known and what is wanted. Pure.

No I/O, no clock, no mutation: :mod:`.unit` does the step, and :mod:`.react` says what its
answer means. Each branch follows a :class:`.Rule`; docs/internals.md lists them.
"""

from __future__ import annotations

from ..config import Settings
from ..sealing.envelope import Contents
from ..sealing.envelope import device_in
from ..sealing.envelope import UNKNOWN
from ..stores import Record
from ..stores import REMEMBERED
from ..web.identity import handle_of
from .state import Absent
from .state import Ended
from .state import Held
from .state import Known
from .state import Move
from .state import Moving
from .state import Snapshot
from .state import State
from .state import Unknown
from .steps import Bury
from .steps import Create
from .steps import EndLeft
from .steps import EndPresented
from .steps import Fail
from .steps import Gone
from .steps import GoOn
from .steps import Moment
from .steps import Nothing
from .steps import Rotate
from .steps import Rule
from .steps import Save
from .steps import Step
from .steps import Touch
from .steps import Warn
from .steps import Withdraw
from .times import deadline_from
from .times import end_after_use
from .times import end_of
from .times import rotation_is_due
from .times import touch_is_due
from .wanted import asks_for_nothing
from .wanted import authenticated_at
from .wanted import is_another
from .wanted import is_as_stored
from .wanted import is_changed
from .wanted import lifetime_of
from .wanted import Wanted


def decide(state: State, wanted: Wanted, moment: Moment, settings: Settings) -> Step:
    """The next step towards what is wanted."""
    if isinstance(state, Unknown):
        return _of_unknown(state.before, wanted, moment)
    if isinstance(state, Held):
        return _of_held(state, wanted, moment, settings)
    if isinstance(state, Moving):
        return _of_moving(state, wanted, moment, settings)
    return _of_nothing(state, wanted, moment, settings)


def _of_unknown(before: Known, wanted: Wanted, moment: Moment) -> Step:
    left = moment.presented is not None
    if isinstance(before, Absent):
        left = left or bool(wanted.encoded)
    elif isinstance(before, Held):
        # What an atomic function did was undone. A session that was to end is still there.
        left = left or not asks_for_nothing(before, wanted, before.snapshot)
    else:
        left = True
    # To go on would be to answer a sign-out that was perhaps not done as if it was.
    return Fail(Rule.NO_ANSWER) if left else Nothing(Rule.CAUGHT)


def _of_held(state: Held, wanted: Wanted, moment: Moment, settings: Settings) -> Step:
    snapshot, now = state.snapshot, moment.now
    rotates = rotation_is_due(snapshot.contents.issued, now, settings)
    due = touch_is_due(snapshot.record, now, settings)
    another = is_another(wanted, snapshot)
    if moment.finishing:
        # As at the end of most requests.
        if not (rotates or due) and is_as_stored(state, wanted):
            return Nothing(Rule.UNCHANGED)
        # An id that cannot be told would lock the client out.
        if rotates and not moment.late and not another and wanted.encoded:
            return Rotate(Rule.ROTATION, snapshot)
    if wanted.encoded and another and settings.regenerate_on_subject_change:
        if not moment.late:
            # An id that was planted or seen before is worth nothing after a sign-in.
            return GoOn(Rule.SUBJECT, Moving(snapshot, Move("subject")))
        # Who signs out where the client can be told no new id signs out all the same.
        if wanted.subject is not None:
            return Warn(Rule.LATE_SUBJECT)
    if wanted.encoded and not is_changed(state, wanted, settings):
        if not due:
            return Nothing(Rule.UNCHANGED)
        # From another device all of it is stored, for the list of devices.
        if moment.device in (UNKNOWN, device_in(snapshot.record.payload)):
            return touch(snapshot, now)
    if not wanted.encoded:
        return Bury(
            Rule.EMPTIED, snapshot.sid, snapshot.record.tombstone(now, moment.remembered)
        )
    return _next(Rule.SAVE, state, snapshot, wanted, moment, settings)


def _of_moving(state: Moving, wanted: Wanted, moment: Moment, settings: Settings) -> Step:
    former, placed = state.former, state.placed
    if moment.late:
        signs_out = former.subject is not None and wanted.subject is None
        if signs_out or wanted.emptied:
            return GoOn(Rule.LATE_SIGN_OUT, Held(former))
        if moment.presented is not None:
            return EndPresented(Rule.PRESENTED, moment.presented, moment.remembered)
        return Warn(Rule.LATE_NEW_ID)
    # The new id is stored first, then the old one superseded: at each moment one of them is
    # valid, and of several requests that do this at once, one.
    if not wanted.encoded and placed is not None:
        return Withdraw(Rule.WITHDRAW, placed)
    if wanted.encoded and placed is None:
        return _first(Rule.PLACE, state, wanted, moment, settings)
    if placed is not None and not _is_placed(placed, state, wanted, settings):
        return _next(Rule.PLACE_AGAIN, state, placed, wanted, moment, settings)
    return Bury(Rule.SUPERSEDE, former.sid, _superseding(state, moment.now, settings))


def _is_placed(placed: Snapshot, state: Moving, wanted: Wanted, settings: Settings) -> bool:
    """Whether all that is wanted stands under the new id."""
    lifetime = lifetime_of(state, wanted, settings)
    return placed.contents.data == wanted.encoded and placed.record.lifetime == lifetime


def _of_nothing(
    state: Absent | Ended, wanted: Wanted, moment: Moment, settings: Settings
) -> Step:
    if moment.presented is not None and (wanted.gives_up or state.asked):
        # A sign-out must count on a machine whose clock is ahead, or that lacks a key.
        return EndPresented(Rule.PRESENTED, moment.presented, moment.remembered)
    if wanted.encoded:
        if moment.late:
            return Warn(Rule.LATE_NEW_ID)
        if isinstance(state, Ended) and not _signs_in(state, wanted, settings):
            if wanted.signed_out:
                return EndLeft(Rule.SIGN_OUT_OF_ENDED, state.tombstone, moment.remembered)
            return Gone(Rule.ENDED, state.tombstone)
        return _first(Rule.CREATE, state, wanted, moment, settings)
    if wanted.emptied and isinstance(state, Ended):
        return EndLeft(Rule.SIGN_OUT_OF_ENDED, state.tombstone, moment.remembered)
    return Nothing(Rule.NOTHING_YET)


def _signs_in(state: Ended, wanted: Wanted, settings: Settings) -> bool:
    """Whether somebody begins a session of their own, whatever became of the one that this
    request has the id of. Who was signed in by that does not sign in by saying so again.
    """
    if wanted.subject in (None, state.subject):
        return False
    return state.asked or (
        settings.regenerate_on_subject_change
        and state.subject is None
        and state.tombstone.subject != wanted.subject
    )


# -- what is to be stored


def touch(snapshot: Snapshot, now: int) -> Touch:
    """As if it was used now, and nothing else."""
    record = snapshot.record
    expires = end_of(record, now, record.lifetime)
    return Touch(Rule.TOUCH, snapshot, record._replace(seen=now, expires=expires))


def _next(
    rule: Rule,
    state: Held | Moving,
    snapshot: Snapshot,
    wanted: Wanted,
    moment: Moment,
    settings: Settings,
) -> Save:
    """The version after the one that stands there."""
    now, lifetime = moment.now, lifetime_of(state, wanted, settings)
    record = snapshot.record._replace(
        version=snapshot.record.version + 1,
        seen=now,
        expires=end_after_use(snapshot.record, now, lifetime, settings),
        lifetime=lifetime,
        subject=wanted.subject,
    )
    contents = snapshot.contents._replace(
        data=wanted.encoded, authenticated=authenticated_at(state, wanted, now, settings)
    )
    return Save(rule, _unsealed(snapshot.sid, record, contents, wanted))


def _first(
    rule: Rule,
    state: Absent | Ended | Moving,
    wanted: Wanted,
    moment: Moment,
    settings: Settings,
) -> Step:
    """The first version under this id."""
    now, lifetime = moment.now, lifetime_of(state, wanted, settings)
    former = state.former if isinstance(state, Moving) else None
    goes_on = former is not None and not is_another(wanted, former)
    deadline = deadline_from(now, settings)
    record = Record(
        handle_of(state.sid), b"", 1, now, now, 0, lifetime, deadline, wanted.subject
    )
    if former is not None and goes_on and wanted.proved is None:
        # A new id alone is not a new session: only signing in begins its time anew.
        begun = former.record
        record = record._replace(created=begun.created, deadline=begun.deadline)
    record = record._replace(expires=end_of(record, now, lifetime))
    quiet = not settings.touch_on_read
    if former is not None and quiet and asks_for_nothing(state, wanted, former):
        record = record._replace(expires=former.record.expires)
    if not record.alive(now):
        return Gone(Rule.TOO_OLD, state.tombstone if isinstance(state, Ended) else record)
    contents = Contents(
        wanted.encoded,
        issued=now,
        authenticated=authenticated_at(state, wanted, now, settings),
        former=bytes.fromhex(former.handle) if former else b"",
    )
    most, signed_in = settings.max_per_subject, wanted.subject is not None
    counted = most is not None and signed_in and not goes_on
    new = _unsealed(state.sid, record, contents, wanted)
    return Create(rule, new, counted, former and former.handle)


def _unsealed(sid: str, record: Record, contents: Contents, wanted: Wanted) -> Snapshot:
    return Snapshot(sid, record, contents, wanted.subject, wanted.permanent)


def _superseding(state: Moving, now: int, settings: Settings) -> Record:
    """What takes the old record's place, and says where the session goes on: as long as the
    old id would have lived, so that a copy of it is noticed and a late sign-out counts,
    unless somebody else is signed in there, over whom the old id has no power.
    """
    old = state.former.record._replace(subject=state.former.subject)
    new = state.placed and state.placed.record
    if new is None or new.subject != old.subject:
        return old.tombstone(now, REMEMBERED, new.handle if new else "")
    left = (old.expires - now) / 1000
    remembered = max(left, REMEMBERED, settings.rotation_grace)
    return old.tombstone(now, remembered, new.handle, state.move.rotation)
