"""Sessions in Redis, or in anything that speaks its protocol, such as Valkey.

One string a session, expired by the server. A load is one ``GET``, a save one script. A sorted
set for each subject names its sessions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from itertools import islice
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
from . import redis_examination
from .base import StoreOptions
from .examination import Examination
from .index import IndexedStore
from .record import packed_times
from .record import packed_version
from .record import Record

if TYPE_CHECKING:
    from flask import Flask

KEY = "SESSION_REDIS"
DEFAULT = "redis://127.0.0.1:6379/0"

#: Records fetched at a time when there is no end of them.
_BATCH = 1000
_HANDLE = re.compile(r"[0-9a-f]{64}")
#: What means something in a pattern of SCAN.
_SPECIAL = re.compile(r"[][*?^\\-]")


class _Script:
    def __init__(self, name: str) -> None:
        self.text = _text("common") + _text(name)
        # EVALSHA names a script by its SHA-1; nothing rests on it.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def _text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text("utf-8")


_CREATE = _Script("create")
_REPLACE = _Script("replace")
_TOUCH = _Script("touch")
_DELETE = _Script("delete")
_NOTE = _Script("note")


class RedisStore(IndexedStore):
    """One key a session: the prefix and the handle. One key a subject: the prefix, ``of:`` and
    the subject, with the handles of its sessions, sorted by when they expire.

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
        self._cluster = isinstance(self._client, redis.RedisCluster)

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
        if record.subject is not None:
            return bool(self._write(_CREATE, record, record.pack()))
        ttl = record.expires - record.seen
        return bool(self._send("SET", self._key(record), record.pack(), "PX", ttl, "NX"))

    def _load(self, handle: str) -> Record | None:
        packed = self._send("GET", self.prefix + handle)
        return None if packed is None else Record.unpack(handle, packed)

    def _replace(self, record: Record) -> Record | None:
        standing = self._write(
            _REPLACE, record, record.pack(), packed_version(record.version - 1)
        )
        if standing == 1:
            return record
        return None if standing is None else Record.unpack(record.handle, standing)

    def _touch(self, record: Record) -> bool:
        times = packed_times(record.seen, record.expires)
        return bool(self._write(_TOUCH, record, times, packed_version(record.version)))

    def _delete(self, handle: str) -> bool:
        packed = self._run(_DELETE, [self.prefix + handle])
        if packed is None:
            return False
        for record in self._legible(Record.unpack, handle, packed):
            if record.subject is not None and not record.ended:
                self._run(_NOTE, [self._index(record.subject)], handle, 0, 0)
        return True

    def _records(self, subject: str | None, beginning: str) -> Iterator[Record]:
        for handles in self._batches(subject, beginning):
            if self._cluster:  # where they are on different servers
                for handle in handles:
                    yield from self._legible(self._load, handle)
                continue
            loaded = self._send("MGET", *(self.prefix + handle for handle in handles))
            for handle, packed in zip(handles, loaded, strict=True):
                if packed is not None:
                    yield from self._legible(Record.unpack, handle, packed)

    def _batches(self, subject: str | None, beginning: str) -> Iterator[list[str]]:
        """The handles that the index names, or all that there are."""
        if subject is not None:
            named = self._send("ZRANGE", self._index(subject), 0, -1)
            names: Iterator[str] = map(_text_of, named)
        else:
            pattern = _SPECIAL.sub(r"\\\g<0>", self.prefix + beginning) + "*"
            keys = self._client.scan_iter(match=pattern, count=_BATCH)
            names = (_text_of(key).removeprefix(self.prefix) for key in keys)
        handles = filter(_HANDLE.fullmatch, names)
        while batch := list(islice(handles, _BATCH)):
            yield batch

    def _examine(self) -> Examination:
        return redis_examination.examine(self._client)

    def _key(self, record: Record) -> str:
        return self.prefix + record.handle

    def _index(self, subject: str) -> str:
        return f"{self.prefix}of:{subject}"

    def _write(self, script: _Script, record: Record, *arguments: Any) -> Any:
        """Run a script that writes a record, and notes it in the index of its subject. In a
        cluster these are on different servers: the index is then first to know a session, and
        last to forget it.
        """
        expires = 0 if record.ended else record.expires
        noted = (record.handle, expires, record.seen)
        arguments = (*noted, record.expires - record.seen, *arguments)
        key = self._key(record)
        if record.subject is None:
            return self._run(script, [key], *arguments)
        index = self._index(record.subject)
        if not self._cluster:
            return self._run(script, [key, index], *arguments)
        if not record.ended:
            self._run(_NOTE, [index], *noted)
        done = self._run(script, [key], *arguments)
        if record.ended and done == 1:
            self._run(_NOTE, [index], *noted)
        return done

    def _run(self, script: _Script, keys: list[str], *arguments: Any) -> Any:
        try:
            return self._send("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return self._send("EVAL", script.text, len(keys), *keys, *arguments)

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


def _text_of(name: bytes | str) -> str:
    """As the client's ``decode_responses`` says, it is either."""
    return name.decode(errors="replace") if isinstance(name, bytes) else name


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
