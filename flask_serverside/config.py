"""The application's ``SESSION_*`` keys as one object; a bad value is named at start-up."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import Literal

from flask import Request
from werkzeug.utils import import_string

from . import values
from .errors import ConfigurationError
from .merge import mine_wins
from .merge import refuse
from .merge import Resolve
from .sealing import compression
from .sealing import encryption
from .sealing.compression import Compression
from .sealing.encryption import Encryption
from .sealing.serializers import JSON
from .sealing.serializers import MsgPack
from .sealing.serializers import Serializer
from .web import cookies

FORMATS: dict[str, type[JSON] | type[MsgPack]] = {"msgpack": MsgPack, "json": JSON}


#: ``None``: the whole of the later save is kept, and no key is looked at.
POLICIES: dict[str, Resolve | None] = {"merge": mine_wins, "error": refuse, "last": None}

#: What a session is bound to: of a request, something that stays the same for one client.
Bind = Callable[[Request], str | None]

Overflow = Literal["evict", "refuse"]

#: Headers that mean something else.
_TAKEN = re.compile(
    r"(?i)(content-.*|cache-control|(set-)?cookie|vary|host|connection|date|location|"
    r"transfer-encoding|authorization|www-authenticate|x-forwarded-.*)$"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """All times in seconds."""

    #: What new sessions are.
    permanent: bool
    #: Bytes of randomness in an id.
    id_length: int
    prefix: str
    serializer: Serializer
    #: How long a session lives without being used: ``PERMANENT_SESSION_LIFETIME``.
    lifetime: float
    #: How long a session lives however much it is used.
    absolute_lifetime: float | None
    #: How much later a session must end for it to be extended, unless a tenth of its
    #: lifetime is less.
    touch_interval: float
    #: Whether reading extends a session, or only writing.
    touch_on_read: bool
    #: How long an id is in use before it is exchanged; ``None``: as long as the session.
    rotation_interval: float | None
    #: How long the old id leads to the new one.
    rotation_grace: float
    #: Whether a session ends when an id of it is used that was exchanged before.
    revoke_on_reuse: bool
    #: The session key that says whose session it is.
    subject_key: str | None
    #: Whether the id is exchanged whenever that is somebody else.
    regenerate_on_subject_change: bool
    #: What a session is bound to.
    bind: Bind | None
    #: Whether the client's user agent and address are kept.
    record_client: bool
    #: The most sessions that a subject may have; ``None``: any number.
    max_per_subject: int | None
    #: Which of them end when there are more.
    overflow: Overflow
    #: The header that carries the id, instead of the cookie.
    header: str | None
    encryption: Encryption | None
    compression: Compression | None
    max_size: int | None
    #: Decides about a key that two requests have changed; see ``POLICIES``.
    resolve: Resolve | None
    #: What happens to changes of a session that has ended meanwhile.
    on_gone: Literal["drop", "raise"]
    store_timeout: float

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """:raises ConfigurationError: names the key, the value and what is allowed."""
        secret_keys(config)  # for what it refuses
        id_length = values.integer(config, "SESSION_ID_LENGTH", 32, least=16, most=192)
        cookies.check(config, id_length)
        return cls(
            permanent=values.boolean(config, "SESSION_PERMANENT", True),
            id_length=id_length,
            prefix=values.text(config, "SESSION_KEY_PREFIX", "session:"),
            serializer=_serializer(config),
            lifetime=values.duration(config, "PERMANENT_SESSION_LIFETIME", 31 * 24 * 3600),
            absolute_lifetime=values.optional_duration(config, "SESSION_ABSOLUTE_LIFETIME"),
            touch_interval=values.duration(config, "SESSION_TOUCH_INTERVAL", 60, zero=True),
            touch_on_read=values.boolean(config, "SESSION_REFRESH_EACH_REQUEST", True),
            rotation_interval=_rotation_interval(config),
            rotation_grace=values.duration(config, "SESSION_ROTATION_GRACE", 10, zero=True),
            revoke_on_reuse=values.boolean(config, "SESSION_REVOKE_ON_REUSE", True),
            subject_key=values.optional_text(
                {"SESSION_SUBJECT_KEY": "_user_id", **config}, "SESSION_SUBJECT_KEY"
            ),
            regenerate_on_subject_change=values.boolean(
                config, "SESSION_REGENERATE_ON_SUBJECT_CHANGE", True
            ),
            bind=_bind(config),
            record_client=values.boolean(config, "SESSION_RECORD_CLIENT", False),
            max_per_subject=_max_per_subject(config),
            overflow=values.choice(config, "SESSION_SUBJECT_OVERFLOW", ("evict", "refuse")),
            header=_header(config),
            encryption=encryption.configured(config),
            compression=compression.configured(config.get(compression.KEY)),
            max_size=(
                None
                if config.get("SESSION_MAX_SIZE") is None
                else values.integer(config, "SESSION_MAX_SIZE", 0, least=64, most=2**31)
            ),
            resolve=_resolve(config),
            on_gone=values.choice(config, "SESSION_ON_GONE", ("drop", "raise")),
            store_timeout=values.duration(config, "SESSION_STORE_TIMEOUT", 2),
        )


def secret_keys(config: Mapping[str, Any]) -> list[str | bytes]:
    """All keys that verify a cookie, oldest first; the last one signs. Empty: none is set."""
    key: Any = config.get("SECRET_KEY")
    fallbacks: Any = config.get("SECRET_KEY_FALLBACKS") or []  # since Flask 3.1
    if isinstance(fallbacks, str | bytes):
        fallbacks = [fallbacks]
    for name, value in [
        ("SECRET_KEY", key or ""),
        *(("SECRET_KEY_FALLBACKS", f) for f in fallbacks),
    ]:
        if not isinstance(value, str | bytes):
            # Not the value itself: it is, or was meant to be, a secret.
            raise ConfigurationError(
                name, type(value), "a str or bytes, a list of them for _FALLBACKS"
            )
    return [*reversed(fallbacks), key] if key else []


def _serializer(config: Mapping[str, Any]) -> Serializer:
    key = "SESSION_SERIALIZATION_FORMAT"
    value: Any = config.get(key, "msgpack")
    if isinstance(value, str) and value in FORMATS:
        return FORMATS[value]()
    if isinstance(value, str) or not (hasattr(value, "dumps") and hasattr(value, "loads")):
        raise ConfigurationError(
            key, value, f"one of {', '.join(FORMATS)}, or an object with dumps and loads"
        )
    if not isinstance(value.dumps({}), bytes):
        raise ConfigurationError(key, value, "a serializer whose dumps returns bytes")
    serializer: Serializer = value
    return serializer


def _resolve(config: Mapping[str, Any]) -> Resolve | None:
    key = "SESSION_ON_CONFLICT"
    value: Any = config.get(key, "merge")
    if isinstance(value, str) and value in POLICIES:
        return POLICIES[value]
    allowed = f"one of {', '.join(POLICIES)}, a function (key, base, mine, theirs) -> value"
    resolve: Resolve = _function(key, value, allowed)
    return resolve


def _bind(config: Mapping[str, Any]) -> Bind | None:
    key = "SESSION_BINDING"
    value: Any = config.get(key)
    if value is None:
        return None
    if value == "user_agent":
        return _user_agent
    bind: Bind = _function(key, value, "none, user_agent, a function (request) -> string")
    return bind


def _user_agent(request: Request) -> str | None:
    return request.user_agent.string


def _function(key: str, value: Any, allowed: str) -> Any:
    allowed += ", or where to import one from, such as 'package.module:function'"
    if isinstance(value, str):
        try:
            value = import_string(value)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(key, value, allowed, str(error)) from error
    if not callable(value):
        raise ConfigurationError(key, value, allowed)
    return value


def _rotation_interval(config: Mapping[str, Any]) -> float | None:
    key = "SESSION_ROTATION_INTERVAL"
    interval = values.optional_duration(config, key)
    grace = values.duration(config, "SESSION_ROTATION_GRACE", 10, zero=True)
    if interval is not None and interval <= grace:
        raise ConfigurationError(
            key, config[key], f"none, or more than SESSION_ROTATION_GRACE ({grace:g} s)"
        )
    return interval


def _max_per_subject(config: Mapping[str, Any]) -> int | None:
    key = "SESSION_MAX_PER_SUBJECT"
    if config.get(key) is None:
        return None
    other = "SESSION_REGENERATE_ON_SUBJECT_CHANGE"
    if config.get("SESSION_SUBJECT_KEY", "") is None or not values.boolean(config, other, True):
        raise ConfigurationError(
            key, config[key], f"none, since SESSION_SUBJECT_KEY or {other} is off"
        )
    return values.integer(config, key, 0, least=1, most=10**6)


def _header(config: Mapping[str, Any]) -> str | None:
    key = "SESSION_HEADER"
    header = values.optional_text(config, key)
    if header is not None and (not values.TOKEN.fullmatch(header) or _TAKEN.match(header)):
        raise ConfigurationError(key, header, "the name of a header of its own: X-Session")
    return header
