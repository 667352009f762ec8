"""What the application holds."""

from __future__ import annotations

import threading
import weakref
from typing import cast

from flask import current_app
from flask import Flask
from flask import has_app_context
from flask import session

from . import stores
from .config import Settings
from .errors import ConfigurationError
from .errors import SerializationError
from .interface import ServerSideSessionInterface
from .session import ServerSideSession
from .signals import session_revoked
from .signals import tell
from .stores import Store

NAME = "flask_serverside"

#: :data:`flask.session` itself, for type checkers: they know it as a
#: :class:`flask.sessions.SessionMixin`, which has no ``regenerate()``.
current_session = cast(ServerSideSession, session)


class Session:
    """Keeps the sessions of Flask applications on the server.

    .. code-block:: python

        app = Flask(__name__)
        app.config.from_prefixed_env()
        Session(app)

    or, with an application factory, ``session = Session()`` and later
    ``session.init_app(app)``. The configuration must be complete by then. One object
    serves any number of applications.

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
        app.session_interface = ServerSideSessionInterface(store)
        app.extensions[NAME] = self

    @property
    def store(self) -> Store:
        """The store of the application at hand."""
        interface = self._at_hand.session_interface
        if not isinstance(interface, ServerSideSessionInterface):
            raise ConfigurationError(
                "app.session_interface", interface, "the one that Session(app) has set"
            )
        return interface.store

    def revoke(self, handle: str) -> bool:
        """End a session from elsewhere. It is dead on its next request, on every worker, and
        none that holds it now can bring it back.

        :param handle: its :attr:`~ServerSideSession.handle`, also one from before it was
            given a new id, as long as that is remembered.
        :returns: whether there was one.
        """
        try:
            record = self.store.load(handle)
        except SerializationError:  # what cannot be read is ended by removing it
            return self.store.delete(handle)
        ended = record is not None and self.store.end(record, remembered=0)
        if record is not None and ended:
            tell(session_revoked, self._at_hand, handle, record.subject, reason="asked")
        return ended

    @property
    def _at_hand(self) -> Flask:
        if has_app_context() or self._app is None:
            app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
            return app
        return self._app

    def purge(self) -> int:
        """Remove expired sessions from a store whose server does not: SQL databases.

        :returns: how many were removed.
        """
        return self.store.purge()


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


def _close_aside(store: Store) -> None:
    """Close in a thread of its own: the application is collected in the middle of whatever
    happens to run, and saying goodbye to a server that is down takes a time limit.
    """
    threading.Thread(target=store.close, daemon=True).start()
