"""What the application holds."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import cast
from uuid import UUID

from click import Command
from click import Context
from flask import current_app
from flask import Flask
from flask import has_app_context
from flask import has_request_context
from flask import session

from . import stores
from .config import Settings
from .errors import ConfigurationError
from .errors import SerializationError
from .info import info_of
from .info import SessionInfo
from .interface import NAME
from .interface import ServerSideSessionInterface
from .saving.subject import subject_of
from .sealing.envelope import former_in
from .session import ServerSideSession
from .signals import log
from .signals import session_revoked
from .signals import tell
from .stores import indexed
from .stores import IndexedStore
from .stores import no_index
from .stores import Record
from .stores import Store
from .web.identity import is_handle

#: :data:`flask.session` itself, for type checkers: they know it as a
#: :class:`flask.sessions.SessionMixin`, which has no ``regenerate()``.
current_session = cast(ServerSideSession, session)

#: What says whose session it is: as it stands under ``SESSION_SUBJECT_KEY``.
Subject = str | int | UUID


class Session:
    """Keeps the sessions of Flask applications on the server.

    .. code-block:: python

        app = Flask(__name__)
        app.config.from_prefixed_env()
        Session(app)

    or, with an application factory, ``session = Session()`` and later
    ``session.init_app(app)``. The configuration must be complete by then. One object
    serves any number of applications.

    All but :meth:`init_app` is about the sessions of the application at hand. Whether a user
    may see or end a session is for the application to say: compare its subject.

    :param app: the application, if there is one already.
    :raises ConfigurationError: a ``SESSION_*`` key cannot work.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._app: Flask | None = None
        if app is not None:
            self._app = app
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Replace the application's sessions by server-side ones. Connects to nothing."""
        settings = Settings.from_config(app.config)
        store = _make_store(app, settings)
        if settings.max_per_subject is not None and not isinstance(store, IndexedStore):
            key = "SESSION_MAX_PER_SUBJECT"
            raise ConfigurationError(key, settings.max_per_subject, "none", no_index(store))
        app.session_interface = ServerSideSessionInterface(store)
        app.extensions[NAME] = self
        if "session" not in app.cli.commands:  # that may be one of the application's own
            app.cli.add_command(_Commands("session"))

    @property
    def store(self) -> Store:
        """The store of the application at hand."""
        interface = self._at_hand.session_interface
        if not isinstance(interface, ServerSideSessionInterface):
            raise ConfigurationError(
                "app.session_interface", interface, "the one that Session(app) has set"
            )
        return interface.store

    def list(self, subject: Subject | None = None) -> Iterator[SessionInfo]:
        """The sessions that are alive, in no particular order, fetched as they are taken.

        :param subject: only this one's, at a cost that depends on their number. With
            Flask-Login that is ``current_user.get_id()``. ``None``: all there are, so do not
            pass the id of somebody who has not signed in.
        :raises NotSupported: the store cannot list sessions: Memcached.
        """
        entries, current = self._indexed.entries(_name(subject)), self._current
        return (info_of(entry.record, entry.record.handle == current) for entry in entries)

    def get(self, handle: str) -> SessionInfo | None:
        """One session; ``None``: there is none, it has ended or was given another handle, or it
        cannot be read.
        """
        record = self._load(handle)
        if record is None or record.ended:
            return None
        return info_of(record, record.handle == self._current)

    def count(self, subject: Subject | None = None) -> int:
        """How many sessions are alive: all, or those of one subject.

        :raises NotSupported: the store cannot list sessions: Memcached.
        """
        return self._indexed.count(_name(subject))

    def revoke(self, handle: str) -> bool:
        """End a session from elsewhere. It is dead on its next request, on every worker, and
        none that holds it now can bring it back.

        :param handle: its :attr:`~ServerSideSession.handle`, also one from before it was
            given a new id, as long as that is remembered.
        :returns: whether there was one.
        """
        if not is_handle(handle):
            return False
        try:
            record = self.store.find(handle)
        except SerializationError:  # what cannot be read is ended by removing it
            return self.store.delete(handle)
        ended = record is not None and self.store.end(record, remembered=0)
        if record is not None and ended:
            self._told(record)
        return ended

    def revoke_subject(self, subject: Subject, keep_current: bool = False) -> int:
        """End all sessions of one subject, as :meth:`revoke` does: when somebody has changed
        the password, lost a device, or left.

        :param keep_current: whether that of the request at hand goes on.
        :returns: how many there were.
        :raises NotSupported: the store cannot list sessions: Memcached.
        """
        if subject is None:
            raise ValueError("subject=None: expected whose sessions; revoke_all() ends all.")
        return self._revoke_all(subject, keep_current)

    def revoke_all(self) -> int:
        """End all sessions that there are, as :meth:`revoke` does.

        :returns: how many there were.
        :raises NotSupported: the store cannot list sessions: Memcached.
        """
        return self._revoke_all(None, False)

    def revoking(
        self, subject: Subject | None = None, keep_current: bool = False
    ) -> Iterator[str]:
        """As :meth:`revoke_subject` and :meth:`revoke_all`, a batch of sessions at a time:
        yields the handle of each when it has ended, so that progress can be shown.
        """
        return (r.handle for r in self._ending(subject, keep_current, self._told))

    def _revoke_all(self, subject: Subject | None, keep_current: bool) -> int:
        """First all are ended, and then it is told: whoever listens may raise. Those that have
        ended are told of also if others could not be reached.
        """
        ended: list[Record] = []
        try:
            ended.extend(self._ending(subject, keep_current))
        finally:
            for record in ended:
                self._told(record)
        return len(ended)

    def _ending(
        self,
        subject: Subject | None,
        keep_current: bool,
        told: Callable[[Record], object] = lambda record: None,
    ) -> Iterator[Record]:
        family = _Family(self._current_and_heirs() if keep_current else ())
        return self._indexed.end_all(_name(subject), family, told)

    def ping(self) -> None:
        """Ask whether the store answers: one cheap trip, for a health endpoint.

        :raises StoreUnavailable: it does not, and may do so later.
        :raises StoreError: it refuses, and will until somebody mends it.
        """
        self.store.ping()

    def purge(self) -> int:
        """Remove expired sessions from a store whose server does not: SQL databases. Others
        have their turn after each batch.

        :returns: how many were removed.
        """
        return self.store.purge()

    @property
    def _indexed(self) -> IndexedStore:
        return indexed(self.store)

    @property
    def _current(self) -> str | None:
        """The handle under which the session of the request at hand is stored."""
        ours = has_request_context() and isinstance(
            self._at_hand.session_interface, ServerSideSessionInterface
        )
        return current_session.stored_handle if ours else None

    def _current_and_heirs(self) -> Iterator[str]:
        """The same, and what another request may have made of it meanwhile."""
        if not has_request_context():
            raise RuntimeError("keep_current=True: there is no request that has a session.")
        handle, passed = self._current, set[str]()
        while handle is not None and handle not in passed:
            passed.add(handle)
            yield handle
            record = self._load(handle)
            handle = record and record.successor

    @property
    def _at_hand(self) -> Flask:
        if has_app_context() or self._app is None:
            app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
            return app
        return self._app

    def _load(self, handle: str) -> Record | None:
        try:
            return self.store.load(handle) if is_handle(handle) else None
        except SerializationError as error:
            log.warning("Session %s is left out: %s", handle, error)
            return None

    def _told(self, record: Record) -> None:
        tell(session_revoked, self._at_hand, record.handle, record.subject, reason="asked")


class _Family:
    """Says whether a record is one of these, or what one of them goes on as."""

    def __init__(self, handles: Iterable[str]) -> None:
        self._handles = set(handles)

    def __call__(self, record: Record) -> bool:
        related = {record.handle, record.successor, former_in(record.payload)}
        if not related & self._handles:
            return False
        self._handles.add(record.handle)
        return True


def _name(subject: Subject | None) -> str | None:
    """:raises ValueError: it can be nobody's. All sessions are those of ``None``, no other."""
    try:
        name = subject_of({"subject": subject}, "subject")
    except SerializationError:
        name = None
    if name is None and subject is not None:
        raise ValueError(
            f"subject={subject!r}: expected what stands under SESSION_SUBJECT_KEY: a string of "
            "1 to 255 printable characters, an int or a UUID."
        )
    return name


def _make_store(app: Flask, settings: Settings) -> Store:
    found = stores.find(app.config.get(stores.KEY, "memory"))
    if isinstance(found, Store):
        return found
    store = found.from_app(
        app,
        prefix=settings.prefix,
        timeout=settings.store_timeout,
        max_size=settings.max_size,
    )
    weakref.finalize(app, _close_aside, store).atexit = False
    return store


class _Commands(Command):
    """``flask session``, which ``flask`` finds by itself and ``app.cli`` has to be given. What
    it takes is imported when it is called: no server needs it.
    """

    def make_context(self, *arguments: Any, **options: Any) -> Context:
        return self._loaded.make_context(*arguments, **options)

    def get_short_help_str(self, limit: int = 45) -> str:
        return self._loaded.get_short_help_str(limit)

    @property
    def _loaded(self) -> Command:
        from .cli import sessions

        return sessions


def _close_aside(store: Store) -> None:
    """Close in a thread of its own: the application is collected in the middle of whatever
    happens to run, and saying goodbye to a server that is down takes a time limit.
    """
    threading.Thread(target=store.close, daemon=True).start()
