"""What a browser demands of a cookie, checked at start-up, before it drops ours in silence.

The rules are those of RFC 6265bis, and of CHIPS for ``Partitioned``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .. import values
from ..errors import ConfigurationError

#: A browser ignores a cookie whose name and value are longer, in bytes (RFC 6265bis, 5.6) ...
LARGEST = 4096
#: ... or an attribute that is (5.6) ...
LARGEST_ATTRIBUTE = 1024
#: ... and keeps none for longer, in seconds (5.5).
OLDEST = 400 * 24 * 3600

_SIGNATURE = 44
_DOMAIN = re.compile(r"[^\s;,/:]+")
_PATH = re.compile(r"/[\x21-\x3a\x3c-\x7e]*")


def secure(config: Mapping[str, Any]) -> bool | None:
    """``None``: as the request is, which is what ``"auto"`` says."""
    if config.get("SESSION_COOKIE_SECURE") == "auto":
        return None
    return flag(config, "SESSION_COOKIE_SECURE", "true, false or auto")


def flag(config: Mapping[str, Any], key: str, allowed: str = "true or false") -> bool:
    """One of Flask's keys that say yes or no; ``None`` is no, as in Flask."""
    return config.get(key) is not None and values.boolean(config, key, False, allowed)


def samesite(config: Mapping[str, Any]) -> str:
    """``Lax`` unless set: some browsers take a cookie that says nothing for ``None``."""
    value: Any = config.get("SESSION_COOKIE_SAMESITE")
    if value is None:
        return "Lax"
    if not isinstance(value, str) or value.title() not in ("Lax", "Strict", "None"):
        raise ConfigurationError(
            "SESSION_COOKIE_SAMESITE", value, "'Lax', 'Strict' or 'None', as a string"
        )
    return value.title()


def check(config: Mapping[str, Any], id_length: int) -> None:
    """:raises ConfigurationError: a browser would not keep this cookie, or not send it back."""
    _check_name(config, id_length)
    _check_text(config, "SESSION_COOKIE_DOMAIN", _DOMAIN, "a host's name")
    for key in ("SESSION_COOKIE_PATH", "APPLICATION_ROOT"):
        _check_text(config, key, _PATH, "a path that begins with / and has no ; or blank")
    _check_together(config)


def _check_name(config: Mapping[str, Any], id_length: int) -> None:
    key = "SESSION_COOKIE_NAME"
    name: Any = config.get(key, "session")
    if not isinstance(name, str) or not values.TOKEN.fullmatch(name):
        raise ConfigurationError(key, name, "letters, digits and !#$%&'*+-.^_`|~")
    if len(name) + -(-id_length * 4 // 3) + _SIGNATURE > LARGEST:
        raise ConfigurationError(key, name, f"at most {LARGEST} bytes, with the value")


def _check_text(
    config: Mapping[str, Any], key: str, shape: re.Pattern[str], allowed: str
) -> None:
    value: Any = config.get(key)
    if value is None:
        return
    if not isinstance(value, str) or not shape.fullmatch(value):
        raise ConfigurationError(key, value, allowed)
    if len(value) > LARGEST_ATTRIBUTE:
        raise ConfigurationError(key, value, f"at most {LARGEST_ATTRIBUTE} bytes")


def _check_together(config: Mapping[str, Any]) -> None:
    """What one key says, others must say, too."""
    name = config.get("SESSION_COOKIE_NAME", "session").lower()
    path = config.get("SESSION_COOKIE_PATH") or config.get("APPLICATION_ROOT", "/")
    host = name.startswith("__host-")
    reasons = {
        "a name that begins with __Host-": host,
        "a name that begins with __Secure-": name.startswith("__secure-"),
        "SESSION_COOKIE_SAMESITE = 'None'": samesite(config) == "None",
        "SESSION_COOKIE_PARTITIONED": flag(config, "SESSION_COOKIE_PARTITIONED"),
    }
    is_secure = secure(config)
    flag(config, "SESSION_COOKIE_HTTPONLY")
    for reason, given in reasons.items():
        if given and is_secure is not True:
            key = "SESSION_COOKIE_SECURE"
            raise ConfigurationError(key, config.get(key, False), f"true, with {reason}")
    if host and path != "/":
        raise ConfigurationError("SESSION_COOKIE_PATH", path, "'/', with a __Host- name")
    if host and config.get("SESSION_COOKIE_DOMAIN"):
        key = "SESSION_COOKIE_DOMAIN"
        raise ConfigurationError(key, config[key], "none, with a __Host- name")
