"""Whether sessions work here, and what an operator should know or change."""

from __future__ import annotations

import difflib
import secrets
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from flask import Flask

from ..config import secret_keys
from ..config import Settings
from ..errors import StoreError
from ..stores import Examination
from ..stores import IndexedStore
from ..stores import Record
from ..stores import Store
from ..web.cookies import flag
from ..web.cookies import secure
from . import configuration as understood
from .times import roughly

#: Seconds by which clocks may differ.
_CLOCKS = 60
#: Bytes of a key that nobody can guess.
_KEY = 16
#: Keys that stand in documentation and examples.
_KNOWN_KEYS = {
    *("your-secret-key-here", "your_secret_key_here", "replace-me-with-a-secret"),
    *("this-is-a-secret-key", "read this from a secret", "super-secret-password"),
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",  # Flask's quickstart
}


@dataclass
class Checkup:
    """What ``flask session check`` tells."""

    configuration: dict[str, str]
    cookie: dict[str, str]
    store: dict[str, str] = field(default_factory=dict)
    #: Milliseconds that each operation has taken.
    probe: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Why the store could not be used.
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check(app: Flask, store: Store) -> Checkup:
    """:raises ConfigurationError: a key that is looked at with each request cannot work."""
    settings = Settings.from_config(app.config)
    found = Checkup(understood.configuration(app, settings), understood.cookie(app, settings))
    found.warnings += _about_configuration(app, settings)
    found.notes += _good_to_know(app, settings)
    try:
        examination = store.examine()
        found.store = _told(store, examination)
        found.warnings += _about_store(app, store, examination)
        found.notes += examination.notes
        found.notes += _about_sessions(store)
        found.probe, wrong = _probe(store)
        found.warnings += wrong
    except StoreError as error:
        found.error = str(error)
    return found


def _about_configuration(app: Flask, settings: Settings) -> Iterator[str]:
    key = next(reversed(secret_keys(app.config)), None)
    if key is None:
        yield "SECRET_KEY is not set: no session can be written. Set 32 random bytes."
    elif len(key) < _KEY or key in _KNOWN_KEYS:
        yield (
            "SECRET_KEY is short, or stands in many examples: whoever guesses it can make up "
            'ids. Set what python -c "import secrets; print(secrets.token_hex())" prints.'
        )
    if settings.header is None and secure(app.config) is False:
        yield (
            "SESSION_COOKIE_SECURE is off: browsers also send the id by plain HTTP, where "
            'others can read it. Set it to true or "auto".'
        )
    if settings.header is None and not flag(app.config, "SESSION_COOKIE_HTTPONLY"):
        yield "SESSION_COOKIE_HTTPONLY is off: any script in a page can read the id. Set it."
    for name in ("DEBUG", "TESTING"):
        if app.config.get(name):
            yield f"{name} is on. Switch it off wherever others can reach the application."
    for name, meant in _misspelt(app):
        yield f"{name} is no key of this package. {meant} is: correct it."


def _good_to_know(app: Flask, settings: Settings) -> Iterator[str]:
    if settings.absolute_lifetime is None:
        yield (
            "SESSION_ABSOLUTE_LIFETIME is not set: a session that is used never ends (OWASP "
            "Session Management Cheat Sheet: Absolute Timeout)."
        )
    if settings.encryption is None:
        yield "SESSION_ENCRYPTION_KEYS is not set: whoever can read the store reads sessions."


def _misspelt(app: Flask) -> Iterator[tuple[str, str]]:
    ours = understood.STORE_KEYS | {understood.key_of(name) for name in Settings.__slots__}
    ours |= {name for name in app.default_config if name.startswith("SESSION_")}
    for name in app.config:
        if name.startswith("SESSION_") and name not in ours:
            for meant in difflib.get_close_matches(name, ours, 1, 0.9):
                yield name, meant


def _about_store(app: Flask, store: Store, examination: Examination) -> Iterator[str]:
    if store.one_process and not (app.debug or app.testing):
        yield (
            "Sessions are kept in memory: each process has its own, and they end with it. This "
            "command sees those of its own process, which are none. Set SESSION_TYPE."
        )
    if examination.ahead is not None and abs(examination.ahead) > _CLOCKS:
        yield (
            "The server's clock and this machine's differ by "
            f"{roughly(abs(examination.ahead))}. If this one is wrong, sessions end too early "
            "or too late here. Synchronize them."
        )
    yield from examination.warnings


def _about_sessions(store: Store) -> Iterator[str]:
    if isinstance(store, IndexedStore) and not store.one_process and store.is_empty():
        yield (
            "There is no session in the store. If users are signed in, theirs are in another "
            "database, or under another prefix, table or collection: compare the keys above."
        )


def _told(store: Store, examination: Examination) -> dict[str, str]:
    told = {"store": type(store).__name__}
    told |= {"driver": examination.driver} if examination.driver else {}
    told |= {"server": examination.server} if examination.server else {}
    told |= dict(examination.facts)
    ahead = examination.ahead
    if ahead is not None:
        way = "behind" if ahead < 0 else "ahead of"
        told["clock"] = f"{abs(ahead):.1f} s {way} this machine's"
    return told


def _probe(store: Store) -> tuple[dict[str, float], list[str]]:
    """Store a record, read it, change it and remove it: how long each takes, in milliseconds,
    and what is not as it should be.
    """
    handle, now = secrets.token_hex(32), store.now()
    record = Record(handle, b"flask session check", 1, now, now, now + 60_000, 60_000)
    changed = record._replace(payload=b"as changed", version=2)
    steps: dict[str, tuple[Callable[[], Any], Any]] = {
        "create": (lambda: store.create(record), True),
        "load": (lambda: _without_token(store.load(handle)), record),
        "replace": (lambda: store.replace(changed), changed),
        "delete": (lambda: store.delete(handle), True),
    }
    took, wrong = {}, []
    try:
        for name, (operate, expected) in steps.items():
            began = time.perf_counter()
            answer = operate()
            took[name] = round((time.perf_counter() - began) * 1000, 2)
            if answer != expected:
                wrong.append(
                    f"The probe's {name} was not answered as it should be: the store loses "
                    "what was written a moment ago, or answers from a copy. Look at the server."
                )
    finally:
        if "create" in took and "delete" not in took:
            store.delete(handle)
    return took, wrong


def _without_token(record: Record | None) -> Record | None:
    return record and record._replace(token=None)
