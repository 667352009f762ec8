"""Session ids: made, signed for the cookie, verified, and hashed into handles.

The id is the secret of a session. It exists in the cookie and in memory while a request
runs; stores, logs and lists only ever see its handle.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence

from itsdangerous import Signer
from itsdangerous import want_bytes
from itsdangerous.signer import SigningAlgorithm

#: An id and a SHA-256 signature, both base64url. At least 16 bytes of randomness
#: (OWASP Session Management Cheat Sheet asks for 64 bits), at most 192.
_SHAPE = re.compile(r"[A-Za-z0-9_-]{22,256}\.[A-Za-z0-9_-]{43}")
_PURPOSE = b"flask-serverside.session-id"
_HANDLE = re.compile(r"[0-9a-f]{64}")


def new_id(length: int = 32) -> str:
    """A new id of ``length`` random bytes from the operating system's generator."""
    return secrets.token_urlsafe(length)


def successor_of(sid: str, rotation: bytes, length: int = 32) -> str:
    """The id that follows this one in a rotation, of ``length`` bytes. Whoever has the store
    has ``rotation``, 32 random bytes, and not the old id; so the new one cannot be told.
    """
    digest = hashlib.shake_256(b"flask-serverside.successor\0" + rotation + sid.encode())
    return urlsafe_b64encode(digest.digest(length)).rstrip(b"=").decode()


def mark_of(sid: str, client: str) -> bytes:
    """16 bytes by which the client is known again, of no use without the id."""
    return hashlib.sha256(f"{sid}\0{client}".encode(errors="surrogatepass")).digest()[:16]


def handle_of(sid: str) -> str:
    """The name under which the session with this id is stored: its SHA-256, in hex."""
    return hashlib.sha256(sid.encode()).hexdigest()


def is_handle(text: object) -> bool:
    """Whether it could be the name of a session, so that a store may be asked for it."""
    return isinstance(text, str) and _HANDLE.fullmatch(text) is not None


class Identity:
    """Signs ids with HMAC-SHA256 under a key derived for this purpose alone.

    :param keys: the application's secret keys, oldest first: all verify, the last signs.
    """

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        self._signers = [_signer(key) for key in reversed(keys)]

    def sign(self, sid: str) -> str:
        """The cookie's value for this id."""
        return self._signers[0].sign(sid).decode()

    def verify(self, cookie: str) -> str | None:
        """The id in a cookie's value, or ``None`` if we did not sign it.

        The shape is looked at first, so that rubbish costs no cryptography.
        """
        if not well_formed(cookie):
            return None
        sid, sent = _id_in(cookie), cookie.encode()
        for signer in self._signers:
            # To the letter: what only decodes to the same signature is not what we have sent.
            if hmac.compare_digest(signer.sign(sid), sent):
                return sid
        return None

    def is_outdated(self, cookie: str) -> bool:
        """Whether a cookie that was verified was signed with a former key."""
        if len(self._signers) == 1:
            return False
        return not hmac.compare_digest(self.sign(_id_in(cookie)), cookie)


def well_formed(cookie: str) -> bool:
    """Whether a cookie's value looks like one of ours, whoever has signed it."""
    return _SHAPE.fullmatch(cookie) is not None


class _HMAC(SigningAlgorithm):
    """HMAC-SHA256 under one key, which is hashed once and not for each cookie anew."""

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.new(key, digestmod="sha256")

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        mac = self._keyed.copy()
        mac.update(value)
        return mac.digest()


def _signer(key: str | bytes) -> Signer:
    # What Signer's key_derivation="hmac" does for each cookie anew is done once.
    derived = hmac.digest(want_bytes(key), _PURPOSE, "sha256")
    return Signer(derived, key_derivation="none", algorithm=_HMAC(derived))


def _id_in(cookie: str) -> str:
    return cookie.partition(".")[0]
