"""The application's ``SESSION_*`` keys as one object; a bad value is named at start-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import Literal

from werkzeug.utils import import_string

from . import values
from .codec import JSON
from .codec import MsgPack
from .codec import Serializer
from .errors import ConfigurationError
from .merge import mine_wins
from .merge import refuse
from .merge import Resolve

FORMATS: dict[str, type[JSON] | type[MsgPack]] = {"msgpack": MsgPack, "json": JSON}


#: ``None``: the whole of the later save is kept, and no key is looked at.
POLICIES: dict[str, Resolve | None] = {"merge": mine_wins, "error": refuse, "last": None}


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
    #: The session key that says whose session it is.
    subject_key: str | None
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
        return cls(
            permanent=values.boolean(config, "SESSION_PERMANENT", True),
            id_length=values.integer(config, "SESSION_ID_LENGTH", 32, least=16, most=192),
            prefix=values.text(config, "SESSION_KEY_PREFIX", "session:"),
            serializer=_serializer(config),
            lifetime=values.duration(config, "PERMANENT_SESSION_LIFETIME", 31 * 24 * 3600),
            absolute_lifetime=(
                None
                if config.get("SESSION_ABSOLUTE_LIFETIME") is None
                else values.duration(config, "SESSION_ABSOLUTE_LIFETIME", 0)
            ),
            touch_interval=values.duration(config, "SESSION_TOUCH_INTERVAL", 60, zero=True),
            touch_on_read=values.boolean(config, "SESSION_REFRESH_EACH_REQUEST", True),
            subject_key=values.optional_text(
                {"SESSION_SUBJECT_KEY": "_user_id", **config}, "SESSION_SUBJECT_KEY"
            ),
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
    allowed = (
        f"one of {', '.join(POLICIES)}, a function (key, base, mine, theirs) -> value, or "
        "where to import one from, such as 'package.module:function'"
    )
    if isinstance(value, str):
        try:
            value = import_string(value)
        except ImportError as error:
            raise ConfigurationError(key, value, allowed, str(error)) from error
    if not callable(value):
        raise ConfigurationError(key, value, allowed)
    resolve: Resolve = value
    return resolve
