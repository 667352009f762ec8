"""One session and its record: loaded, saved against other writers, given a new id, ended.

A save succeeds only if the record is still as it was loaded. If it is not, the changes of
both sides are brought together and it is tried again. If the record is gone, it stays so.
"""

from __future__ import annotations

import logging
import random
import time
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from typing import NamedTuple
from typing import TypeVar

from flask import Flask

from .codec import Codec
from .config import Settings
from .errors import SerializationError
from .errors import SessionConflict
from .errors import SessionGone
from .errors import StoreUnavailable
from .identity import handle_of
from .identity import Identity
from .identity import new_id
from .lifetimes import deadline_from
from .lifetimes import touch_is_due
from .lifetimes import used
from .merge import merge
from .merge import mine_wins
from .signals import session_conflict
from .stores import ATTEMPTS
from .stores import Record
from .stores import REMEMBERED
from .stores import Store
from .subject import subject_of

log = logging.getLogger("flask_serverside")

A = TypeVar("A")
R = TypeVar("R")

#: The key under which Flask keeps ``session.permanent``. Alone it makes no session.
PERMANENT = "_permanent"


@dataclass(frozen=True, slots=True)
class Services:
    """What a session works with; the same for all sessions of an application."""

    app: Flask
    settings: Settings
    store: Store
    codec: Codec
    identity: Identity


class Cookie(NamedTuple):
    """What the client is to be told."""

    #: The id; ``None``: the cookie is to be cleared.
    sid: str | None
    #: Seconds; ``None``: until the browser ends.
    max_age: int | None = None


class Known(NamedTuple):
    """What stands in the store, as far as this request knows."""

    sid: str
    record: Record
    #: The session's data in it, encoded.
    base: bytes


class Persistence:
    """The data of a request's session, and what it takes to keep it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.data: dict[str, Any] = {}
        #: What the client is still to be told; ``None``: nothing.
        self.cookie: Cookie | None = None
        #: Whether the client can be told nothing any more: its response is on the way.
        self.late = False
        #: Whether the session that the client has the id of was ended, and not by this
        #: request: another one has set or cleared the cookie, and this one leaves it alone.
        self.dead = False
        self._tombstone: Record | None = None  # what was loaded of it, if it was dead then
        self._dead_subject: str | None = None  # whose it was, if it was alive then
        self._sid: str | None = None
        self._known: Known | None = None
        self._former: Known | None = None  # under the old id, until that is superseded
        self._renewed = False
        self._whole = False  # it was cleared: what others add is not to be kept
        self._was_permanent = False
        self._lifetime: int | None = None  # if it was set in this request
        self._failure: StoreUnavailable | None = None

    # -- what is known about it

    @property
    def record(self) -> Record | None:
        return self._known and self._known.record

    @property
    def moving(self) -> bool:
        """Whether it is stored under an id that it is about to give up."""
        return self._former is not None

    @property
    def sid(self) -> str:
        if self._sid is None:
            self._sid = new_id(self._services.settings.id_length)
        return self._sid

    @property
    def permanent(self) -> bool:
        return bool(self.data.get(PERMANENT, self._services.settings.permanent))

    @property
    def lifetime(self) -> int:
        """In milliseconds."""
        if self._lifetime is not None:
            return self._lifetime
        known = self._former or self._known
        return self._default_lifetime if known is None else known.record.lifetime

    @lifetime.setter
    def lifetime(self, value: int) -> None:
        self._lifetime = value

    @property
    def _default_lifetime(self) -> int:
        return int(self._services.settings.lifetime * 1000)

    @property
    def subject(self) -> str | None:
        return subject_of(self.data, self._services.settings.subject_key)

    @property
    def modified(self) -> bool:
        return self._changed(self.encoded())

    @property
    def pending(self) -> tuple[object, ...]:
        """The same at two moments if nothing was done to the session between them."""
        try:
            encoded = self.encoded()
        except SerializationError:
            encoded = None
        return encoded, self._known, self._former, self._whole, self._lifetime

    def encoded(self) -> bytes:
        """The data as bytes; none at all if there is nothing to be kept."""
        if not self.data or self.data.keys() == {PERMANENT}:
            return b""
        return self._services.codec.encode(self.data)

    def _changed(self, encoded: bytes) -> bool:
        if self._known is None:
            return bool(encoded)
        return (
            encoded != self._known.base
            or self.lifetime != self._known.record.lifetime
            or self._whole  # somebody may have added what is to be taken, too
        )

    # -- loading

    def load(self, sid: str) -> None:
        """Begin with what is stored under this id, if anything is."""
        self._take(sid, self._standing(self._services.store.load, handle_of(sid)))

    def reload(self) -> None:
        """Forget what this request has changed, and look at the store again."""
        known = self._former or self._known
        record = known and self._standing(self._services.store.load, known.record.handle)
        self._forget()
        if known is not None and not self._take(known.sid, record):
            self._gone(known.record)

    def _take(self, sid: str, record: Record | None) -> bool:
        """Be the session in this record, if it can be. A tombstone is remembered."""
        if record is not None and record.ended:
            self.dead, self._tombstone = True, record
        data = self._decoded(record)
        if record is None or data is None:
            return False
        self._sid, self.data = sid, data
        self._known = Known(sid, record, record.payload)
        self._was_permanent = self.permanent
        return True

    def _begin(self, data: dict[str, Any]) -> None:
        """Be a session that is not stored yet."""
        self.data, self._known, self._sid = data, None, None

    def _forget(self) -> None:
        """Be an empty session of which nothing that was asked for is left to do."""
        self._begin({})
        self._former = self._lifetime = None
        self._renewed = self._whole = False

    # -- saving

    def save(self, change: Callable[[], object] | None = None) -> None:
        """Store what has changed, on top of what others have stored meanwhile.

        :param change: done to the data first, and done again whenever others were first. It
            is undone if it cannot be stored.
        """
        if self._former is not None and not self.late:
            self._move()
        if self._known is None:
            self._save_first(change)
            return
        for _ in self._attempts(self._known.record):
            if self._save_once(self._known, change):
                return

    def touch(self) -> None:
        """Extend the session, and nothing else."""
        if self._known is None:
            return
        touched = self._used(self._known.record, at_once=True)
        if self._standing(self._services.store.touch, touched):
            self._known = self._known._replace(record=touched._replace(token=None))
            if self.permanent:
                self._owe_cookie(self._known)

    def _save_first(self, change: Callable[[], object] | None) -> None:
        with self._doing(change):
            encoded = self.encoded()
            if self.late and (encoded or self._former is not None):
                self._warn_undeliverable()
            elif encoded:
                self._create(encoded)
                if self._known is not None:
                    self._owe_cookie(self._known)
            elif self._whole and self._tombstone is not None:
                self._end(self._tombstone)
            self._whole = False

    def _save_once(self, known: Known, change: Callable[[], object] | None) -> bool:
        """Whether nothing is left to be done. If not, what others have saved is merged."""
        with self._doing(change) as undo:
            encoded = self.encoded()
            if encoded and not self._changed(encoded):
                if touch_is_due(known.record, self._now(), self._services.settings):
                    self.touch()
                return True
            mine = self._next(known.record, encoded)
            standing = self._standing(self._services.store.replace, mine)
            theirs = self._decoded(standing)
            if standing is mine:
                self._settle(known, mine, encoded)
            elif standing is None or theirs is None:
                self._too_late(known, standing)
            else:
                undo()
                self._known = self._merged(known, standing, theirs, in_part=change is not None)
                return False
            return True

    @contextmanager
    def _doing(self, change: Callable[[], object] | None) -> Iterator[Callable[[], None]]:
        """Do a change to the session, and undo it if what follows fails."""
        if change is None:
            yield lambda: None
            return
        data, whole, lifetime = self.data, self._whole, self._lifetime
        before = self._services.codec.encode(data)

        def undo() -> None:
            if self.data is data:  # not if others' changes were merged, or it has ended
                self.data = self._as_before(before)
                self._whole, self._lifetime = whole, lifetime

        try:
            change()
            yield undo
        except BaseException:
            undo()
            raise

    def _as_before(self, encoded: bytes) -> dict[str, Any]:
        """The data as it was, with the very objects that have not changed since: a view may
        have hold of them.
        """
        codec = self._services.codec
        return merge(self.data, self.data, codec.decode(encoded), codec.fingerprint)

    def _next(self, record: Record, encoded: bytes) -> Record:
        """The record as it is to be stored: the next version, or a tombstone."""
        if not encoded:
            return record.tombstone(self._now(), self._remembered)
        return self._used(record)._replace(
            payload=encoded, version=record.version + 1, subject=self.subject
        )

    def _settle(self, known: Known, stored: Record, encoded: bytes) -> None:
        self._whole = False
        if stored.ended:
            if self.late:
                self._reaching(self._services.store.delete, stored.handle)
            self.cookie = Cookie(None)
            self._begin(self.data)
            return
        self._known = Known(known.sid, stored._replace(token=None), encoded)
        moved = stored.expires != known.record.expires
        if (self.permanent and moved) or self.permanent != self._was_permanent:
            self._owe_cookie(self._known)
        self._was_permanent = self.permanent

    def _create(self, encoded: bytes) -> None:
        now, subject = self._now(), self.subject
        deadline = deadline_from(now, self._services.settings)
        record = Record(handle_of(self.sid), encoded, 1, now, now, 0, 0, deadline, subject)
        if self._former is not None and self._former.record.subject == subject:
            # A new id alone is not a new session: only signing in begins its time anew.
            old = self._former.record
            record = record._replace(created=old.created, deadline=old.deadline)
        record = self._used(record)
        # Who signs in begins a session of their own, whatever became of the old one. Who was
        # signed in by the old one does not sign in by saying so again.
        signs_in = self._renewed and subject not in (None, self._dead_subject)
        if (self.dead and not signs_in) or record.expires <= now:
            self._gone(self._tombstone or record)
            return
        if not self._reaching(self._services.store.create, record):
            raise SessionConflict(f"There is a session {record.handle} already.")
        self._known = Known(self.sid, record, encoded)
        self._was_permanent = self.permanent
        self.dead = False

    def _owe_cookie(self, known: Known) -> None:
        """The client is to be told the id, or that its cookie lives longer."""
        seconds = (known.record.expires - known.record.seen) // 1000
        self.cookie = Cookie(known.sid, seconds if self.permanent else None)

    # -- a new id, and the end

    def renew(self, keep: bool) -> None:
        """Go on under a new id, from the next save on."""
        self._renewed = True
        self._former = self._known or self._former
        if not keep:
            self.clear()
            self._lifetime = self._default_lifetime
        self._begin(self.data)

    def clear(self) -> None:
        """Empty the session, also of what others are adding to it meanwhile."""
        self.data.clear()
        self._whole = True

    def end(self) -> None:
        """End the session now, under whatever id it goes on, and begin an empty one."""
        held = [known.record for known in (self._former, self._known) if known is not None]
        self._forget()
        if self._tombstone is not None:
            self._end(self._tombstone)
        for record in held:
            if self._end(record):
                self.cookie = Cookie(None)
            else:
                self._die(record)

    def _end(self, record: Record) -> bool:
        return self._reaching(self._services.store.end, record, self._remembered)

    @property
    def _remembered(self) -> float:
        """For how long it is known that the session has ended. If the cookie cannot be cleared
        any more, not at all: it must not keep the client from a new session.
        """
        return 0.0 if self.late else REMEMBERED

    def _move(self) -> None:
        """Store the session under its new id first, then end it under the old one: at each
        moment one of them is valid, and of several requests that do this at once, one.
        """
        former = self._former
        assert former is not None
        try:
            for _ in self._attempts(former.record):
                self._put(self.encoded())
                if self._former is None:
                    return
                tombstone = self._superseding(former.record)
                standing = self._standing(self._services.store.replace, tombstone)
                if standing is tombstone:
                    self._former, self._whole = None, False
                    self.cookie = Cookie(None)
                    if self._known is not None:
                        self._owe_cookie(self._known)
                    return
                theirs = self._decoded(standing)
                if standing is None or theirs is None:
                    self._withdraw()
                    self._too_late(former, standing)
                    return
                former = self._former = self._merged(former, standing, theirs)
        finally:
            if self._former is not None:
                self._withdraw()

    def _put(self, encoded: bytes) -> None:
        """Store the session under its new id, which nobody has been told yet."""
        if not encoded:
            self._withdraw()
        elif self._known is None:
            self._create(encoded)
        elif self._changed(encoded):
            mine = self._next(self._known.record, encoded)
            if self._reaching(self._services.store.replace, mine) is mine:
                self._known = Known(self.sid, mine, encoded)
            else:
                self._gone(mine)  # revoked

    def _superseding(self, old: Record) -> Record:
        """What takes the old record's place, and says where the session goes on."""
        successor = None if self._known is None else self._known.record.handle
        return old.tombstone(self._now(), REMEMBERED, successor)

    def _withdraw(self) -> None:
        if self._known is not None and self._failure is None:
            self._reaching(self._services.store.delete, self._known.record.handle)
            self._begin(self.data)

    # -- what others have done meanwhile

    def _attempts(self, record: Record) -> Iterator[int]:
        """As many as there may be. At first without a pause: who pauses loses to those who
        come anew, who do not, and it has waited longest already.

        :raises SessionConflict: there were as many.
        """
        for attempt in range(ATTEMPTS):
            yield attempt
            if attempt >= ATTEMPTS // 2:
                time.sleep(random.uniform(0, 0.01))
        self._report(record, "refused")
        raise SessionConflict(
            f"Session {record.handle} was saved by others {ATTEMPTS} times in a row while this "
            "request tried to. What this request changed is not stored."
        )

    def _merged(
        self, known: Known, standing: Record, theirs: dict[str, Any], in_part: bool = False
    ) -> Known:
        """Apply my changes to what somebody else has saved. Returns what is known now.

        :param in_part: never overwrite all of theirs, even if that is what is configured.
        """
        codec, resolve = self._services.codec, self._services.settings.resolve
        if resolve is None and in_part:
            resolve = mine_wins
        if resolve is None or self._whole:
            self._report(standing, "overwritten")
            return Known(known.sid, standing, standing.payload)
        try:
            base = codec.decode(known.base)
            self.data = merge(base, self.data, theirs, codec.fingerprint, resolve)
        except SessionConflict:
            self._report(standing, "refused")
            raise
        self._report(standing, "merged")
        return Known(known.sid, standing, standing.payload)

    def _too_late(self, known: Known, standing: Record | None) -> None:
        """The session has ended, or was given another id, since it was loaded."""
        subject, was = self.subject, known.record.subject
        cleared = self._whole and not self.encoded()
        signs_in = self._renewed and subject not in (None, was)
        signs_out = cleared or (was is not None and subject != was)
        # Who signs out does not stay signed in because the session has another id by now.
        ended = signs_out and standing is not None and self._end(standing)
        if signs_in:
            self._begin(self._own_changes(known))
            self._former = None
            self._save_first(None)
        elif cleared:  # which was to be done
            self._forget()
            self._die(known.record)
        else:
            self._gone(known.record)
        if ended and not signs_in:
            self.cookie = Cookie(None)

    def _own_changes(self, known: Known) -> dict[str, Any]:
        """Only what this request has set: nothing of a session that has ended."""
        codec = self._services.codec
        if self._whole:
            return self.data
        return merge(codec.decode(known.base), self.data, {}, codec.fingerprint)

    def _gone(self, record: Record) -> None:
        """Be the session that has ended: it stays so, and what was changed is dropped."""
        self._forget()
        self._die(record)
        self._report(record, "gone")
        if self._services.settings.on_gone == "raise":
            raise SessionGone(
                f"Session {record.handle} has ended while this request was using it. What "
                "this request changed is not stored."
            )
        log.info("Session %s has ended meanwhile: changes are dropped.", record.handle)

    def _die(self, record: Record) -> None:
        if not self.dead:
            self._dead_subject = record.subject
        self.dead, self.cookie = True, None

    def _report(self, record: Record, reason: str) -> None:
        session_conflict.send(
            self._services.app, handle=record.handle, subject=record.subject, reason=reason
        )

    def _warn_undeliverable(self) -> None:
        warnings.warn(
            f"Lost from the session: {', '.join(map(repr, self.data)) or 'its new id'}. It is "
            "new or has a new id, and the client can not be given an id any more, because the "
            "response is being sent already, or there is none. Write to the session, or call "
            "regenerate(), before that.",
            RuntimeWarning,
            stacklevel=2,
        )

    # -- time

    def _used(self, record: Record, at_once: bool = False) -> Record:
        return used(record, self._now(), self.lifetime, self._services.settings, at_once)

    def _now(self) -> int:
        return self._services.store.now()

    # -- the store

    def _standing(self, operation: Callable[[A], R | None], argument: A) -> R | None:
        """What a store's operation says. What cannot be read is as good as not there."""
        try:
            return self._reaching(operation, argument)
        except SerializationError as error:
            _ignore(argument.handle if isinstance(argument, Record) else argument, error)
            return None

    def _decoded(self, record: Record | None) -> dict[str, Any] | None:
        """The data in a record, if it is there, alive and can be read."""
        if record is None or record.ended:
            return None
        try:
            return self._services.codec.decode(record.payload)
        except SerializationError as error:
            _ignore(record.handle, error)
            return None

    def _reaching(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Call the store. Once it could not be reached, this request does not wait again."""
        if self._failure is not None:
            raise self._failure
        try:
            return operation(*arguments)
        except StoreUnavailable as error:
            log.error("Session store unavailable: %s", error)
            self._failure = error
            raise


def _ignore(handle: object, error: SerializationError) -> None:
    log.warning("Session %s is ignored, it begins afresh: %s", handle, error)
