"""The session that a view sees: a mapping that loads itself on first use."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from datetime import timedelta
from datetime import UTC
from typing import Any
from typing import Literal
from typing import TypeVar
from uuid import UUID

from flask.sessions import SessionMixin

from . import values
from .codec import Codec
from .config import Settings
from .errors import SerializationError
from .errors import SessionConflict
from .errors import StoreUnavailable
from .identity import handle_of
from .identity import Identity
from .identity import new_id
from .merge import merge
from .stores import Record
from .stores import Store

log = logging.getLogger("flask_serverside")

T = TypeVar("T")

#: The key under which Flask keeps ``session.permanent``. Alone it makes no session.
PERMANENT = "_permanent"

#: Saves tried against other writers before giving up. One writer always gets through, so
#: this many are only needed when as many are at it.
ATTEMPTS = 64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """What a session works with; the same for all sessions of an application."""

    settings: Settings
    store: Store
    codec: Codec
    identity: Identity


class ServerSideSession(SessionMixin):
    """``flask.session``: a dict whose contents stay on the server.

    Nothing is loaded until it is looked at, and nothing stored unless it has changed. What
    counts as changed is decided by comparing bytes, so that a change deep inside a nested
    value is noticed without setting :attr:`modified`.

    :param services: what all sessions of the application share.
    :param presented: gives the cookie's value, or ``None``, when it is asked for.
    """

    def __init__(self, services: Services, presented: Callable[[], str | None]) -> None:
        self._services = services
        self._presented = presented
        #: Whether the request has looked at the session at all.
        self.accessed = False
        #: What the response has to do about the cookie.
        self.cookie: Literal["send", "clear"] | None = None
        #: Whether it could not be saved at the end of the request.
        self.abandoned = False
        self._data: dict[str, Any] | None = None  # None: not loaded yet
        self._record: Record | None = None  # as it stands in the store, as far as we know
        self._stored = b""  # the data in it, encoded
        self._sid: str | None = None
        self._was_permanent = False
        self._superseded: Record | None = None  # to be deleted once the new one is stored
        self._lifetime: float | None = None
        self._failure: StoreUnavailable | None = None

    # -- the mapping

    def __getitem__(self, key: str) -> Any:
        return self._loaded()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._loaded()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._loaded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def __contains__(self, key: object) -> bool:
        return key in self._loaded()

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return self._loaded() | dict(other)

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return dict(other) | self._loaded()

    def __ior__(
        self, other: Mapping[str, Any] | Iterable[tuple[str, Any]]
    ) -> ServerSideSession:
        self._loaded().update(other)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        return self._loaded().get(key, default)

    def clear(self) -> None:
        self._loaded().clear()

    def copy(self) -> dict[str, Any]:
        """A plain dict with the same items."""
        return self._loaded().copy()

    def __repr__(self) -> str:  # neither the id nor the user's data belong in a log
        if self._data is None:
            return "<ServerSideSession, not loaded>"
        keys = "1 key" if len(self._data) == 1 else f"{len(self._data)} keys"
        return f"<ServerSideSession {self.handle}, {keys}>"

    # -- what is known about it

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether the client has not been given this session yet."""
        self._loaded()
        return self._record is None

    @property
    def modified(self) -> bool:
        """Whether the session differs from what is stored.

        Assigning to it, as other session implementations need after a nested change, does
        no harm and has no effect.
        """
        return self._data is not None and self._changed(self._encoded())

    @modified.setter
    def modified(self, value: bool) -> None:
        pass

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser. What new sessions are is said by
        ``SESSION_PERMANENT``; on the server each session ends after its lifetime.
        """
        return bool(self._loaded().get(PERMANENT, self._services.settings.permanent))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if bool(value) != self.permanent:
            self._loaded()[PERMANENT] = bool(value)

    @property
    def sid(self) -> str:
        """The id. It is the secret that makes a request this session's: do not show, log
        or store it; :attr:`handle` is there for that.
        """
        self._loaded()
        if self._sid is None:
            self._sid = new_id(self._services.settings.id_length)
        return self._sid

    @property
    def handle(self) -> str:
        """The SHA-256 of the id: names the session, and is useless as a cookie."""
        return handle_of(self.sid)

    @property
    def subject(self) -> str | None:
        """Whose session it is: the value under ``SESSION_SUBJECT_KEY``, as a string."""
        return self._subject()

    @property
    def created_at(self) -> datetime | None:
        """When the session was first stored; ``None``: not yet. Aware, in UTC."""
        self._loaded()
        return self._record and _date(self._record.created)

    @property
    def expires_at(self) -> datetime | None:
        """When the session ends unless it is used again; ``None``: not stored yet."""
        self._loaded()
        return self._record and _date(self._record.expires)

    @property
    def max_age(self) -> int | None:
        """Seconds from the last save or touch until the session ends, for the cookie;
        ``None``: it ends with the browser.
        """
        if self._record is None or not self.permanent:
            return None
        return (self._record.expires - self._record.seen) // 1000

    @property
    def lifetime(self) -> timedelta:
        """How long the session lives without being used. ``PERMANENT_SESSION_LIFETIME``,
        unless it was set for this session, as a timedelta or in seconds.

        :raises ConfigurationError: it is set to something that is no such time.
        """
        return timedelta(seconds=self._current_lifetime())

    @lifetime.setter
    def lifetime(self, value: timedelta | float) -> None:
        self._loaded()
        self._lifetime = values.duration({"session.lifetime": value}, "session.lifetime", 0)

    # -- what a view may do besides reading and writing

    def regenerate(self, keep: bool = True) -> None:
        """Give the session a new id, because somebody signs in or gains a privilege: an id
        that was planted or seen before is then worth nothing (OWASP: session fixation).

        The new session is stored when the request ends, and the old one deleted after
        that. What another request changes in the old one meanwhile is lost with it.

        :param keep: whether the data moves to the new id; if not, it begins empty.
        """
        data = self._loaded()
        if self._record is not None:
            self._superseded = self._record
        if keep:
            self._lifetime = self._current_lifetime()
        else:
            data.clear()
            self._lifetime = None
        self._begin(data)

    def destroy(self) -> None:
        """End the session now, and clear the cookie. What is written to the session after
        that begins a new one, under a new id.
        """
        self._loaded()
        for record in (self._superseded, self._record):
            if record and self._reaching(self._services.store.delete, record.handle):
                self.cookie = "clear"
        self._superseded = self._lifetime = None
        self._begin({})

    def save(self) -> None:
        """Store what has changed. Happens by itself when the request ends.

        :raises SerializationError: a value cannot be stored.
        :raises SessionTooLarge: the backend does not take that much.
        :raises SessionConflict: others kept saving the session in between.
        :raises StoreUnavailable: no answer from the store; raised again, without a second
            wait, if it had already failed in this request.

        In all cases the stored session is as it was.
        """
        if self._data is None:
            return
        encoded = self._encoded()
        if self._record is None:
            if encoded:
                self._create(encoded)
        elif not encoded:
            self._end()
        elif self._changed(encoded):
            self._replace(encoded)
        elif self._touch_is_due():
            self._touch()
        if self._superseded is not None:
            self._supersede(self._superseded)

    # -- loading

    def _loaded(self) -> dict[str, Any]:
        self.accessed = True
        if self._data is None:
            self._load()
            assert self._data is not None
        return self._data

    def _load(self) -> None:
        presented = self._presented()
        sid = presented and self._services.identity.verify(presented)
        if sid:
            handle = handle_of(sid)
            found = self._standing(handle, self._services.store.load, handle)
            if found is not None:
                self._sid = sid
                self._record, self._data = found
                self._stored = self._record.payload
                self._was_permanent = self.permanent
                return
        self._data = {}

    def _standing(
        self, handle: str, operation: Callable[[T], Record | None], argument: T
    ) -> tuple[Record, dict[str, Any]] | None:
        """What a load or a replace says stands in the store, and the data in it. A record
        that cannot be read is as good as none.
        """
        try:
            record = self._reaching(operation, argument)
            if record is None:
                return None
            data = {} if record is argument else self._services.codec.decode(record.payload)
            return record, data
        except SerializationError as error:
            log.warning("Session %s is ignored, it begins afresh: %s", handle, error)
            return None

    def _begin(self, data: dict[str, Any]) -> None:
        """Be a session that is not stored yet."""
        self._data, self._record, self._stored, self._sid = data, None, b"", None

    # -- saving

    def _encoded(self) -> bytes:
        """The data as bytes; none at all if there is nothing to be kept."""
        data = self._loaded()
        if not data or data.keys() == {PERMANENT}:
            return b""
        return self._services.codec.encode(data)

    def _changed(self, encoded: bytes) -> bool:
        return encoded != self._stored or (
            self._lifetime is not None
            and self._record is not None
            and self._record.lifetime != int(self._lifetime * 1000)
        )

    def _create(self, encoded: bytes) -> None:
        now, subject = self._services.store.now(), self._subject()
        absolute = self._services.settings.absolute_lifetime
        deadline = None if absolute is None else now + int(absolute * 1000)
        record = Record(self.handle, encoded, 1, now, now, 0, 0, deadline, subject)
        if self._superseded is not None and self._superseded.subject == subject:
            # A new id alone is not a new session: only signing in begins its time anew.
            old = self._superseded
            record = record._replace(created=old.created, deadline=old.deadline)
        record = self._refreshed(record, now)
        if record.expires <= now:
            return self._gone()
        if not self._reaching(self._services.store.create, record):
            raise SessionConflict(f"There is a session {record.handle} already.")
        return self._settle(record, send=True)

    def _replace(self, encoded: bytes) -> None:
        store = self._services.store
        for attempt in range(ATTEMPTS):
            assert self._record is not None
            changed = self._refreshed(self._record, store.now())._replace(
                payload=encoded, version=self._record.version + 1, subject=self._subject()
            )
            standing = self._standing(changed.handle, store.replace, changed)
            if standing is None:
                return self._gone()
            if standing[0] is changed:
                return self._settle(changed, send=self.permanent or self._was_permanent)
            self._merge(*standing)
            encoded = self._encoded()
            if not encoded:
                return self._end()
            if not self._changed(encoded):
                return None
            if attempt > 2:
                time.sleep(random.uniform(0, 0.001 * min(attempt, 20)))
        raise SessionConflict(
            f"Session {self.handle} was saved by others {ATTEMPTS} times in a row while this "
            "request tried to. What this request changed is not stored."
        )

    def _supersede(self, old: Record) -> None:
        """End the session under its old id, now that it is stored under the new one."""
        store = self._services.store
        deleted = self._reaching(store.delete, old.handle)
        self._superseded = None
        if deleted:
            if self._record is None:
                self.cookie = "clear"
        elif self._record is not None:
            # Somebody has ended it meanwhile: a new id must not bring it back.
            self._reaching(store.delete, self._record.handle)
            self._gone()

    def _merge(self, record: Record, theirs: dict[str, Any]) -> None:
        """Apply my changes to what somebody else has saved."""
        codec = self._services.codec
        data = self._loaded()
        merged = merge(
            codec.decode(self._stored),
            data,
            theirs,
            lambda a, b: codec.encode({"": a}) == codec.encode({"": b}),
        )
        data.clear()
        data.update(merged)
        self._record, self._stored = record, record.payload

    def _touch_is_due(self) -> bool:
        interval = self._services.settings.touch_interval
        if interval is None or self._record is None:
            return False
        due = min(interval * 1000, self._record.lifetime / 10)
        return self._services.store.now() - self._record.seen >= due

    def _touch(self) -> None:
        assert self._record is not None
        touched = self._refreshed(self._record, self._services.store.now())
        try:
            alive = self._reaching(self._services.store.touch, touched)
        except SerializationError as error:
            log.warning("Session %s is ignored, it begins afresh: %s", self.handle, error)
            alive = False
        if alive:
            self._settle(touched, send=self.permanent)
        else:
            self._gone()

    def _end(self) -> None:
        """Nothing is left in the session."""
        assert self._record is not None
        if self._reaching(self._services.store.delete, self._record.handle):
            self.cookie = "clear"
        self._begin(self._loaded())

    def _gone(self) -> None:
        """Somebody has ended the session since it was loaded: it stays ended, and the
        cookie is left to whoever ended it.
        """
        log.info("Session %s has ended meanwhile: changes are dropped.", self.handle)
        self.cookie = None
        self._begin({})

    def _settle(self, record: Record, send: bool) -> None:
        if send:
            self.cookie = "send"
        self._record, self._stored = record._replace(token=None), record.payload

    def _refreshed(self, record: Record, now: int) -> Record:
        """The record as used just now."""
        lifetime = int(self._current_lifetime() * 1000)
        expires = now + lifetime
        if record.deadline is not None:
            expires = min(expires, record.deadline)
        return record._replace(seen=now, expires=expires, lifetime=lifetime)

    def _current_lifetime(self) -> float:
        self._loaded()
        if self._lifetime is not None:
            return self._lifetime
        if self._record is not None:
            return self._record.lifetime / 1000
        return self._services.settings.lifetime

    def _subject(self) -> str | None:
        key = self._services.settings.subject_key
        value = None if key is None else self._loaded().get(key)
        if value is None or value == "":
            return None
        subject = str(value)
        if (
            not isinstance(value, str | int | UUID)
            or isinstance(value, bool)
            or len(subject) > 255
            or not subject.isprintable()
        ):
            raise SerializationError(
                f"session[{key!r}] says whose session it is: expected a string of 1 to 255 "
                "printable characters, an int or a UUID. Set SESSION_SUBJECT_KEY to None if "
                "it is something else. The stored session is unchanged."
            )
        return subject

    def _reaching(self, operation: Callable[..., T], *arguments: Any) -> T:
        """Call the store. Once it could not be reached, this request does not wait again."""
        if self._failure is not None:
            raise self._failure
        try:
            return operation(*arguments)
        except StoreUnavailable as error:
            log.error("Session store unavailable: %s", error)
            self._failure = error
            raise


def _date(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
