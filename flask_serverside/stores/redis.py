"""Sessions in Redis, or in anything that speaks its protocol, such as Valkey.

One string a session, expired by the server. A load is one ``GET``, a save one script.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any
from typing import Self
from typing import TYPE_CHECKING
from typing import Unpack

import redis
from redis.backoff import NoBackoff
from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError
from redis.exceptions import ResponseError
from redis.retry import Retry

from ..errors import ConfigurationError
from ..errors import SerializationError
from .base import Store
from .base import StoreOptions
from .record import packed_times
from .record import packed_version
from .record import Record

if TYPE_CHECKING:
    from flask import Flask

KEY = "SESSION_REDIS"
DEFAULT = "redis://127.0.0.1:6379/0"


class _Script:
    def __init__(self, name: str) -> None:
        self.text = files(__package__).joinpath(name).read_text("utf-8")
        # EVALSHA names a script by its SHA-1; nothing rests on it.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_REPLACE = _Script("replace.lua")
_TOUCH = _Script("touch.lua")


class RedisStore(Store):
    """One key a session: the prefix and the handle.

    :param client: a URL, or one of redis-py's clients: for a single server, a cluster, or
        what sentinel's ``master_for()`` returns. A client that is given keeps its own time
        limits and retries.
    """

    unavailable = (
        redis.exceptions.ConnectionError,
        redis.exceptions.TimeoutError,
        redis.exceptions.ReadOnlyError,
        redis.exceptions.OutOfMemoryError,
        redis.exceptions.ClusterDownError,
        redis.exceptions.MasterDownError,
        redis.exceptions.TryAgainError,
    )
    failed = (redis.exceptions.RedisError,)

    def __init__(self, client: Any = DEFAULT, **options: Unpack[StoreOptions]) -> None:
        super().__init__(**options)
        self._ours = isinstance(client, str)
        self._client = self._connect(client) if self._ours else _checked(client)

    @classmethod
    def from_app(cls, app: Flask, **options: Unpack[StoreOptions]) -> Self:
        return cls(app.config.get(KEY, DEFAULT), **options)

    def close(self) -> None:
        if self._ours:
            self._client.close()

    def _connect(self, url: str) -> redis.Redis:
        try:
            return redis.Redis.from_url(
                url,
                socket_timeout=self.timeout,
                socket_connect_timeout=self.timeout,
                # The pool replaces connections that the server has closed. Trying again
                # after a time limit would only double it.
                retry=Retry(NoBackoff(), 0),
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(KEY, url, f"a Redis URL ({error})") from error

    def _create(self, record: Record) -> bool:
        ttl = record.expires - record.seen
        return bool(self._send("SET", self._key(record), record.pack(), "PX", ttl, "NX"))

    def _load(self, handle: str) -> Record | None:
        packed = self._send("GET", self.prefix + handle)
        return None if packed is None else Record.unpack(handle, packed)

    def _replace(self, record: Record) -> Record | None:
        standing = self._run(
            _REPLACE,
            self._key(record),
            packed_version(record.version - 1),
            packed_version(record.seen),
            record.expires - record.seen,
            record.pack(),
        )
        if standing == 1:
            return record
        return None if standing is None else Record.unpack(record.handle, standing)

    def _touch(self, record: Record) -> bool:
        extended = self._run(
            _TOUCH,
            self._key(record),
            packed_version(record.version),
            packed_times(record.seen, record.expires),
            record.expires - record.seen,
        )
        return bool(extended)

    def _delete(self, handle: str) -> bool:
        return bool(self._send("DEL", self.prefix + handle))

    def _key(self, record: Record) -> str:
        return self.prefix + record.handle

    def _run(self, script: _Script, *arguments: Any) -> Any:
        try:
            return self._send("EVALSHA", script.sha, 1, *arguments)
        except NoScriptError:
            return self._send("EVAL", script.text, 1, *arguments)

    def _send(self, *command: Any) -> Any:
        try:
            # Records are bytes, whatever the client's ``decode_responses`` says.
            return self._client.execute_command(*command, **{NEVER_DECODE: []})
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            raise SerializationError(
                f"What is stored under a key of RedisStore is not a record: {error}"
            ) from error


def _checked(client: Any) -> Any:
    clients = isinstance(client, redis.Redis | redis.RedisCluster)
    if not clients or isinstance(client, redis.client.Pipeline):
        raise ConfigurationError(
            KEY,
            client,
            "a Redis URL, or a redis.Redis or redis.RedisCluster",
            "Of sentinel, give what its master_for() returns. To use the server on this "
            "machine, leave the key out.",
        )
    return client
