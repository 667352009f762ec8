"""Session data to the bytes that are compared and stored, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import SerializationError
from .serializers import Serializer


class Codec:
    """Encodes and decodes with one serializer, and explains what it cannot encode."""

    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer

    def encode(self, data: dict[str, Any]) -> bytes:
        """:raises SerializationError: names the first value that cannot be stored."""
        try:
            return self._serializer.dumps(data)
        except Exception as error:  # the border to a serializer that may be anybody's
            where, value = self._culprit(data)
            raise SerializationError(
                f"{where} cannot be stored, of type {type(value).__qualname__}: {error}. "
                "The stored session is unchanged."
            ) from error

    def decode(self, payload: bytes) -> dict[str, Any]:
        """:raises SerializationError: these bytes are not a session's data."""
        try:
            data = self._serializer.loads(payload)
        except Exception as error:  # the border: stored bytes, and anybody's serializer
            raise SerializationError(f"The stored data cannot be read: {error}") from error
        if not isinstance(data, dict):
            raise SerializationError(f"The stored data is no dict: {type(data).__qualname__}.")
        return data

    def fingerprint(self, value: Any) -> bytes:
        """The same for two values if they are the same, in type and however deep."""
        return self.encode({"": value})

    def _culprit(self, value: Any) -> tuple[str, Any]:
        """Follow the first thing that cannot be encoded down to where it has no parts."""
        where = "session"
        for _ in range(20):  # more is most likely a structure that contains itself
            for key, part in _parts(value):
                if not self._encodes(part):
                    where, value = f"{where}[{key!r}]", part
                    break
            else:
                break
        return where, value

    def _encodes(self, value: Any) -> bool:
        try:
            self._serializer.dumps(value)
        except Exception:  # as in encode
            return False
        return True


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
