"""Between Flask and the session: opens it, saves it, and looks after the cookie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import after_this_request
from flask import Flask
from flask import has_request_context
from flask import Request
from flask import request
from flask import Response
from flask import session as current_session
from flask.sessions import SessionInterface
from flask.sessions import SessionMixin
from werkzeug.sansio.http import parse_cookie

from .config import secret_keys
from .config import Settings
from .errors import SessionError
from .saving.client import Client
from .saving.services import Services
from .sealing.codec import Codec
from .sealing.envelope import Envelope
from .session import ServerSideSession
from .signals import log
from .signals import session_rejected
from .signals import tell
from .stores import Store
from .web import cookies
from .web.identity import Identity

#: What an application has this extension under, in ``app.extensions``.
NAME = "flask_serverside"


class ServerSideSessionInterface(SessionInterface):
    """What ``app.session_interface`` is once ``Session(app)`` was called.

    :param store: where the sessions are kept.
    """

    session_class = ServerSideSession

    def __init__(self, store: Store) -> None:
        self.store = store
        self._services: Services | None = None
        self._made_for: tuple[Any, ...] = ()
        self._warned = False

    def open_session(self, app: Flask, request: Request) -> ServerSideSession | None:
        """The request's session. Nothing is loaded, nor the cookie looked at, before the
        session is used. ``None``, and so Flask's explanation, without a ``SECRET_KEY``.
        """
        if self.store.one_process and not self._warned:
            self._warn(app)
        services = self._services_for(app)
        if services is None:
            return None
        session = self.session_class(
            services,
            lambda: self.presented(app, request),
            Client(request, services.settings),
        )
        if has_request_context():
            after_this_request(_marking(session))
        return session

    def presented(self, app: Flask, request: Request) -> str | None:
        """The cookie's value, or the header's, as the client sent it.

        With two different ones, nobody can tell which is ours: the server does not learn
        which domain and path a cookie was set for (RFC 6265, 8.6), and another host of the
        same site may have planted one. Then it is as if there were none.
        """
        services = self._services_for(app)
        header = services and services.settings.header
        if header:
            return request.headers.get(header) or None
        name = self.get_cookie_name(app)
        # As request.cookies does, which looks for the header among all others first.
        values = set(parse_cookie(request.environ.get("HTTP_COOKIE")).getlist(name))
        if len(values) > 1:
            log.warning(
                "%d different cookies named %s in one request: none is used. Was "
                "SESSION_COOKIE_PATH or _DOMAIN changed? Then change the name, too.",
                len(values),
                name,
            )
            tell(session_rejected, app, None, None, reason="ambiguous")
        return values.pop() if len(values) == 1 else None

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Store what has changed and set the cookie, if there is anything to be done.

        Changes made while the response is sent are stored when it closes. A response that
        Flask is not about to send, such as Flask-SocketIO's, cannot give the client an id.
        """
        assert isinstance(session, ServerSideSession)
        if session.abandoned:
            # Flask calls again with the answer to the error that the first call raised.
            self._tell(app, session, response)
            return
        session.late = not session.finishing and _is_current(session)
        session.abandoned = True
        try:
            session.finish()
            session.abandoned = False
        except SessionError as error:
            if not session.finishing:
                raise
            _answer_instead(app, response, error)
        self._tell(app, session, response)
        if session.finishing and response.is_streamed and not session.abandoned:
            session.late = True
            response.call_on_close(session.finish)

    def get_cookie_secure(self, app: Flask) -> bool:
        """With ``"auto"``: whether the request came over HTTPS. Behind a proxy, Werkzeug's
        ``ProxyFix`` must say so.
        """
        secure = cookies.secure(app.config)
        if secure is None:
            return has_request_context() and request.is_secure
        return secure

    def get_cookie_samesite(self, app: Flask) -> str:
        """``Lax`` unless another is set."""
        return cookies.samesite(app.config)

    def get_cookie_httponly(self, app: Flask) -> bool:
        """``SESSION_COOKIE_HTTPONLY``, which may be a word."""
        return cookies.flag(app.config, "SESSION_COOKIE_HTTPONLY")

    def get_cookie_partitioned(self, app: Flask) -> bool:
        """``SESSION_COOKIE_PARTITIONED``, which may be a word."""
        return cookies.flag(app.config, "SESSION_COOKIE_PARTITIONED")

    def _tell(self, app: Flask, session: ServerSideSession, response: Response) -> None:
        """Give the client its id. It is also owed one for what was stored before a save has
        failed.
        """
        header = session.services.settings.header
        if session.accessed:
            _vary_on(header or "Cookie", response)
        cookie = session.cookie
        if cookie is None:
            return
        signed = cookie.sid and session.services.identity.sign(cookie.sid)
        if header is not None:
            response.headers[header] = signed or ""
        else:
            self._set_cookie(app, signed, cookie.max_age, response)
        # No cache may give one client's id to another (OWASP: web content caching).
        response.headers.setdefault("Cache-Control", "no-store")

    def _set_cookie(
        self, app: Flask, value: str | None, max_age: int | None, response: Response
    ) -> None:
        attributes: dict[str, Any] = {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
        }
        if self.get_cookie_partitioned(app):  # since Flask 3.1
            attributes["partitioned"] = True
        name = self.get_cookie_name(app)
        if value is None:
            response.delete_cookie(name, **attributes)
        else:
            response.set_cookie(name, value, max_age=max_age, **attributes)

    def _services_for(self, app: Flask) -> Services | None:
        """Made anew when one of the keys changes that Flask looks up at each request."""
        config = app.config
        made_for = (
            config["SECRET_KEY"],
            tuple(config.get("SECRET_KEY_FALLBACKS") or ()),
            config["PERMANENT_SESSION_LIFETIME"],
            config["SESSION_REFRESH_EACH_REQUEST"],
        )
        if made_for != self._made_for:
            keys = secret_keys(config)
            if not keys:
                return None
            settings = Settings.from_config(config)
            self._services = Services(
                app,
                settings,
                self.store,
                Codec(settings.serializer),
                Envelope(settings.compression, settings.encryption),
                Identity(keys),
            )
            self._made_for = made_for
        return self._services

    def _warn(self, app: Flask) -> None:
        self._warned = True
        if not (app.debug or app.testing):
            log.warning(
                "Sessions are kept in this process's memory: others do not see them, and "
                "they end with it. Set SESSION_TYPE to redis, memcached, mongodb or sqlalchemy."
            )


def _vary_on(header: str, response: Response) -> None:
    if response.headers.getlist("Vary"):
        response.vary.add(header)
    else:  # as most have none, there is nothing to be parsed
        response.headers.add("Vary", header)


def _marking(session: ServerSideSession) -> Callable[[Response], Response]:
    """Tells the session, before it is saved, that Flask is at this request's own response."""

    def mark(response: Response) -> Response:
        session.finishing = True
        return response

    return mark


def _is_current(session: ServerSideSession) -> bool:
    """Whether this is the session of the current request, and not one that a test or another
    extension has opened by hand.
    """
    return has_request_context() and session is current_session._get_current_object()  # type: ignore[attr-defined]


def _answer_instead(app: Flask, response: Response, error: SessionError) -> None:
    """Turn a response that tells of success into the application's answer to the error.

    Raised from here, the error would become a 500 even if the application has a handler for
    it: Flask looks for one only while it handles the view.
    """
    answer = app.make_response(app.handle_user_exception(error))
    if hasattr(response.response, "close"):
        response.response.close()
    response.status = answer.status
    response.headers = answer.headers
    response.response = answer.response
    response.direct_passthrough = answer.direct_passthrough
    response.call_on_close(answer.close)
