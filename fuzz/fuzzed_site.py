"""An application to be sent anything, with one session in a store that counts its trips."""

from __future__ import annotations

import hashlib
import hmac
import io
import logging
import random
import re
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Callable
from datetime import datetime
from datetime import timedelta
from datetime import UTC
from functools import cache
from typing import Any
from typing import NamedTuple
from typing import Self

from flask import Flask
from flask import request
from werkzeug.test import EnvironBuilder
from werkzeug.test import run_wsgi_app

from flask_serverside import current_session as session
from flask_serverside import ServerSideSessionInterface
from flask_serverside import Session
from flask_serverside.saving.services import Services
from flask_serverside.stores import Record
from flask_serverside.stores import Store
from flask_serverside.web.identity import handle_of
from flask_serverside.web.identity import Identity

KEY, FORMER_KEY, FOREIGN_KEY = "key", "former key", "foreign key"
HEADER = "X-Session"
AGENT = "Mozilla/5.0"
#: Seconds since the epoch. Time stands still, so that an input does the same each time.
NOW = 1_800_000_000.0
DATA: dict[str, Any] = {
    "a": 1,
    "_user_id": "ada",
    "cart": [("tea", 2), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)],
    "text": "long enough to be compressed " * 50,
}


class PackedStore(Store):
    """Keeps each record as one string of bytes, as Redis and Memcached do."""

    def __init__(self) -> None:
        super().__init__()
        self.now_in_seconds = NOW
        self.clock = lambda: self.now_in_seconds
        self.packed: dict[str, bytes] = {}
        self.trips: list[str] = []

    @classmethod
    def from_app(cls, app: Flask, **options: Any) -> Self:
        return cls()

    def _call(self, primitive: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        self.trips.append(primitive.__name__.removesuffix("_named"))
        return super()._call(primitive, *arguments, **options)

    def _create(self, record: Record) -> bool:
        if self._standing(record) is not None:
            return False
        self.packed[record.handle] = record.pack()
        return True

    def _load(self, handle: str) -> Record | None:
        packed = self.packed.get(handle)
        return None if packed is None else Record.unpack(handle, packed)

    def _replace(self, record: Record) -> Record | None:
        standing = self._standing(record)
        if standing is None or standing.version != record.version - 1:
            return standing
        self.packed[record.handle] = record.pack()
        return record

    def _touch(self, record: Record) -> bool:
        standing = self._standing(record)
        if standing is None or standing.version != record.version:
            return False
        touched = standing._replace(seen=record.seen, expires=record.expires)
        self.packed[record.handle] = touched.pack()
        return True

    def _delete(self, handle: str) -> bool:
        return self.packed.pop(handle, None) is not None

    def _standing(self, record: Record) -> Record | None:
        standing = self._load(record.handle)
        return standing if standing is not None and standing.alive(record.seen) else None


class Seen(NamedTuple):
    """What a view saw of the session."""

    data: dict[str, Any]
    subject: str | None
    created: datetime | None
    authenticated: datetime | None
    lifetime: timedelta


class Answer(NamedTuple):
    seen: Seen
    #: The value of the cookie, or of the header, that the client is told; ``None``: none.
    told: str | None
    #: What was done to the store.
    trips: list[str]
    presented: list[str]


class Site:
    """The application, and the session that a client of it has."""

    def __init__(self, **config: Any) -> None:
        self.store = PackedStore()
        self.app = Flask("fuzz")
        self.app.config.update(
            SECRET_KEY=KEY,
            TESTING=True,
            SESSION_TYPE=self.store,
            PERMANENT_SESSION_LIFETIME=3600,
        )
        self.app.config.update(config)
        self.header: str | None = config.get("SESSION_HEADER")
        self.keys = [KEY, *config.get("SECRET_KEY_FALLBACKS", [])]
        Session(self.app)
        self._seen: list[tuple[Seen, list[str]]] = []
        self._add_views()
        self._environs = {
            rule.rule: EnvironBuilder(rule.rule).get_environ()
            for rule in self.app.url_map.iter_rules()
        }
        told = self.ask("/begin", agent=AGENT).told
        assert told is not None
        self.signed: str = told
        self.sid = told.partition(".")[0]
        self.handle = handle_of(self.sid)
        self.packed = dict(self.store.packed)
        self.age = 0  # of the session when it is asked for, in seconds
        self.restore()
        self.begun = self.ask("/read", self.signed, AGENT).seen
        assert self.begun.data == DATA

    @property
    def services(self) -> Services:
        interface = self.app.session_interface
        assert isinstance(interface, ServerSideSessionInterface)
        services = interface._services_for(self.app)
        assert services is not None
        return services

    @property
    def record(self) -> Record:
        return Record.unpack(self.handle, self.packed[self.handle])

    def restore(self) -> None:
        self.store.packed = dict(self.packed)
        self.store.now_in_seconds = NOW + self.age

    def put(self, record: Record) -> None:
        self.store.packed[record.handle] = record.pack()

    def rotate(self) -> Self:
        """The session has another id since a second, and the client the old one."""
        self.store.now_in_seconds += 61
        self.ask("/read", self.signed, AGENT)
        assert len(self.store.packed) == 2
        self.packed = dict(self.store.packed)
        self.age = 62
        self.restore()
        return self

    def ask(self, path: str, value: str | None = None, agent: str | None = None) -> Answer:
        """A request with this value where the client's belongs."""
        name, prefix = (self.header, "") if self.header else ("Cookie", "session=")
        headers = {} if value is None else {name: prefix + value}
        return self.request(path, headers | ({} if agent is None else {"User-Agent": agent}))

    def request(self, path: str, headers: dict[str, str]) -> Answer:
        """A request with these headers, as a server gives them to the application.

        :raises AssertionError: it is not answered with 200.
        """
        environ = self._environs[path] | {
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
        }
        for name, text in headers.items():
            environ["HTTP_" + name.upper().replace("-", "_")] = text
        self.store.trips.clear()
        self._seen.clear()
        body, status, answered = run_wsgi_app(self.app, environ)
        for _ in body:
            pass
        assert status == "200 OK", status
        told = answered.get(self.header or "Set-Cookie")
        if told is not None and self.header is None:
            told = told.partition("=")[2].partition(";")[0]
        (seen, presented) = self._seen[0]
        return Answer(seen, told, self.store.trips.copy(), presented)

    def verifies(self, value: str) -> bool:
        """Whether we have signed this, found out without the package."""
        if not re.fullmatch(r"[\w-]{22,256}\.[\w-]{43}", value, re.ASCII):
            return False
        sid, _, signature = value.partition(".")
        given = urlsafe_b64decode(signature + "=")
        return any(hmac.compare_digest(given, _signature(sid, key)) for key in self.keys)

    def _add_views(self) -> None:
        def look() -> Seen:
            repr(session)
            for name in ("handle", "expires_at", "permanent", "modified", "new"):
                getattr(session, name)
            session.fresh(60)
            return Seen(
                dict(session),
                session.subject,
                session.created_at,
                session.authenticated_at,
                session.lifetime,
            )

        def add(name: str, action: Callable[[], Any]) -> None:
            def view() -> str:
                presented = request.cookies.getlist("session")
                self._seen.append((look(), presented))
                action()
                return ""

            self.app.add_url_rule(f"/{name}", name, view)

        for name, action in ACTIONS.items():
            add(name, action)


def _increment(session: Any) -> None:
    session["count"] = 1


def _reload() -> None:
    session["b"] = 2
    session.save()
    session.reload()


#: What a view does after it has looked at the session.
ACTIONS: dict[str, Callable[[], Any]] = {
    "read": lambda: None,
    "begin": lambda: session.update(DATA),
    "write": lambda: session.update(b=2),
    "sign-in": lambda: session.update(_user_id="grace"),
    "sign-out": lambda: session.pop("_user_id", None),
    "messages": lambda: session.pop("_flashes", None),
    "count": lambda: session.atomic(_increment),
    "save": _reload,
    "touch": lambda: session.touch(),
    "regenerate": lambda: session.regenerate(),
    "prove": lambda: session.reauthenticated(),
    "anew": lambda: session.regenerate(keep=False),
    "clear": lambda: session.clear(),
    "destroy": lambda: session.destroy(),
}


def signed(sid: str, key: str) -> str:
    return Identity([key]).sign(sid)


@cache
def _derived(key: str) -> bytes:
    return hmac.digest(key.encode(), b"flask-serverside.session-id", "sha256")


def _signature(sid: str, key: str) -> bytes:
    return hmac.digest(_derived(key), sid.encode(), hashlib.sha256)


class Spelling(logging.Handler):
    """Spells out each message, as a real one would, and shows it to nobody."""

    def emit(self, record: logging.LogRecord) -> None:
        record.getMessage().encode("utf-8")


#: Instead of the operating system's: an input that fails does so again.
RANDOM = random.Random(0)


def prepare() -> None:
    secrets.token_bytes = RANDOM.randbytes  # type: ignore[assignment]
    log = logging.getLogger("flask_serverside")
    log.handlers[:] = [Spelling()]
    log.setLevel("DEBUG")
    log.propagate = False
