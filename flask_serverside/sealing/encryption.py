"""``SESSION_ENCRYPTION_KEYS``: what is stored is of no use without the client's cookie.

AES-256-GCM (NIST SP 800-38D). Each session has a key of its own, which HKDF (RFC 5869)
derives from the application's key and the session's id. The store has neither.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from typing import NamedTuple

from ..errors import ConfigurationError
from ..errors import SerializationError

KEYS = "SESSION_ENCRYPTION_KEYS"
PLAINTEXT_UNTIL = "SESSION_ENCRYPTION_PLAINTEXT_UNTIL"
KEY_SIZE = 32
_NONCE_SIZE = 12
_INFO = b"flask-serverside.encryption"


class Encryption(NamedTuple):
    """Encrypts with the first key, decrypts with any of them."""

    keys: list[bytes]
    #: Until when what was stored without encryption is read; milliseconds since the epoch.
    plaintext_until: int = 0

    def encrypt(self, sid: str, data: bytes, context: bytes) -> bytes:
        """:param context: what belongs to it, and is not to be exchanged either."""
        nonce = secrets.token_bytes(_NONCE_SIZE)
        sealed: bytes = _cipher(self.keys[0], sid).encrypt(nonce, data, context)
        return nonce + sealed

    def decrypt(self, sid: str, sealed: bytes, context: bytes) -> tuple[bytes, bool]:
        """The data, and whether the first key was the one.

        :raises SerializationError: it is not what was encrypted for this session.
        """
        from cryptography.exceptions import InvalidTag

        nonce, sealed = sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:]
        if len(nonce) == _NONCE_SIZE:
            for number, key in enumerate(self.keys):
                try:
                    return _cipher(key, sid).decrypt(nonce, sealed, context), number == 0
                except InvalidTag:
                    pass
        raise SerializationError(
            f"It was encrypted with none of {KEYS}, or altered, or belongs to another record."
        )


def _cipher(key: bytes, sid: str) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derive = HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=key, info=_INFO).derive
    return AESGCM(derive(sid.encode("ascii")))


def configured(config: Mapping[str, Any]) -> Encryption | None:
    """:raises ConfigurationError: a key that is none, or no library for it. No key is shown."""
    value: Any = config.get(KEYS)
    until = _until(config)
    if value is None:
        if until:
            raise ConfigurationError(
                PLAINTEXT_UNTIL, config[PLAINTEXT_UNTIL], f"to be left out without {KEYS}"
            )
        return None
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple) or not value:
        raise _no_key(value)
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        advice = "pip install 'flask-serverside[encryption]'."
        raise ConfigurationError(KEYS, type(value), "cryptography installed", advice) from error
    return Encryption([_key(one) for one in value], until)


def _key(value: Any) -> bytes:
    key = value
    if isinstance(value, str):
        try:
            padded = value.strip() + "=" * (-len(value.strip()) % 4)
            key = base64.b64decode(padded, altchars=b"-_", validate=True)
        except ValueError:
            raise _no_key(value) from None
    if not isinstance(key, bytes) or len(key) != KEY_SIZE:
        raise _no_key(value)
    return key


def _no_key(value: Any) -> ConfigurationError:
    return ConfigurationError(
        KEYS,
        type(value),  # not the value: it is, or was meant to be, a secret
        f"a list of keys, each {KEY_SIZE} random bytes, or these in base64url",
        'python -c "import secrets; print(secrets.token_urlsafe(32))" makes one.',
    )


def _until(config: Mapping[str, Any]) -> int:
    value: Any = config.get(PLAINTEXT_UNTIL)
    if value is None:
        return 0
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ConfigurationError(
            PLAINTEXT_UNTIL,
            value,
            "a datetime with a time zone, or a string such as '2026-12-31T00:00:00+00:00'",
        )
    return int(moment.timestamp() * 1000)
