"""The configuration as it was understood, in words, without its secrets."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from flask import Flask

from ..config import FORMATS
from ..config import POLICIES
from ..config import secret_keys
from ..config import Settings
from ..errors import shown
from ..saving.times import date_of
from ..sealing.compression import CODES
from ..sealing.encryption import PLAINTEXT_UNTIL
from ..web import cookies
from .times import exactly
from .times import iso

#: Where a key is not the setting's name after ``SESSION_``.
_KEYS = {
    "lifetime": "PERMANENT_SESSION_LIFETIME",
    "prefix": "SESSION_KEY_PREFIX",
    "serializer": "SESSION_SERIALIZATION_FORMAT",
    "touch_on_read": "SESSION_REFRESH_EACH_REQUEST",
    "bind": "SESSION_BINDING",
    "overflow": "SESSION_SUBJECT_OVERFLOW",
    "encryption": "SESSION_ENCRYPTION_KEYS",
    "resolve": "SESSION_ON_CONFLICT",
}
#: What the stores that come with the package read, and what is told along with another key.
STORE_KEYS = {
    *("SESSION_TYPE", "SESSION_MEMORY_THRESHOLD", "SESSION_REDIS", "SESSION_MEMCACHED"),
    *("SESSION_MONGODB", "SESSION_MONGODB_DB", "SESSION_MONGODB_COLLECT"),
    "SESSION_MONGODB_CREATE",
    *("SESSION_SQLALCHEMY", "SESSION_SQLALCHEMY_OPTIONS"),
    *("SESSION_SQLALCHEMY_TABLE", "SESSION_SQLALCHEMY_SCHEMA"),
    *("SESSION_SQLALCHEMY_BIND_KEY", "SESSION_SQLALCHEMY_CREATE", "SESSION_PURGE_INTERVAL"),
    PLAINTEXT_UNTIL,
}


def key_of(setting: str) -> str:
    return _KEYS.get(setting, f"SESSION_{setting.upper()}")


def configuration(app: Flask, settings: Settings) -> dict[str, str]:
    """Each key with what it means."""
    config: Mapping[str, Any] = app.config
    *fallbacks, key = secret_keys(config) or [""]
    told = {
        "SECRET_KEY": f"set, {len(key)} characters" if key else "not set",
        "SECRET_KEY_FALLBACKS": _number(len(fallbacks), "key"),
        "SESSION_TYPE": shown(config.get("SESSION_TYPE", "memory")),
    }
    for name in sorted(config):
        if name in STORE_KEYS - told.keys() - {PLAINTEXT_UNTIL}:
            told[name] = shown(config[name])
    for field in fields(settings):
        in_words = _WORDS.get(field.name, _in_words)
        told[key_of(field.name)] = in_words(getattr(settings, field.name))
    return told


def cookie(app: Flask, settings: Settings) -> dict[str, str]:
    """What carries the id, with the cookie's attributes."""
    if settings.header is not None:
        return {"header": settings.header}
    interface, secure = app.session_interface, cookies.secure(app.config)
    return {
        "name": interface.get_cookie_name(app),
        "Domain": interface.get_cookie_domain(app) or "none: this host only",
        "Path": interface.get_cookie_path(app),
        "Secure": "as the request" if secure is None else _in_words(secure),
        "HttpOnly": _in_words(interface.get_cookie_httponly(app)),
        "SameSite": str(interface.get_cookie_samesite(app)),
        "Partitioned": _in_words(cookies.flag(app.config, "SESSION_COOKIE_PARTITIONED")),
    }


def _in_words(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return exactly(value) if isinstance(value, float) else str(value)


def _number(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def _function(function: Any) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}:{name}".lstrip(":")


def _serializer(serializer: Any) -> str:
    names = {made: name for name, made in FORMATS.items()}
    return names.get(type(serializer)) or _function(type(serializer))


def _encryption(encryption: Any) -> str:
    if encryption is None:
        return "none"
    until = encryption.plaintext_until
    plain = f", not needed until {iso(date_of(until))}" if until else ""
    return _number(len(encryption.keys), "key") + plain


def _compression(compression: Any) -> str:
    names = {code: name for name, code in CODES.items()}
    return "none" if compression is None else names[compression.code]


def _resolve(resolve: Any) -> str:
    names = {function: name for name, function in POLICIES.items()}
    return names.get(resolve) or _function(resolve)


#: What is not told as its type says.
_WORDS: dict[str, Callable[[Any], str]] = {
    "serializer": _serializer,
    "bind": lambda bind: "none" if bind is None else _function(bind),
    "encryption": _encryption,
    "compression": _compression,
    "resolve": _resolve,
    "max_size": lambda size: "the store's own" if size is None else f"{size} bytes",
    "id_length": lambda length: f"{length} bytes",
    "prefix": repr,
}
