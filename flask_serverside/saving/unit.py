"""One session and its record: a save is decided, done and reacted to, step by step.

A save succeeds only if the record is still as it was loaded. If it is not, the changes of
both sides are brought together and it is tried again. If the record is gone, it stays so.
All I/O of a save is here; what is done is chosen by :mod:`.decide` and :mod:`.react`.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager

from blinker import NamedSignal

from ..errors import SerializationError
from ..errors import SessionConflict
from ..errors import SessionGone
from ..errors import SessionTooLarge
from ..errors import StoreError
from ..errors import StoreUnavailable
from ..errors import TooManySessions
from ..sealing.envelope import Contents
from ..signals import log
from ..signals import session_conflict
from ..signals import session_destroyed
from ..signals import session_revoked
from ..signals import tell
from ..stores import ATTEMPTS
from ..stores import Record
from ..web.identity import new_id
from .chain import next_in
from .client import Client
from .decide import decide
from .decide import touched
from .draft import Draft
from .effects import Answer
from .effects import CLEARED
from .effects import Cookie
from .effects import DONE
from .effects import Drop
from .effects import Effect
from .effects import Ending
from .effects import Evicted
from .effects import Forget
from .effects import KeepMine
from .effects import Missing
from .effects import Refuse
from .effects import Remove
from .effects import Report
from .effects import Restore
from .effects import Settle
from .effects import Stored
from .effects import Tell
from .effects import TellClient
from .effects import TellLost
from .effects import TooMany
from .gateway import Gateway
from .loading import Loading
from .quota import Quota
from .react import cookie_of
from .react import react
from .react import Reaction
from .services import Services
from .state import Absent
from .state import current
from .state import Ended
from .state import Held
from .state import known
from .state import Moving
from .state import renewed
from .state import sid_of
from .state import Snapshot
from .state import State
from .state import stored
from .state import Unknown
from .state import unmoved
from .state import with_sid
from .steps import Bury
from .steps import Create
from .steps import EndLeft
from .steps import EndPresented
from .steps import Evict
from .steps import Fail
from .steps import GoOn
from .steps import Moment
from .steps import Rotate
from .steps import Rule
from .steps import Save
from .steps import Step
from .steps import Touch
from .wanted import asks_for_nothing
from .wanted import authenticated_at
from .wanted import default_lifetime
from .wanted import is_changed
from .wanted import lifetime_of
from .wanted import Wanted

#: What an empty draft asks for.
_NOTHING = Wanted(b"", None, False)


class Unit:
    """The data of a request's session, and what it takes to keep it.

    :param client: whose request it is.
    """

    def __init__(self, services: Services, client: Client) -> None:
        self._services = services
        self._settings = services.settings
        self._client = client
        self._gateway = Gateway(services.app, services.store)
        self._loading = Loading(services, self._gateway, client)
        self.draft = Draft(services.settings, services.codec)
        self.state: State = Absent()
        #: What the client is still to be told; ``None``: nothing.
        self.cookie: Cookie | None = None
        #: Whether the client can be told nothing any more: its response is on the way.
        self.late = False
        self._presented: str | None = None  # see Moment

    # -- what is known about it

    @property
    def record(self) -> Record | None:
        snapshot = current(self.state)
        return snapshot and snapshot.record

    @property
    def stored_handle(self) -> str | None:
        snapshot = stored(self.state)
        return snapshot and snapshot.handle

    @property
    def moving(self) -> bool:
        """Whether it is stored under an id that it is about to give up."""
        return isinstance(known(self.state), Moving)

    @property
    def dead(self) -> bool:
        """Whether the session was ended, and not by this request."""
        return isinstance(known(self.state), Ended)

    @property
    def sid(self) -> str:
        if not sid_of(self.state):
            self.state = with_sid(self.state, new_id(self._settings.id_length))
        return sid_of(self.state)

    @property
    def lifetime(self) -> int:
        """In milliseconds."""
        return lifetime_of(self.state, self.draft, self._settings)

    @property
    def authenticated(self) -> int:
        """When somebody last proved who they are, in milliseconds since the epoch; 0: never."""
        return authenticated_at(self.state, self.draft, self._gateway.now(), self._settings)

    def is_fresh(self, within: int) -> bool:
        """Whether that was not longer ago than this, in milliseconds."""
        proved = self.authenticated
        # By its amount: the machine that says when may have a clock that is ahead.
        return proved > 0 and abs(self._gateway.now() - proved) <= within

    @property
    def modified(self) -> bool:
        return is_changed(self.state, self.draft.frozen(), self._settings)

    @property
    def pending(self) -> tuple[object, ...]:
        """The same at two moments if nothing was done to the session between them."""
        try:
            encoded = self.draft.encoded()
        except SerializationError:
            encoded = None
        at = (stored(self.state), current(self.state))
        return encoded, at, self.draft.kept, self.draft.lifetime

    # -- loading

    def reject(self, reason: str) -> None:
        """Begin with nothing: what the client has presented is no id."""
        self._gateway.reject(reason, None)

    def load(self, sid: str) -> None:
        """Begin with what is stored under this id, if anything is."""
        self.state, self.draft.data, self._presented = self._loading.load(sid)
        if isinstance(self.state, Held) and self.state.snapshot.sid != sid:
            self.renew_cookie()

    def renew_cookie(self) -> None:
        """Send the client its id once more, signed anew."""
        if isinstance(self.state, Held):
            self.cookie = cookie_of(self.state.snapshot, self._gateway.now())

    def reload(self) -> None:
        """Forget what this request has changed, and look at the store again."""
        snapshot, gateway = stored(self.state), self._gateway
        record = snapshot and gateway.standing(gateway.store.load, snapshot.handle)
        self.draft.reset()
        if snapshot is None:
            self.state = _forgotten(self.state)
            return
        found = self._loading.opened(snapshot.sid, record)
        if found is None:
            self.state = Ended(snapshot.record, snapshot.record.subject)
            self._do_effects((TellClient(None), Report(snapshot.record)))
            return
        self.state, self.draft.data = Held(found.snapshot), found.data
        if found.snapshot.sid != snapshot.sid:
            self.renew_cookie()

    # -- saving

    def finish(self) -> None:
        """Save at the end of a request."""
        held = self.state
        try:
            self._save(finishing=True)
        except (SessionTooLarge, StoreError) as error:
            if isinstance(error, StoreUnavailable) or not isinstance(held, Held):
                raise
            if not asks_for_nothing(held, self.draft.frozen(), held.snapshot):
                raise
            log.warning("A session that was only read is left as it is: %s", error)

    def save(self, change: Callable[[], object] | None = None) -> None:
        """Store what has changed, on top of what others have stored meanwhile.

        :param change: done to the data first, and done again whenever others were first. It
            is undone if it cannot be stored.
        """
        self._save(change)

    def touch(self) -> None:
        """Extend the session, and nothing else."""
        snapshot = current(self.state)
        if snapshot is not None:
            step = Touch(Rule.TOUCH, touched(snapshot.record, self._gateway.now()))
            with self._sure():
                self._follow(step, _NOTHING, Moment(self._gateway.now()))

    # -- a new id, and the end

    def renew(self, keep: bool | Iterable[str] = True) -> None:
        """Go on under a new id, from the next save on.

        :param keep: what comes along: all, nothing, or these keys.
        """
        self.state = renewed(self.state)
        if keep is not True:
            self.draft.keep(keep or ())
            self.draft.lifetime = default_lifetime(self._settings)

    def prove(self) -> None:
        """Somebody has proved who they are: begin the session's time anew, under a new id."""
        self.renew()
        self.draft.proved = self._gateway.now()

    def end(self) -> None:
        """End the session now, under whatever id it goes on, and begin an empty one."""
        before, moment = known(self.state), self._moment()
        self.state = _forgotten(before)
        self.draft.reset()
        with self._sure():
            if moment.presented is not None:
                self._follow(EndPresented(Rule.PRESENTED, moment.presented), _NOTHING, moment)
            if isinstance(before, Ended):
                self._follow(
                    EndLeft(Rule.SIGN_OUT_OF_ENDED, before.tombstone), _NOTHING, moment
                )
            for snapshot in dict.fromkeys((stored(before), current(before))):
                if snapshot is not None:
                    self._end_held(snapshot.record)

    def _end_held(self, record: Record) -> None:
        if self._end(record):
            self.cookie = CLEARED
            self._tell(session_destroyed, record)
        else:
            self.state, self.cookie = Ended(record, record.subject), None

    # -- one step after the other

    def _save(
        self, change: Callable[[], object] | None = None, finishing: bool = False
    ) -> None:
        with self._sure():
            for _ in self._attempts():
                with self.draft.doing(change) as undo:
                    reaction = self._tried(finishing)
                    if reaction.undo or reaction.merge is not None:
                        undo()
                    if reaction.merge is None:
                        return
                    self._merge(reaction, in_part=change is not None)

    def _tried(self, finishing: bool) -> Reaction:
        """Do what is to be done, until nothing is left or others were first."""
        wanted = self.draft.frozen()
        while True:
            if wanted.encoded and not sid_of(self.state):
                self.state = with_sid(self.state, new_id(self._settings.id_length))
            moment = self._moment(finishing)
            step = decide(self.state, wanted, moment, self._settings)
            if isinstance(step, Rotate):
                step = GoOn(step.rule, next_in(step.snapshot, self._settings))
            reaction = self._follow(step, wanted, moment)
            if reaction.merge is not None or not reaction.again:
                return reaction
            if any(isinstance(effect, KeepMine) for effect in reaction.effects):
                wanted = self.draft.frozen()

    def _follow(self, step: Step, wanted: Wanted, moment: Moment) -> Reaction:
        """Do a step, and those that follow from its answer."""
        while True:
            answer = self._do(step)
            state = known(self.state)
            reaction = react(state, wanted, step, answer, moment, self._settings)
            if reaction.merge is None:
                self.state = reaction.state
            self._do_effects(reaction.effects)
            if reaction.then is None:
                return reaction
            step = reaction.then

    def _merge(self, others: Reaction, in_part: bool) -> None:
        """Apply my changes to what somebody else has saved.

        :param in_part: never overwrite all of theirs, even if that is what is configured.
        """
        before, found = stored(self.state), others.merge
        assert before is not None
        assert found is not None
        try:
            merged = self.draft.apply_to(found.data, before.contents.data, in_part)
        except SessionConflict:
            self._report(found.snapshot.record, "refused")
            raise
        self._report(found.snapshot.record, "merged" if merged else "overwritten")
        self.state = others.state

    def _attempts(self) -> Iterator[int]:
        """As many as there may be. At first without a pause: who pauses loses to those who
        come anew, who do not, and it has waited longest already.

        :raises SessionConflict: there were as many.
        """
        for attempt in range(ATTEMPTS):
            yield attempt
            if attempt >= ATTEMPTS // 2:
                time.sleep(random.uniform(0, 0.01))
        snapshot = stored(self.state)
        assert snapshot is not None
        self._report(snapshot.record, "refused")
        raise SessionConflict(
            f"Session {snapshot.handle} was saved by others {ATTEMPTS} times in a row while "
            "this request tried to. What this request changed is not stored."
        )

    @contextmanager
    def _sure(self) -> Iterator[None]:
        """Whatever fails, what is known afterwards is so."""
        try:
            yield
        except StoreUnavailable:
            self.state = Unknown(unmoved(known(self.state)))
            raise
        except BaseException:
            state = known(self.state)
            if isinstance(state, Moving) and state.placed is not None:
                self._gateway.call(self._gateway.store.delete, state.placed.handle)
            self.state = unmoved(state)
            raise

    def _moment(self, finishing: bool = False) -> Moment:
        now, device = self._gateway.now(), self._client.device
        return Moment(now, self.late, finishing, device, self._presented)

    # -- what a step does to the store

    def _do(self, step: Step) -> Answer:
        match step:
            case Save():
                mine = self._sealed(step.sid, step.record, step.contents)
                return self._replaced(step.sid, mine.record, mine)
            case Bury():
                return self._replaced(step.sid, step.tombstone, None)
            case Touch():
                return self._touched(step.record)
            case Create():
                return self._created(step)
            case EndPresented():
                return self._ended_presented(step.handle)
            case EndLeft():
                return Ending(self._end(step.tombstone), step.tombstone)
            case Evict():
                return self._evicted(step)
            case Fail():
                assert self._gateway.failure is not None
                raise self._gateway.failure
        return DONE

    def _replaced(self, sid: str, record: Record, mine: Snapshot | None) -> Answer:
        standing = self._gateway.standing(self._gateway.store.replace, record)
        if standing is record:
            # The backend's mark is that of the version before.
            return Stored(mine and mine._replace(record=record._replace(token=None)))
        return self._loading.opened(sid, standing) or Missing(standing)

    def _touched(self, record: Record) -> Answer:
        snapshot = current(self.state)
        if not self._gateway.standing(self._gateway.store.touch, record):
            return DONE
        return Stored(snapshot and snapshot._replace(record=record._replace(token=None)))

    def _created(self, step: Create) -> Answer:
        gateway, record = self._gateway, step.record
        quota = Quota(gateway, self._settings, step.replaced) if step.counted else None
        if quota is not None:
            record = quota.as_newest(record)
        new = self._sealed(step.sid, record, step.contents)
        if not gateway.call(gateway.store.create, new.record):
            raise SessionConflict(f"There is a session {record.handle} already.")
        if quota is not None and self._settings.overflow == "refuse":
            surplus = {one.handle for one in quota.surplus(new.record)}
            if new.handle in surplus:
                return TooMany(new)
        return Stored(new)

    def _evicted(self, step: Evict) -> Answer:
        """Others may have signed in at the same time, so that this one is among them."""
        new = step.snapshot.record
        surplus = Quota(self._gateway, self._settings, step.replaced).surplus(new)
        for record in surplus:
            if self._gateway.call(self._gateway.store.end, record, 0.0):
                self._tell(session_revoked, record, reason="overflow")
        return Evicted(new.handle in {record.handle for record in surplus})

    def _ended_presented(self, handle: str) -> Answer:
        """For all, though this request cannot use it."""
        try:
            record = self._gateway.call(self._gateway.store.find, handle)
        except SerializationError:  # what cannot be read is ended by removing it
            return Ending(self._gateway.call(self._gateway.store.delete, handle))
        return Ending(record is not None and self._end(record), record)

    def _end(self, record: Record) -> bool:
        ended: bool = self._gateway.call(
            self._gateway.store.end, record, self._moment().remembered
        )
        return ended

    def _sealed(self, sid: str, record: Record, contents: Contents) -> Snapshot:
        """The record with these contents, as this client's."""
        contents = contents._replace(
            client=self._client.mark(sid), device=self._client.device, outdated=False
        )
        sealed = self._services.envelope.close(sid, record, contents)
        return Snapshot(sid, sealed, contents, record.subject, self.draft.permanent)

    # -- what else comes of it

    def _do_effects(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case TellClient(cookie):
                    self.cookie = cookie
                case Tell(signal, record, more):
                    self._tell(signal, record, **more)
                case Settle():
                    self.draft.is_stored()
                case Drop():
                    self.draft.reset()
                case Restore(snapshot):
                    self.draft.be(snapshot.contents.data)
                case KeepMine(snapshot):
                    self.draft.forget_others(snapshot.contents.data)
                case Remove(handle):
                    self._gateway.call(self._gateway.store.delete, handle)
                case Forget():
                    self._presented = None
                case TellLost(new_id):
                    self._warn(new_id)
                case Report(record):
                    self._report_gone(record)
                case Refuse():
                    raise TooManySessions(self._settings.max_per_subject)

    def _report_gone(self, record: Record) -> None:
        self._report(record, "gone")
        if self._settings.on_gone == "raise":
            raise SessionGone(
                f"Session {record.handle} has ended while this request was using it. What "
                "this request changed is not stored."
            )
        log.info("Session %s has ended meanwhile: changes are dropped.", record.handle)

    def _report(self, record: Record, reason: str) -> None:
        self._tell(session_conflict, record, reason=reason)

    def _tell(self, signal: NamedSignal, record: Record, **more: str) -> None:
        tell(signal, self._services.app, record.handle, record.subject, **more)

    def _warn(self, new_id: bool) -> None:
        lost = "its new id" if new_id else ", ".join(map(repr, self.draft.data))
        warnings.warn(
            f"Lost from the session: {lost}. It is "
            "new or has a new id, and the client can not be given an id any more, because the "
            "response is being sent already, or there is none. Write to the session, or call "
            "regenerate(), before that.",
            RuntimeWarning,
            stacklevel=2,
        )


def _forgotten(state: State) -> State:
    """Nothing is stored that is this request's: it has ended, or will not have been."""
    state = known(state)
    return Ended(state.tombstone, state.subject) if isinstance(state, Ended) else Absent()
