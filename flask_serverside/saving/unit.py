"""One session and its record: loaded, saved against other writers, given a new id, ended.

A save succeeds only if the record is still as it was loaded. If it is not, the changes of
both sides are brought together and it is tried again. If the record is gone, it stays so.
"""

from __future__ import annotations

import random
import secrets
import time
import warnings
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

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
from ..signals import session_created
from ..signals import session_destroyed
from ..signals import session_regenerated
from ..signals import session_reused
from ..signals import session_revoked
from ..signals import session_saved
from ..signals import tell
from ..stores import ATTEMPTS
from ..stores import Record
from ..stores import REMEMBERED
from ..web.cookies import OLDEST
from ..web.identity import handle_of
from ..web.identity import new_id
from ..web.identity import successor_of
from .client import Client
from .draft import Draft
from .gateway import Gateway
from .gateway import Services
from .gateway import Snapshot
from .quota import Quota
from .times import deadline_from
from .times import end_after_use
from .times import end_of
from .times import rotation_is_due
from .times import touch_is_due


class Cookie(NamedTuple):
    """What the client is to be told."""

    #: The id; ``None``: the cookie is to be cleared.
    sid: str | None
    #: Seconds; ``None``: until the browser ends.
    max_age: int | None = None


class Move(NamedTuple):
    """That the session is to be given a new id."""

    #: As :data:`~flask_serverside.session_regenerated` has it.
    reason: str
    #: What leads from the old id to the new one, if anything is to.
    rotation: bytes = b""


class Persistence:
    """The data of a request's session, and what it takes to keep it.

    :param client: whose request it is.
    """

    def __init__(self, services: Services, client: Client) -> None:
        self._app = services.app
        self._settings = services.settings
        self._gateway = Gateway(services, client)
        self.draft = Draft(services.settings, services.codec)
        #: What the client is still to be told; ``None``: nothing.
        self.cookie: Cookie | None = None
        #: Whether the client can be told nothing any more: its response is on the way.
        self.late = False
        #: Whether the session that the client has the id of was ended, and not by this
        #: request: another one has set or cleared the cookie, and this one leaves it alone.
        self.dead = False
        self._tombstone: Record | None = None  # what is known of it then
        #: The handle of the id that the client has presented, if this request can make nothing
        #: of what is stored there, while others perhaps can: it has expired by the clock of
        #: this machine, is encrypted with a key that it has not, or was given up a while ago.
        self._presented: str | None = None
        self._dead_subject: str | None = None  # whose it was, if it was alive then
        self._sid: str | None = None
        self._known: Snapshot | None = None
        self._former: Snapshot | None = None  # under the old id, until that is superseded
        self._move: Move | None = None  # why it is to be
        self._was_permanent = False
        self._limited: Quota | None = None  # what is still to be kept, since somebody signs in

    # -- what is known about it

    @property
    def record(self) -> Record | None:
        return self._known and self._known.record

    @property
    def stored_handle(self) -> str | None:
        return self._stored and self._stored.record.handle

    @property
    def moving(self) -> bool:
        """Whether it is stored under an id that it is about to give up."""
        return self._former is not None

    @property
    def sid(self) -> str:
        if self._sid is None:
            self._sid = new_id(self._settings.id_length)
        return self._sid

    @property
    def lifetime(self) -> int:
        """In milliseconds."""
        if self.draft.lifetime is not None:
            return self.draft.lifetime
        stored = self._stored
        if stored is None or self._is_another(stored):
            return self._default_lifetime
        return stored.record.lifetime

    @property
    def _default_lifetime(self) -> int:
        return int(self._settings.lifetime * 1000)

    @property
    def authenticated(self) -> int:
        """When somebody last proved who they are, in milliseconds since the epoch; 0: never."""
        draft, stored, anybody = self.draft, self._stored, self._settings.subject_key is None
        if draft.proved is not None and (anybody or draft.subject is not None):
            return draft.proved
        if stored is not None and not self._is_another(stored):
            return stored.contents.authenticated
        return self._gateway.now() if draft.subject is not None else 0

    def is_fresh(self, within: int) -> bool:
        """Whether that was not longer ago than this, in milliseconds."""
        proved = self.authenticated
        # By its amount: the machine that says when may have a clock that is ahead.
        return proved > 0 and abs(self._gateway.now() - proved) <= within

    @property
    def modified(self) -> bool:
        return self._changed(self.draft.encoded())

    @property
    def pending(self) -> tuple[object, ...]:
        """The same at two moments if nothing was done to the session between them."""
        try:
            encoded = self.draft.encoded()
        except SerializationError:
            encoded = None
        return encoded, self._known, self._former, self.draft.kept, self.draft.lifetime

    @property
    def _stored(self) -> Snapshot | None:
        """What stands in the store, under the old id or the new one."""
        return self._former or self._known

    def _is_another(self, stored: Snapshot) -> bool:
        """Whether somebody has signed in or out since it was stored."""
        return self.draft.subject != stored.subject or self.draft.begun_anew

    def _asks_for_nothing(self, stored: Snapshot, encoded: bytes) -> bool:
        """Whether all that was asked for is what has been asked for before."""
        draft, unmoved = self.draft, self._move is None or self._move.rotation != b""
        return (
            unmoved
            and draft.kept is None
            and draft.proved is None
            and draft.lifetime in (None, stored.record.lifetime)
            and encoded == stored.contents.data
        )

    def _is_as_stored(self, known: Snapshot, encoded: bytes) -> bool:
        """Whether this request has changed nothing, nor is anything to be stored anew."""
        outdated = self._move is not None or known.contents.outdated
        return not outdated and self._asks_for_nothing(known, encoded)

    def _is_due(self, known: Snapshot) -> bool:
        """Whether time has passed, so that it is to be extended or given a new id."""
        now, settings = self._gateway.now(), self._settings
        return rotation_is_due(known.contents.issued, now, settings) or touch_is_due(
            known.record, now, settings
        )

    def _changed(self, encoded: bytes) -> bool:
        if self._known is None:
            return bool(encoded)
        record, contents = self._known.record, self._known.contents
        return (
            encoded != contents.data
            or self.lifetime != record.lifetime
            or contents.outdated
            or self.draft.kept is not None  # somebody may have added what is to be taken, too
        )

    # -- loading

    def reject(self, reason: str) -> None:
        """Begin with nothing: what the client has presented is no id."""
        self._gateway.reject(reason, None)

    def load(self, sid: str) -> None:
        """Begin with what is stored under this id, if anything is."""
        now, record = self._gateway.now(), self._gateway.find(sid)
        if record is None:
            pass
        elif not record.alive(now):
            self._gateway.reject("expired", record.handle)
        elif record.ended and self._is_reused(record):
            self._reused(record)
        elif not self._take(sid, record) and record.ended and not self._gateway.rejected:
            self._gateway.reject("ended", record.handle, record.subject)
            if self._gateway.began < record.seen + int(REMEMBERED * 1000):
                self.dead, self._tombstone = True, record
        if self._gateway.rejected in ("expired", "undecodable", "ended") and not self.dead:
            self._presented = handle_of(sid)

    def renew_cookie(self) -> None:
        """Send the client its id once more, signed anew."""
        if self._known is not None:
            self._owe_cookie(self._known, self._gateway.now())

    def reload(self) -> None:
        """Forget what this request has changed, and look at the store again."""
        known = self._stored
        record = known and self._gateway.standing(self._gateway.store.load, known.record.handle)
        self._forget()
        if known is not None and not self._take(known.sid, record):
            self._gone(known.record)

    def _take(self, sid: str, record: Record | None) -> bool:
        """Be the session in this record, or that it leads to, if there is one."""
        found = self._gateway.heir(sid, record)
        if found is None:
            return False
        self._known, self.draft.data = found
        self._sid = self._known.sid
        self._was_permanent = self.draft.permanent
        if self._sid != sid:
            self._owe_cookie(self._known, self._gateway.now())
        return True

    def _is_reused(self, tombstone: Record) -> bool:
        grace = int(self._settings.rotation_grace * 1000)
        return tombstone.rotation is not None and self._gateway.began >= tombstone.seen + grace

    def _reused(self, record: Record) -> None:
        """An id is used that was exchanged too long ago. Begin with nothing."""
        ended = False
        if self._settings.revoke_on_reuse:
            ended = self._gateway.call(self._gateway.store.end, record, 0.0)
            self._gateway.call(self._gateway.store.delete, record.handle)
        self._tell(session_reused, record)
        if ended:
            self._tell(session_revoked, record, reason="reused")

    def _begin(self) -> None:
        """Be a session that is not stored yet."""
        self._known = self._sid = None

    def _forget(self) -> None:
        """Be an empty session of which nothing that was asked for is left to do."""
        self._begin()
        self.draft.reset()
        self._former = self._move = None

    # -- saving

    def finish(self) -> None:
        """Save at the end of a request."""
        known, encoded = self._known, self.draft.encoded()
        if known is not None and self._is_as_stored(known, encoded) and not self._is_due(known):
            return  # as at the end of most requests
        if (
            known is not None
            and rotation_is_due(known.contents.issued, self._gateway.now(), self._settings)
            and not self.late
            and not self._is_another(known)
            and encoded
        ):
            self._rotate(known)
        try:
            self.save(encoded=encoded)
        except (SessionTooLarge, StoreError) as error:
            unavailable = isinstance(error, StoreUnavailable)
            if unavailable or known is None:
                raise
            if not self._asks_for_nothing(known, self.draft.encoded()):
                raise
            log.warning("A session that was only read is left as it is: %s", error)

    def save(
        self, change: Callable[[], object] | None = None, encoded: bytes | None = None
    ) -> None:
        """Store what has changed, on top of what others have stored meanwhile.

        :param change: done to the data first, and done again whenever others were first. It
            is undone if it cannot be stored.
        :param encoded: the data, if that is known.
        """
        if self.late and self._former is not None and self._signs_out(self._former):
            self._stay(self._former)
        if self._known is not None and self._former is None:
            for _ in self._attempts(self._known.record):
                if self._save_once(self._known, change, encoded):
                    return
                encoded = None
                if self.moving:
                    break
        if self._former is not None and not self.late:
            self._supersede(change)
        else:
            self._save_first(change)

    def touch(self) -> None:
        """Extend the session, and nothing else."""
        if self._known is None:
            return
        record, now = self._known.record, self._gateway.now()
        touched = record._replace(seen=now, expires=end_of(record, now, record.lifetime))
        if self._gateway.standing(self._gateway.store.touch, touched):
            self._known = self._known._replace(record=touched._replace(token=None))
            if self.draft.permanent:
                self._owe_cookie(self._known)

    def _save_first(self, change: Callable[[], object] | None) -> None:
        with self.draft.doing(change):
            if self.draft.gives_up or self._move is not None:
                self._end_presented()
            encoded = self.draft.encoded()
            if self.late and (encoded or self._former is not None):
                self._warn_undeliverable()
            elif encoded:
                self._create(encoded)
                if self._known is not None:
                    self._owe_cookie(self._known)
                    self._tell(session_created, self._known.record)
                    self._end_surplus()
            elif self.draft.emptied and self._tombstone is not None:
                self._end(self._tombstone)
            self.draft.is_stored()

    def _save_once(
        self, known: Snapshot, change: Callable[[], object] | None, encoded: bytes | None
    ) -> bool:
        """Whether nothing is left to be done. If not, what others have saved is merged, or a
        new id is to be given to the session first.
        """
        with self.draft.doing(change) as undo:
            if encoded is None:
                encoded = self.draft.encoded()
            if encoded and self._is_to_move(known):
                undo()
                if self.late:
                    self._warn_undeliverable()
                    return True
                self.renew()
                self._move = Move("subject")
                return False
            if encoded and not self._changed(encoded):
                due = touch_is_due(known.record, self._gateway.now(), self._settings)
                if due and not self._gateway.is_elsewhere(known):
                    self.touch()
                    due = False
                if not due:
                    return True
            mine = self._next(known, encoded)
            standing = self._gateway.standing(self._gateway.store.replace, mine.record)
            if standing is mine.record:
                self._settle(known, mine)
            elif found := self._gateway.heir(known.sid, standing):
                undo()
                self._known = self._merged(known, *found, in_part=change is not None)
                self._sid = self._known.sid
                return False
            else:
                self._too_late(known, standing)
            return True

    def _is_to_move(self, known: Snapshot) -> bool:
        """Whether somebody has signed in or out, so that a new id is to be given. Who signs
        out where the client cannot be told a new id, signs out all the same.
        """
        if not self._settings.regenerate_on_subject_change or not self._is_another(known):
            return False
        signs_out = self.late and self.draft.subject is None
        return not signs_out

    def _next(self, known: Snapshot, encoded: bytes) -> Snapshot:
        """The record as it is to be stored: the next version, or a tombstone."""
        record, now, lifetime = known.record, self._gateway.now(), self.lifetime
        if not encoded:
            return known._replace(record=record.tombstone(now, self._remembered))
        record = record._replace(
            version=record.version + 1,
            seen=now,
            expires=end_after_use(record, now, lifetime, self._settings),
            lifetime=lifetime,
            subject=self.draft.subject,
        )
        return self._gateway.sealed(
            known.sid, record, known.contents, data=encoded, authenticated=self.authenticated
        )

    def _settle(self, known: Snapshot, stored: Snapshot) -> None:
        self.draft.is_stored()
        if stored.record.ended:
            if self.late:
                self._gateway.call(self._gateway.store.delete, stored.record.handle)
            self.cookie = Cookie(None)
            self._begin()
            self._tell(session_destroyed, known.record)
            return
        if stored.record.token is not None:  # that of before
            stored = stored._replace(record=stored.record._replace(token=None))
        self._known = stored
        permanent, moved = self.draft.permanent, stored.record.expires != known.record.expires
        if (permanent and moved) or permanent != self._was_permanent:
            self._owe_cookie(stored)
        self._was_permanent = permanent
        self._tell(session_saved, stored.record)

    def _create(self, encoded: bytes) -> None:
        now, subject, lifetime = self._gateway.now(), self.draft.subject, self.lifetime
        deadline = deadline_from(now, self._settings)
        record = Record(handle_of(self.sid), b"", 1, now, now, 0, lifetime, deadline, subject)
        former = self._former
        if former is not None and not self._is_another(former) and self.draft.proved is None:
            # A new id alone is not a new session: only signing in begins its time anew.
            begun = former.record
            record = record._replace(created=begun.created, deadline=begun.deadline)
        record = record._replace(expires=end_of(record, now, lifetime))
        quiet = not self._settings.touch_on_read
        if former and quiet and self._asks_for_nothing(former, encoded):
            record = record._replace(expires=former.record.expires)
        if (self.dead and not self._signs_in(self._tombstone)) or not record.alive(now):
            if self.draft.signed_out and self._tombstone is not None:
                self._end(self._tombstone)
            self._gone(self._tombstone or record)
            return
        limit = self._limit(former)
        if limit is not None:
            record = limit.as_newest(record)
        contents = Contents(
            encoded,
            issued=now,
            authenticated=self.authenticated,
            former=bytes.fromhex(former.record.handle) if former else b"",
        )
        new = self._gateway.sealed(self.sid, record, contents)
        if not self._gateway.call(self._gateway.store.create, new.record):
            raise SessionConflict(f"There is a session {record.handle} already.")
        self._known = new
        self._was_permanent = self.draft.permanent
        self.dead = False
        self._limited = limit
        if limit is not None and self._settings.overflow == "refuse":
            self._refuse_surplus(limit, new.record)

    def _limit(self, former: Snapshot | None) -> Quota | None:
        """What a session begun by signing in has to keep, in the place of the former one."""
        most = self._settings.max_per_subject
        if most is None or self.draft.subject is None:
            return None
        if former is not None and not self._is_another(former):
            return None
        return Quota(self._gateway, most, former and former.record.handle)

    def _refuse_surplus(self, limit: Quota, new: Record) -> None:
        if new.handle in {record.handle for record in limit.surplus(new)}:
            self._withdraw()
            self._be_as_before()
            raise TooManySessions(self._settings.max_per_subject)

    def _end_surplus(self) -> None:
        """Now that somebody has signed in, end those of their sessions that are too many. This
        one may be among them, if others have signed in at the same time.
        """
        limit, self._limited = self._limited, None
        if limit is None or self._known is None:
            return
        new, surplus = self._known.record, limit.surplus(self._known.record)
        for record in surplus:
            if self._gateway.call(self._gateway.store.end, record, 0.0):
                self._tell(session_revoked, record, reason="overflow")
        if new.handle in {record.handle for record in surplus}:
            self._gone(new)

    def _be_as_before(self) -> None:
        """Be the session that nobody has signed in to: what is answered may write to it."""
        former = self._former
        self._forget()
        if former is not None:
            self._known, self._sid = former, former.sid
            self.draft.be(former.contents.data)

    def _signs_in(self, ended: Record | None) -> bool:
        """Whether somebody begins a session of their own, whatever became of the one that this
        request has the id of. Who was signed in by that does not sign in by saying so again.
        """
        subject = self.draft.subject
        if subject in (None, self._dead_subject):
            return False
        return self._move is not None or (
            self._settings.regenerate_on_subject_change
            and self._dead_subject is None
            and ended is not None
            and ended.subject != subject
        )

    def _owe_cookie(self, known: Snapshot, now: int | None = None) -> None:
        """The client is to be told the id, or that its cookie lives longer.

        :param now: if it was not stored just now.
        """
        seconds = (known.record.expires - (now or known.record.seen)) // 1000
        self.cookie = Cookie(known.sid, min(seconds, OLDEST) if self.draft.permanent else None)

    # -- a new id, and the end

    def renew(self, keep: bool | Iterable[str] = True) -> None:
        """Go on under a new id, from the next save on.

        :param keep: what comes along: all, nothing, or these keys.
        """
        self._former, self._move = self._stored, Move("asked")
        if keep is not True:
            self.draft.keep(keep or ())
            self.draft.lifetime = self._default_lifetime
        self._begin()

    def prove(self) -> None:
        """Somebody has proved who they are: begin the session's time anew, under a new id."""
        self.renew()
        self.draft.proved = self._gateway.now()

    def end(self) -> None:
        """End the session now, under whatever id it goes on, and begin an empty one."""
        held = [known.record for known in (self._former, self._known) if known is not None]
        self._forget()
        self._end_presented()
        if self._tombstone is not None:
            self._end(self._tombstone)
        for record in held:
            if self._end(record):
                self.cookie = Cookie(None)
            else:
                self._die(record)

    def _end(self, record: Record) -> bool:
        ended = self._gateway.call(self._gateway.store.end, record, self._remembered)
        if ended:
            self._tell(session_destroyed, record)
        return ended

    def _end_presented(self) -> None:
        """Have the id that was presented end for all, though this request cannot use it."""
        handle, self._presented = self._presented, None
        if handle is None:
            return
        try:
            record = self._gateway.call(self._gateway.store.find, handle)
        except SerializationError:  # what cannot be read is ended by removing it
            ended = self._gateway.call(self._gateway.store.delete, handle)
        else:
            ended = record is not None and self._end(record)
        if ended:
            self.cookie = Cookie(None)

    def _signs_out(self, former: Snapshot) -> bool:
        """Whether nobody is to be signed in any more, nor anything left perhaps."""
        signed_out = former.subject is not None and self.draft.subject is None
        return signed_out or self.draft.emptied

    def _stay(self, former: Snapshot) -> None:
        """Give up to be given a new id."""
        self._known, self._sid = former, former.sid
        self._former = self._move = None

    @property
    def _remembered(self) -> float:
        """For how long it is known that the session has ended. If the cookie cannot be cleared
        any more, not at all: it must not keep the client from a new session.
        """
        return 0.0 if self.late else REMEMBERED

    def _rotate(self, known: Snapshot) -> None:
        """Go on under the id that follows this one, which all who have this one can reach."""
        rotation = secrets.token_bytes(32)
        self.renew()
        self._sid = successor_of(known.sid, rotation, self._settings.id_length)
        self._move = Move("rotation", rotation)

    def _supersede(self, change: Callable[[], object] | None) -> None:
        """Store the session under its new id first, then end it under the old one: at each
        moment one of them is valid, and of several requests that do this at once, one.
        """
        former, move = self._former, self._move
        assert former is not None
        assert move is not None
        try:
            for _ in self._attempts(former.record):
                with self.draft.doing(change) as undo:
                    self._put(self.draft.encoded())
                    if self._former is None:
                        return
                    old = former.record._replace(subject=former.subject)
                    tombstone = self._superseding(old, move)
                    standing = self._gateway.standing(self._gateway.store.replace, tombstone)
                    if standing is tombstone:
                        self._settle_move(former, move)
                        self._end_surplus()
                        return
                    found = self._gateway.heir(former.sid, standing)
                    if found is None:
                        self._withdraw()
                        self._too_late(former, standing)
                        return
                    undo()
                    merged = self._merged(former, *found, in_part=change is not None)
                    rotated = merged.sid != former.sid
                    former = self._former = merged
                    if move.rotation and rotated:
                        break  # others were first
        finally:
            if self._former is not None:
                self._withdraw()
                if move.reason != "asked":
                    self._stay(former)
        self.save(change)

    def _put(self, encoded: bytes) -> None:
        """Store the session under its new id, which nobody has been told yet."""
        if not encoded:
            self._withdraw()
        elif self._known is None:
            self._create(encoded)
        elif self._changed(encoded):
            mine = self._next(self._known, encoded)
            if self._gateway.call(self._gateway.store.replace, mine.record) is mine.record:
                self._known = mine
            else:
                self._gone(mine.record)  # revoked

    def _superseding(self, old: Record, move: Move) -> Record:
        """What takes the old record's place, and says where the session goes on: as long as the
        old id would have lived, so that a copy of it is noticed and a late sign-out counts,
        unless somebody else is signed in there, over whom the old id has no power.
        """
        now, new = self._gateway.now(), self._known and self._known.record
        if new is None or new.subject != old.subject:
            return old.tombstone(now, REMEMBERED, new.handle if new else "")
        left = (old.expires - now) / 1000
        remembered = max(left, REMEMBERED, self._settings.rotation_grace)
        return old.tombstone(now, remembered, new.handle, move.rotation)

    def _settle_move(self, former: Snapshot, move: Move) -> None:
        self._former = self._move = self.draft.proved = None
        self.draft.is_stored()
        if self._known is None:
            self.cookie = Cookie(None)
            self._tell(session_destroyed, former.record)
        else:
            self._owe_cookie(self._known)
            old, new = former.record.handle, self._known.record
            self._tell(session_regenerated, new, former=old, reason=move.reason)

    def _withdraw(self) -> None:
        if self._known is not None and not self._gateway.failed:
            self._gateway.call(self._gateway.store.delete, self._known.record.handle)
            self._begin()

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
        self, known: Snapshot, found: Snapshot, theirs: dict[str, Any], in_part: bool
    ) -> Snapshot:
        """Apply my changes to what somebody else has saved. Returns what is known now.

        :param in_part: never overwrite all of theirs, even if that is what is configured.
        """
        if found.sid != known.sid:
            self._owe_cookie(found, self._gateway.now())
        try:
            merged = self.draft.apply_to(theirs, known.contents.data, in_part)
        except SessionConflict:
            self._report(found.record, "refused")
            raise
        self._report(found.record, "merged" if merged else "overwritten")
        return found

    def _too_late(self, known: Snapshot, standing: Record | None) -> None:
        """The session has ended, or was given another id, since it was loaded."""
        subject, was, draft = self.draft.subject, known.subject, self.draft
        signs_in = self._move is not None and subject not in (None, was)
        signs_out = draft.signed_out or draft.emptied or (was is not None and subject != was)
        # Who signs out does not stay signed in because the session has another id by now.
        ended = signs_out and standing is not None and self._end(standing)
        if signs_in:
            draft.forget_others(known.contents.data)
            self._begin()
            self._former = None
            self._save_first(None)
        elif draft.emptied or self._asks_for_nothing(known, draft.encoded()):  # nothing is lost
            self._forget()
            self._die(known.record)
            self.cookie = Cookie(None) if ended else None
        else:
            self._gone(known.record, Cookie(None) if ended else None)

    def _gone(self, record: Record, cookie: Cookie | None = None) -> None:
        """Be the session that has ended: it stays so, and what was changed is dropped."""
        self._forget()
        self._die(record)
        self.cookie = cookie
        self._report(record, "gone")
        if self._settings.on_gone == "raise":
            raise SessionGone(
                f"Session {record.handle} has ended while this request was using it. What "
                "this request changed is not stored."
            )
        log.info("Session %s has ended meanwhile: changes are dropped.", record.handle)

    def _die(self, record: Record) -> None:
        if not self.dead:
            self._dead_subject = record.subject
        self._tombstone = self._tombstone or record  # to be ended, or known by whose it was
        self.dead, self.cookie = True, None

    def _report(self, record: Record, reason: str) -> None:
        self._tell(session_conflict, record, reason=reason)

    def _tell(self, signal: NamedSignal, record: Record, **more: str) -> None:
        tell(signal, self._app, record.handle, record.subject, **more)

    def _warn_undeliverable(self) -> None:
        lost = "its new id" if self.moving else ", ".join(map(repr, self.draft.data))
        warnings.warn(
            f"Lost from the session: {lost}. It is "
            "new or has a new id, and the client can not be given an id any more, because the "
            "response is being sent already, or there is none. Write to the session, or call "
            "regenerate(), before that.",
            RuntimeWarning,
            stacklevel=2,
        )
