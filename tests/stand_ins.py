"""pymemcache's mock client, with the ``cas`` that it lacks."""

from __future__ import annotations

import threading
from typing import Any

from pymemcache.test.utils import MockMemcacheClient


class CasMemcacheClient(MockMemcacheClient):  # type: ignore[misc]
    """Each change of an item gives it a new number, as on the server."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[Any, int] = {}
        self._count = 0
        self._lock = threading.RLock()

    def set(self, key: str, value: bytes, expire: int = 0, *options: Any, **more: Any) -> bool:
        with self._lock:
            self._count += 1
            self._numbers[self.check_key(key)] = self._count
            # The mock takes every expiry for a relative one.
            return bool(super().set(key, value, 0, *options, **more))

    def add(self, key: str, value: bytes, expire: int = 0, **options: Any) -> bool:
        with self._lock:
            return bool(super().add(key, value, expire, **options))

    def delete(self, key: str, noreply: bool = True) -> bool:
        with self._lock:
            return bool(super().delete(key, noreply))

    def gets(self, key: str) -> tuple[bytes | None, bytes | None]:
        with self._lock:
            value = self.get(key)
            number = None if value is None else b"%d" % self._numbers[self.check_key(key)]
            return value, number

    def cas(
        self, key: str, value: bytes, cas: bytes, expire: int = 0, **options: Any
    ) -> bool | None:
        with self._lock:
            _, number = self.gets(key)
            if number is None:
                return None
            return self.set(key, value, expire) if number == cas else False

    def close(self) -> None: ...
