"""The session that a view sees: a mapping that loads itself on first use."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from datetime import datetime
from datetime import timedelta
from typing import Any
from typing import Self
from typing import TypeVar

from . import values
from .errors import SessionError
from .errors import StoreUnavailable
from .mapping import LazyMapping
from .merge import FLASHES
from .saving.client import Client
from .saving.draft import Draft
from .saving.draft import PERMANENT
from .saving.effects import Cookie
from .saving.services import Services
from .saving.state import current
from .saving.state import Ended
from .saving.state import known
from .saving.state import stored
from .saving.times import date_of
from .saving.unit import Unit
from .web.identity import handle_of
from .web.identity import well_formed

T = TypeVar("T")


class ServerSideSession(LazyMapping):
    """``flask.session``: a dict whose contents stay on the server.

    Nothing is loaded until it is looked at, and nothing stored unless it has changed. What
    counts as changed is decided by comparing bytes, so that a change deep inside a nested
    value is noticed without setting :attr:`modified`.

    :param services: what all sessions of the application share.
    :param presented: gives the cookie's value, or ``None``, when it is asked for.
    :param client: whose request it is.
    """

    def __init__(
        self,
        services: Services,
        presented: Callable[[], str | None],
        client: Client,
    ) -> None:
        self.services = services
        self._presented = presented
        #: Whether the request has looked at the session at all.
        self.accessed = False
        #: Whether Flask is finishing this request's own response.
        self.finishing = False
        #: Whether it could not be saved at the end of the request.
        self.abandoned = False
        self._unit = Unit(services, client)
        self._loaded = False
        self._in_atomic = False
        self._refused: tuple[object, ...] | None = None  # what save() has failed to store

    # -- the mapping

    def pop(self, key: str, *default: Any) -> Any:
        """As of a dict. The messages of :func:`flask.flash` are taken out of the store before
        they are returned, so that of several requests only one shows them.
        """
        if key == FLASHES and self._data.get(FLASHES) and not self._in_atomic:
            return self._take_flashes(*default)
        return self._draft.pop(key, *default)

    def clear(self) -> None:
        """Empty the session, also of what other requests are adding to it meanwhile."""
        self._draft.clear()

    def __repr__(self) -> str:  # neither the id nor the user's data belong in a log
        if not self._loaded:
            return "<ServerSideSession, not loaded>"
        keys = "1 key" if len(self._data) == 1 else f"{len(self._data)} keys"
        return f"<ServerSideSession {self.handle}, {keys}>"

    # -- what is known about it

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether the client has not been given this session yet."""
        return current(self._ready.state) is None

    @property
    def modified(self) -> bool:
        """Whether the session differs from what is stored.

        Assigning to it, as other session implementations need after a nested change, does
        no harm and has no effect.
        """
        return self._loaded and self._unit.modified

    @modified.setter
    def modified(self, value: bool) -> None:
        pass

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser. What new sessions are is said by
        ``SESSION_PERMANENT``; on the server each session ends after its lifetime.
        """
        return self._draft.permanent

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if bool(value) != self.permanent:
            self._data[PERMANENT] = bool(value)

    @property
    def sid(self) -> str:
        """The id. It is the secret that makes a request this session's: do not show, log
        or store it; :attr:`handle` is there for that. Whoever signs in has another one after
        :meth:`save` only, or when the request has ended.
        """
        return self._ready.sid

    @property
    def handle(self) -> str:
        """The SHA-256 of the id: names the session, and is useless as a cookie."""
        return handle_of(self.sid)

    @property
    def stored_handle(self) -> str | None:
        """The handle under which it stands in the store now; ``None``: not yet."""
        snapshot = stored(self._ready.state)
        return snapshot and snapshot.handle

    @property
    def subject(self) -> str | None:
        """Whose session it is: the value under ``SESSION_SUBJECT_KEY``, as a string."""
        return self._draft.subject

    @property
    def created_at(self) -> datetime | None:
        """When the session was first stored; ``None``: not yet. Aware, in UTC."""
        snapshot = current(self._ready.state)
        return snapshot and date_of(snapshot.record.created)

    @property
    def expires_at(self) -> datetime | None:
        """When the session ends unless it is used again; ``None``: not stored yet."""
        snapshot = current(self._ready.state)
        return snapshot and date_of(snapshot.record.expires)

    @property
    def lifetime(self) -> timedelta:
        """How long the session lives without being used. ``PERMANENT_SESSION_LIFETIME``,
        unless it was set for this session, as a timedelta or in seconds.

        :raises ConfigurationError: it is set to something that is no such time.
        """
        return timedelta(milliseconds=self._ready.lifetime)

    @lifetime.setter
    def lifetime(self, value: timedelta | float) -> None:
        seconds = values.duration({"session.lifetime": value}, "session.lifetime", 0)
        self._draft.lifetime = int(seconds * 1000)

    @property
    def authenticated_at(self) -> datetime | None:
        """When the user last proved who they are: signed in, which is when :attr:`subject`
        became theirs, or called for :meth:`reauthenticated`. ``None``: never. Aware, in UTC.

        A "remember me" cookie of Flask-Login's signs in, too, and nobody has typed a password
        then: ask its ``login_fresh()`` as well where it is used.
        """
        proved = self._ready.authenticated
        return date_of(proved) if proved else None

    def fresh(self, within: timedelta | float) -> bool:
        """Whether the user has proved who they are not longer ago than this, as a timedelta
        or in seconds. Ask it before a sensitive step, such as a change of password (OWASP
        ASVS 5.0, 7.5.1), and let the user sign in again if not.
        """
        seconds = values.duration({"within": within}, "within", 0, zero=True)
        proved = self._ready.authenticated
        # By its amount: the machine that says when may have a clock that is ahead.
        return proved > 0 and abs(self._ready.now - proved) <= int(seconds * 1000)

    # -- what a view may do besides reading and writing

    def atomic(self, function: Callable[[Self], T]) -> T:
        """Call ``function(session)`` and store what it does, on top of what all others have
        stored. If somebody else saves at the same time, it is called again::

            def count(session):
                session["visits"] = session.get("visits", 0) + 1
                return session["visits"]

            visits = session.atomic(count)

        So it must depend on the session only, and change nothing else: send no mail, write
        to no database. It must not save, reload, touch, regenerate or destroy the session.
        What the request has changed before is stored along with it.

        :returns: what the function returned the last time, the one that was stored.
        :raises SessionError: the function did one of these things.
        :raises SessionConflict: others kept saving the session in between.
        :raises SessionGone: the session has ended meanwhile, and ``SESSION_ON_GONE`` is
            ``"raise"``. With ``"drop"`` what the function returned is returned, and not
            stored; the session is empty then.

        Whatever is raised, also by the function: nothing is stored that it has done, and
        what it did to the session is undone.
        """
        self._not_in_atomic("atomic")
        return self._atomic(lambda: function(self))

    def regenerate(self, keep: bool | Iterable[str] = True) -> None:
        """Give the session a new id, because somebody gains a privilege: an id that was
        planted or seen before is then worth nothing (OWASP: session fixation). When
        :attr:`subject` changes, because somebody signs in or out, it happens by itself.

        The new session is stored when the request ends, with what others have saved to the
        old one until then, and the old one ended after that, without any grace.

        :param keep: what moves to the new id: all data, nothing with ``False``, or what is
            under the keys that are given, such as ``["cart"]``. If it is not all, the
            lifetime is that of a new session.
        """
        self._not_in_atomic("regenerate")
        if isinstance(keep, str):
            raise TypeError(f"keep={keep!r}: expected true, false or several keys, as a list")
        self._ready.renew(keep)

    def reauthenticated(self) -> None:
        """Call it when the user has proved once more who they are: :attr:`authenticated_at`
        is now, ``SESSION_ABSOLUTE_LIFETIME`` begins anew, and the session has a new id.
        Whoever signs in, so that :attr:`subject` changes, need not.
        """
        self._not_in_atomic("reauthenticated")
        self._ready.prove()

    def destroy(self) -> None:
        """End the session now, and clear the cookie. What is written to the session after
        that begins a new one, under a new id.

        If another request has given the session a new id meanwhile, and nobody has signed
        in by that, it ends under the new id, too.

        :raises StoreUnavailable: nobody knows whether it has ended. Raised again when the
            request ends, even if the view has caught it: it must not answer "signed out".
        """
        self._not_in_atomic("destroy")
        self._ready.end()

    def save(self) -> None:
        """Store what has changed, now. Happens by itself when the request ends.

        What other requests have saved meanwhile is then in the session, too: values that
        were taken out of it before may be old.

        :raises SerializationError: a value cannot be stored.
        :raises SessionTooLarge: the backend does not take that much.
        :raises SessionConflict: others kept saving the session in between, or have changed
            a key that this request has changed, and ``SESSION_ON_CONFLICT`` is ``"error"``.
        :raises SessionGone: the session has ended meanwhile, and ``SESSION_ON_GONE`` is
            ``"raise"``.
        :raises StoreUnavailable: no answer from the store; raised again, without a second
            wait, if it had already failed in this request.

        In all cases the stored session is as it was. What could not be stored is not tried
        again when the request ends, unless it has been changed after that.
        """
        self._not_in_atomic("save")
        if self._loaded:
            self._storing(Unit.save)

    def reload(self) -> None:
        """Forget what this request has changed and not saved, and load the session again.

        :raises SessionGone: it has ended meanwhile, and ``SESSION_ON_GONE`` is ``"raise"``.
            With ``"drop"`` it is empty then.
        """
        self._not_in_atomic("reload")
        if self._loaded:
            self._storing(Unit.reload)

    def touch(self) -> None:
        """Extend the session now, and nothing else. A read does so when the request ends, at
        most every ``SESSION_TOUCH_INTERVAL``. A session that has ended is not revived.
        """
        self._not_in_atomic("touch")
        self._ready.touch()

    # -- what the interface needs

    @property
    def cookie(self) -> Cookie | None:
        """What the client is still to be told."""
        return self._unit.cookie

    @property
    def late(self) -> bool:
        """Whether the client can be told nothing any more: its response is on the way, or
        there is none.
        """
        return self._unit.late

    @late.setter
    def late(self, value: bool) -> None:
        self._unit.late = value

    def finish(self) -> None:
        """Save, unless an explicit :meth:`save` has failed and nothing was done since."""
        if self._loaded and (self._refused is None or self._refused != self._unit.pending):
            self._storing(Unit.finish)

    # -- within

    @property
    def _data(self) -> dict[str, Any]:
        return self._ready.draft.data

    @property
    def _draft(self) -> Draft:
        return self._ready.draft

    @property
    def _ready(self) -> Unit:
        self.accessed = True
        if not self._loaded:
            presented = self._presented()
            if presented is not None:
                self._load(presented)
            self._loaded = True
        return self._unit

    def _load(self, presented: str) -> None:
        sid = self.services.identity.verify(presented)
        if sid is None:
            wrong = "bad signature" if well_formed(presented) else "malformed"
            self._unit.reject(wrong)
            return
        self._unit.load(sid)
        if self.services.identity.is_outdated(presented):
            self._unit.renew_cookie()

    def _atomic(self, function: Callable[[], T]) -> T:
        results: list[T] = []

        def change() -> None:
            results.clear()
            self._in_atomic = True
            try:
                results.append(function())
            finally:
                self._in_atomic = False

        try:
            self._storing(lambda state: state.save(change))
        finally:
            if not results:  # it has failed by itself: nothing was refused
                self._refused = None
        return results[0]

    def _take_flashes(self, *default: Any) -> Any:
        if stored(self._ready.state) is None:
            return self._data.pop(FLASHES)  # nobody else knows them
        # Flask has looked, seen some, and gives no default.
        nothing = default[0] if default else []
        messages = self._atomic(lambda: self._data.pop(FLASHES, nothing))
        ended = isinstance(known(self._ready.state), Ended)
        return nothing if ended else messages

    def _storing(self, operation: Callable[[Unit], None]) -> None:
        self._refused = None
        try:
            operation(self._ready)
        except StoreUnavailable:  # known to fail again, without another try
            raise
        except BaseException:
            self._refused = self._ready.pending
            raise

    def _not_in_atomic(self, name: str) -> None:
        if self._in_atomic:
            raise SessionError(
                f"session.{name}() was called by a function that session.atomic() is running: "
                "it may be called several times, so it may only read and write the session."
            )
