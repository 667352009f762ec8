"""Session ids: made, signed for the cookie, verified, and hashed into handles.

The id is the secret of a session. It exists in the cookie and in memory while a request
runs; stores, logs and lists only ever see its handle.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable

from itsdangerous import BadSignature
from itsdangerous import Signer

#: An id and a SHA-256 signature, both base64url. At least 16 bytes of randomness
#: (OWASP Session Management Cheat Sheet asks for 64 bits), at most 192.
_SHAPE = re.compile(r"[A-Za-z0-9_-]{22,256}\.[A-Za-z0-9_-]{43}")


def new_id(length: int = 32) -> str:
    """A new id of ``length`` random bytes from the operating system's generator."""
    return secrets.token_urlsafe(length)


def handle_of(sid: str) -> str:
    """The name under which the session with this id is stored: its SHA-256, in hex."""
    return hashlib.sha256(sid.encode("ascii")).hexdigest()


class Identity:
    """Signs ids with HMAC-SHA256 under a key derived for this purpose alone.

    :param keys: the application's secret keys, oldest first: all verify, the last signs.
    """

    def __init__(self, keys: Iterable[str | bytes]) -> None:
        self._signer = Signer(
            [key.encode() if isinstance(key, str) else key for key in keys],
            salt=b"flask-serverside.session-id",
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )

    def sign(self, sid: str) -> str:
        """The cookie's value for this id."""
        return self._signer.sign(sid).decode("ascii")

    def verify(self, cookie: str) -> str | None:
        """The id in a cookie's value, or ``None`` if we did not sign it.

        The shape is looked at first, so that rubbish costs no cryptography.
        """
        if not _SHAPE.fullmatch(cookie):
            return None
        try:
            return self._signer.unsign(cookie).decode("ascii")
        except BadSignature:
            return None
