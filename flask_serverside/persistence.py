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
from typing import Literal
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
        #: What the response has to do about the cookie.
        self.cookie: Literal["send", "clear"] | None = None
        #: Whether the client can be told no more: the headers of the response are out.
        self.late = False
        #: Whether the session under the client's id has ended, and not by this request. Then
        #: this request leaves the cookie alone: another one has set or cleared it.
        self.ended = False
        self._sid: str | None = None
        self._known: Known | None = None
        self._former: Known | None = None  # under the old id, until it is superseded
        self._tombstone: Record | None = None
        self._renewed = False
        self._whole = False
        self._was_permanent = False
        self._lifetime: float | None = None
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
    def lifetime(self) -> float:
        """In seconds."""
        if self._lifetime is not None:
            return self._lifetime
        if self._known is not None:
            return self._known.record.lifetime / 1000
        return self._services.settings.lifetime

    @lifetime.setter
    def lifetime(self, value: float) -> None:
        self._lifetime = value

    @property
    def subject(self) -> str | None:
        return subject_of(self.data, self._services.settings.subject_key)

    @property
    def modified(self) -> bool:
        return self._changed(self.encoded())

    def encoded(self) -> bytes:
        """The data as bytes; none at all if there is nothing to be kept."""
        if not self.data or self.data.keys() == {PERMANENT}:
            return b""
        return self._services.codec.encode(self.data)

    # -- loading

    def load(self, sid: str) -> None:
        """Begin with what is stored under this id, if anything is."""
        self._take(sid, self._standing(self._services.store.load, handle_of(sid)))

    def _take(self, sid: str, record: Record | None) -> bool:
        """Be the session in this record, if it can be. A tombstone is remembered."""
        if record is not None and record.ended:
            self.ended, self._tombstone = True, record
        data = self._decoded(record)
        if record is None or data is None:
            return False
        self._sid, self.data = sid, data
        self._known = Known(sid, record, record.payload)
        self._was_permanent = self.permanent
        return True

    def _forget(self) -> None:
        """Be a session that is not stored, and nothing that was asked for is left to do."""
        self._begin({})
        self._former = self._lifetime = None
        self._renewed = self._whole = False

    def reload(self) -> None:
        """Forget what this request has changed, and look at the store again."""
        known = self._former or self._known
        record = known and self._standing(self._services.store.load, known.record.handle)
        self._forget()
        if known is not None and not self._take(known.sid, record):
            self._gone(known.record, dropped=True)

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

    def _save_first(self, change: Callable[[], object] | None) -> None:
        with self._doing(change):
            encoded = self.encoded()
            if self.late and (encoded or self._former is not None):
                self._warn_undeliverable()
            elif encoded and self._create(encoded):
                self.cookie = "send"
            elif self._whole and self._tombstone is not None:
                self._end(self._tombstone)

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
                self._known = self._merged(known, standing, theirs)
                return False
            return True

    @contextmanager
    def _doing(self, change: Callable[[], object] | None) -> Iterator[Callable[[], None]]:
        """Do a change to the data, and undo it if what follows fails."""
        before = b"" if change is None else self._services.codec.encode(self.data)

        def undo() -> None:
            if change is not None and not self.ended:
                self.data = self._services.codec.decode(before)

        try:
            if change is not None:
                change()
            yield undo
        except BaseException:
            undo()
            raise

    def touch(self) -> None:
        """Extend the session, and nothing else."""
        if self._known is None:
            return
        touched = self._used(self._known.record, at_once=True)
        if self._standing(self._services.store.touch, touched):
            self._known = self._known._replace(record=touched._replace(token=None))
            if self.permanent:
                self.cookie = "send"

    # -- a new id, and the end

    def renew(self, keep: bool) -> None:
        """Go on under a new id, from the next save on."""
        self._renewed = True
        self._former = self._known or self._former
        self._lifetime = self.lifetime if keep else None
        if not keep:
            self.clear()
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
                self.cookie = "clear"
            else:
                self.ended = True

    def _begin(self, data: dict[str, Any]) -> None:
        """Be a session that is not stored yet."""
        self.data, self._known, self._sid = data, None, None

    def _end(self, record: Record) -> bool:
        return self._reaching(self._services.store.end, record, self._remembered)

    @property
    def _remembered(self) -> float:
        """For how long it is known that the session has ended. If the cookie cannot be cleared
        any more, not at all: it must not keep the client from a new session.
        """
        return 0.0 if self.late else REMEMBERED

    def _create(self, encoded: bytes) -> bool:
        now, subject = self._now(), self.subject
        deadline = deadline_from(now, self._services.settings)
        record = Record(handle_of(self.sid), encoded, 1, now, now, 0, 0, deadline, subject)
        if self._former is not None and self._former.record.subject == subject:
            # A new id alone is not a new session: only signing in begins its time anew.
            old = self._former.record
            record = record._replace(created=old.created, deadline=old.deadline)
        record = self._used(record)
        # Who signs in begins a session of their own, whatever became of the old one.
        begins = not self.ended or (self._renewed and subject is not None)
        if not begins or record.expires <= now:
            self._gone(self._tombstone or record, dropped=True)
            return False
        if not self._reaching(self._services.store.create, record):
            raise SessionConflict(f"There is a session {record.handle} already.")
        self._known = Known(self.sid, record, encoded)
        return True

    def _move(self) -> None:
        """Store the session under its new id first, then end it under the old one: at each
        moment one of them is valid, and of several requests that do this at once, one.
        """
        former = self._former
        assert former is not None
        try:
            for _ in self._attempts(former.record):
                if not self._put(self.encoded()):
                    return
                tombstone = self._superseding(former.record)
                standing = self._standing(self._services.store.replace, tombstone)
                if standing is tombstone:
                    self.cookie = "clear" if self._known is None else "send"
                    self._former = None
                    self._whole = False
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

    def _put(self, encoded: bytes) -> bool:
        """Store the session under its new id, which nobody has been told yet."""
        if not encoded:
            self._withdraw()
        elif self._known is None:
            return self._create(encoded)
        elif encoded != self._known.base:
            mine = self._next(self._known.record, encoded)
            if self._reaching(self._services.store.replace, mine) is not mine:
                self._gone(mine, dropped=True)  # revoked
                return False
            self._known = Known(self.sid, mine, encoded)
        return True

    def _superseding(self, old: Record) -> Record:
        """What takes the old record's place. It leads on only as long as nobody signs in or
        out: an id from before that has no say any more.
        """
        new = self.record
        successor = new.handle if new is not None and new.subject == old.subject else None
        return old.tombstone(self._now(), REMEMBERED, successor)

    def _withdraw(self) -> None:
        if self._known is not None and self._failure is None:
            self._reaching(self._services.store.delete, self._known.record.handle)
            self._begin(self.data)

    # -- what others have done meanwhile

    def _attempts(self, record: Record) -> Iterator[int]:
        """As many as there may be. At first without a pause: who pauses loses to those who come
        anew, who do not, and it has waited longest already.

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

    def _merged(self, known: Known, standing: Record, theirs: dict[str, Any]) -> Known:
        """Apply my changes to what somebody else has saved. Returns what is known now."""
        codec, resolve = self._services.codec, self._services.settings.resolve
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
        dropped, whose, was = bool(self.encoded()), self.subject, known.record.subject
        signs_in = self._renewed and whose is not None and whose != was
        signs_out = not dropped or (was is not None and whose != was)
        # Who signs out does not stay signed in because the session has another id by now.
        ended = signs_out and standing is not None and self._end(standing)
        if signs_in:
            self._begin(self._own_changes(known))
            self._former, self.ended = None, True
            if self._create(self.encoded()):
                self.cookie = "send"
            return
        self._gone(known.record, dropped)
        if ended:
            self.cookie = "clear"

    def _own_changes(self, known: Known) -> dict[str, Any]:
        """Only what this request has set: nothing of a session that has ended."""
        codec = self._services.codec
        if self._whole:
            return self.data
        return merge(codec.decode(known.base), self.data, {}, codec.fingerprint)

    def _gone(self, record: Record, dropped: bool) -> None:
        """Be the session that has ended: it stays so, and the cookie is left to whoever
        has ended it.
        """
        self._begin({})
        self._former, self.cookie, self.ended = None, None, True
        if not dropped:
            return
        self._report(record, "gone")
        if self._services.settings.on_gone == "raise":
            raise SessionGone(
                f"Session {record.handle} has ended while this request was using it. What "
                "this request changed is not stored."
            )
        log.info("Session %s has ended meanwhile: changes are dropped.", record.handle)

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

    # -- records

    def _changed(self, encoded: bytes) -> bool:
        if self._known is None:
            return bool(encoded)
        return encoded != self._known.base or (
            self._lifetime is not None
            and self._known.record.lifetime != int(self._lifetime * 1000)
        )

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
            self.cookie = "clear"
            self._begin(self.data)
            return
        moved = stored.expires != known.record.expires
        if (self.permanent and moved) or self.permanent != self._was_permanent:
            self.cookie = "send"
        self._was_permanent = self.permanent
        self._known = Known(known.sid, stored._replace(token=None), encoded)

    def _used(self, record: Record, at_once: bool = False) -> Record:
        lifetime = int(self.lifetime * 1000)
        return used(record, self._now(), lifetime, self._services.settings, at_once)

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
