"""What this package raises, and nothing else: :exc:`SessionError` covers all of it."""

from __future__ import annotations

import re
from datetime import timedelta

from werkzeug.exceptions import Conflict
from werkzeug.exceptions import ServiceUnavailable

#: What looks like an address, up to its last @. With a slip in it, any of that may be a part of
#: a password.
_PASSWORD = re.compile(r"(?s)^(b?['\"]?(?:[A-Za-z][A-Za-z0-9+.-]*://)?).*@")
#: In a query, where MongoDB has options within an option.
_QUERY = re.compile(
    r"(?i)([?&;,=][^=:,&;\s]*(?:passw(?:or)?d|pwd|secret|token)[^=:,&;\s]*[=:])([^&;'\"]*)"
)


def shown(value: object) -> str:
    """A configuration value for people: users and passwords in URLs are masked, and of an
    object there is only its type, since it may hold secrets, too.
    """
    plain = isinstance(value, str | bytes | int | float | list | tuple | timedelta | type)
    text = repr(value) if plain or value is None else f"<{type(value).__qualname__} object>"
    return _PASSWORD.sub(r"\1***@", _QUERY.sub(_masked, text))


def _masked(option: re.Match[str]) -> str:
    """Its @ stays, since what stands before that is masked, too."""
    return f"{option[1]}***" + ("@" if "@" in option[2] else "")


class SessionError(Exception):
    """Anything that goes wrong in this package."""


class ConfigurationError(SessionError):
    """A configuration key has a value that cannot work. Raised by ``Session(app)``, or on
    first use for what only then can be known.

    :param key: the configuration key, such as ``SESSION_TYPE``.
    :param value: what was found there. In the message passwords in URLs are masked, and of
        an object there is only its type, since it may hold secrets, too.
    :param allowed: what would be accepted.
    :param advice: what to do, where that is more than "set it to something allowed".
    """

    def __init__(self, key: str, value: object, allowed: str, advice: str = "") -> None:
        super().__init__(
            f"{key} = {shown(value)}: expected {allowed}." + (f" {advice}" if advice else "")
        )
        self.key = key


class SerializationError(SessionError):
    """Session data cannot be turned into bytes, or stored bytes not into session data."""


class SessionTooLarge(SessionError):
    """The session is larger than ``SESSION_MAX_SIZE`` or than the server accepts."""


class SessionConflict(SessionError):
    """Others kept saving this session, so that our changes could not be stored."""


class SessionGone(SessionError):
    """The session was ended while this request was using it."""


class TooManySessions(SessionError, Conflict):
    """The user has ``SESSION_MAX_PER_SUBJECT`` sessions already, and
    ``SESSION_SUBJECT_OVERFLOW`` is ``"refuse"``. Nobody is signed in, and the session is as it
    was stored: what the request has changed in it is dropped.

    Also a :class:`werkzeug.exceptions.Conflict`: unless the application handles it, the
    client is answered 409.
    """

    def __init__(self, most: int | None) -> None:
        times = "once" if most == 1 else f"{most} times"
        super().__init__(f"You are signed in {times} already. Sign out somewhere else first.")

    def __str__(self) -> str:
        return str(self.description)


class NotSupported(SessionError):
    """The configured store cannot do this."""


class StoreError(SessionError):
    """The store refused an operation for a reason that trying again will not cure."""


class StoreUnavailable(StoreError, ServiceUnavailable):
    """The store cannot be reached, or did not answer in ``SESSION_STORE_TIMEOUT``.

    Also a :class:`werkzeug.exceptions.ServiceUnavailable`: unless the application
    handles it, the client is answered 503. The answer never shows the message, which
    names hosts and ports; the log does.
    """

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message

    def __str__(self) -> str:
        return self.message
