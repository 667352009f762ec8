"""One session and its record: a save is decided, done and reacted to, step by step.

A save succeeds only if the record is still as it was loaded. If it is not, the changes of
both sides are brought together and it is tried again. If the record is gone, it stays so.
All I/O of a save is here; what is done is chosen by :mod:`.decide` and :mod:`.react`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import SerializationError
from ..errors import SessionConflict
from ..errors import SessionTooLarge
from ..errors import StoreError
from ..errors import StoreUnavailable
from ..errors import TooManySessions
from ..signals import log
from ..signals import session_destroyed
from ..stores import ATTEMPTS
from ..web.identity import new_id
from . import effects
from . import steps
from .chain import next_in
from .client import Client
from .decide import decide
from .decide import touch
from .draft import Draft
from .gateway import Gateway
from .loading import Loading
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
from .state import State
from .state import stored
from .state import Unknown
from .state import unmoved
from .state import with_sid
from .storing import Storing
from .telling import Telling
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
        self._storing = Storing(services, self._gateway, self._loading, client)
        self._telling = Telling(services)
        self.draft = Draft(services.settings, services.codec)
        self.state: State = Absent()
        #: What the client is still to be told; ``None``: nothing.
        self.cookie: effects.Cookie | None = None
        #: Whether the client can be told nothing any more: its response is on the way.
        self.late = False
        self._presented: str | None = None  # see Moment

    # -- what is known about it

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
    def now(self) -> int:
        """The store's clock, in milliseconds since the epoch."""
        return self._gateway.now()

    @property
    def authenticated(self) -> int:
        """When somebody last proved who they are, in milliseconds since the epoch; 0: never."""
        return authenticated_at(self.state, self.draft, self._gateway.now(), self._settings)

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
            self._do_effects((effects.TellClient(None), effects.Report(snapshot.record)))
            return
        self.state, self.draft.data = Held(found.snapshot), found.data
        if found.snapshot.sid != snapshot.sid:
            self.renew_cookie()

    # -- saving

    def finish(self) -> None:
        """Save at the end of a request."""
        held = self.state
        try:
            self.save(finishing=True)
        except (SessionTooLarge, StoreError) as error:
            if isinstance(error, StoreUnavailable) or not isinstance(held, Held):
                raise
            if not asks_for_nothing(held, self.draft.frozen(), held.snapshot):
                raise
            log.warning("A session that was only read is left as it is: %s", error)

    def save(self, change: Callable[[], object] | None = None, finishing: bool = False) -> None:
        """Store what has changed, on top of what others have stored meanwhile.

        :param change: done to the data first, and done again whenever others were first. It
            is undone if it cannot be stored.
        :param finishing: whether the request is over.
        """
        with self._sure():
            for _ in self._attempts():
                with self.draft.doing(change) as undo:
                    reaction = self._tried(finishing)
                    if reaction.undo or reaction.merge is not None:
                        undo()
                    if reaction.merge is None:
                        return
                    self._merge(reaction, in_part=change is not None)

    def touch(self) -> None:
        """Extend the session, and nothing else."""
        snapshot = current(self.state)
        if snapshot is not None:
            moment = self._moment()
            with self._sure():
                self._follow(touch(snapshot, moment.now), _NOTHING, moment)

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
        self.draft.reset()
        with self._sure():  # if this fails, what was to end is still there
            if moment.presented is not None:
                presented = (steps.Rule.PRESENTED, moment.presented, moment.remembered)
                self._follow(steps.EndPresented(*presented), _NOTHING, moment)
            if isinstance(before, Ended):
                left = (steps.Rule.SIGN_OUT_OF_ENDED, before.tombstone, moment.remembered)
                self._follow(steps.EndLeft(*left), _NOTHING, moment)
            held = [s.record for s in dict.fromkeys((stored(before), current(before))) if s]
            ended = [(record, self._storing.end(record, moment.remembered)) for record in held]
        self.state = _forgotten(before)
        for record, was_there in ended:
            if was_there:
                self.cookie = effects.CLEARED
                self._telling.tell(session_destroyed, record)
            else:
                self.state, self.cookie = Ended(record, record.subject), None

    # -- one step after the other

    def _tried(self, finishing: bool) -> Reaction:
        """Do what is to be done, until nothing is left or others were first."""
        wanted = self.draft.frozen()
        while True:
            if wanted.encoded and not sid_of(self.state):
                self.state = with_sid(self.state, new_id(self._settings.id_length))
            moment = self._moment(finishing)
            step = decide(self.state, wanted, moment, self._settings)
            if step.rule is steps.Rule.UNCHANGED:  # as at the end of most requests
                return Reaction(known(self.state))
            if isinstance(step, steps.Rotate):
                step = steps.GoOn(step.rule, next_in(step.snapshot, self._settings))
            reaction = self._follow(step, wanted, moment)
            if reaction.merge is not None or not reaction.again:
                return reaction
            if any(isinstance(effect, effects.KeepMine) for effect in reaction.effects):
                wanted = self.draft.frozen()

    def _follow(self, step: steps.Step, wanted: Wanted, moment: steps.Moment) -> Reaction:
        """Do a step, and those that follow from its answer."""
        while True:
            answer = self._storing.do(step)
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
            self._telling.conflict(found.snapshot.record, "refused")
            raise
        self._telling.conflict(found.snapshot.record, "merged" if merged else "overwritten")
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
        self._telling.conflict(snapshot.record, "refused")
        raise SessionConflict(
            f"Session {snapshot.handle} was saved by others {ATTEMPTS} times in a row while "
            "this request tried to. What this request changed is not stored."
        )

    @contextmanager
    def _sure(self) -> Iterator[None]:
        """Whatever fails: what is known from then on is so."""
        try:
            yield
        except BaseException:
            left = known(self.state)
            self.state = Unknown(unmoved(left))
            if self._gateway.failure is None:
                if isinstance(left, Moving) and left.placed is not None:
                    self._gateway.call(self._gateway.store.delete, left.placed.handle)
                self.state = unmoved(left)
            raise

    def _moment(self, finishing: bool = False) -> steps.Moment:
        now, device = self._gateway.now(), self._client.device
        return steps.Moment(now, self.late, finishing, device, self._presented)

    # -- what else comes of it

    def _do_effects(self, wanted: Iterable[effects.Effect]) -> None:
        for effect in wanted:
            match effect:
                case effects.TellClient(cookie):
                    self.cookie = cookie
                case effects.Tell(signal, record, more):
                    self._telling.tell(signal, record, **more)
                case effects.Settle():
                    self.draft.is_stored()
                case effects.Drop():
                    self.draft.reset()
                case effects.Restore(snapshot):
                    self.draft.be(snapshot.contents.data)
                case effects.KeepMine(snapshot):
                    self.draft.forget_others(snapshot.contents.data)
                case effects.Remove(handle):
                    self._gateway.call(self._gateway.store.delete, handle)
                case effects.Forget():
                    self._presented = None
                case effects.Remember(handle):
                    self._presented = handle
                case effects.TellLost(new_id):
                    self._telling.warn_of_loss(None if new_id else self.draft.data)
                case effects.Report(record):
                    self._telling.gone(record)
                case effects.Refuse():
                    raise TooManySessions(self._settings.max_per_subject)


def _forgotten(state: State) -> State:
    """Nothing is stored that is this request's: it has ended, or will not have been."""
    state = known(state)
    return Ended(state.tombstone, state.subject) if isinstance(state, Ended) else Absent()
