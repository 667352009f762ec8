"""Sessions in Redis, or in anything that speaks its protocol, such as Valkey.

One string a session, expired by the server. A load is one ``GET``, a save one script. A sorted
set for each subject names its sessions.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import Any
from typing import Self
from typing import TYPE_CHECKING
from typing import Unpack

from redis.exceptions import RedisClusterException
from redis.exceptions import RedisError

from ...errors import SerializationError
from ..base import StoreOptions
from ..examination import Examination
from ..index import IndexedStore
from ..operations import Fault
from ..record import Entry
from ..record import LABEL
from ..record import LONGEST_HEADER
from ..record import packed_times
from ..record import packed_version
from ..record import Record
from . import examination
from . import faults
from . import scripts
from .choice import errors_of
from .choice import line_by
from .choice import line_to
from .line import Command
from .line import RAW
from .urls import DEFAULT
from .urls import KEY

if TYPE_CHECKING:
    from flask import Flask

#: Names that SCAN and ZSCAN look at for one answer.
_PAGE = 1000
_HANDLE = re.compile(r"[0-9a-f]{64}")
#: What means something in a pattern of SCAN.
_SPECIAL = re.compile(r"[][*?^\\-]")


class RedisStore(IndexedStore):
    """One key a session: the prefix and the handle. One key a subject: the prefix, ``of:`` and
    the subject, with the handles of its sessions, sorted by when they expire.

    :param client: a URL, or one of redis-py's or valkey-py's clients: for a single server, a
        cluster, or what sentinel's ``master_for()`` returns. A client that is given keeps its
        own time limits and retries.
    """

    failed = (RedisError, RedisClusterException)

    def __init__(self, client: Any = DEFAULT, **options: Unpack[StoreOptions]) -> None:
        super().__init__(**options)
        if isinstance(client, str):
            self._line = line_to(client, self.limit)
        else:
            self._line = line_by(client)
            self._errors = (*type(self)._errors, *errors_of(client))  # type: ignore[misc]

    @classmethod
    def from_app(cls, app: Flask, **options: Unpack[StoreOptions]) -> Self:
        return cls(app.config.get(KEY, DEFAULT), **options)

    def reset(self) -> None:
        self._line.forget()

    def close(self) -> None:
        self._line.close()

    def _fault(self, error: Exception) -> Fault:
        if faults.timed_out(error):
            self._line.suspect()
        return faults.meaning(error)

    def _advice(self, error: Exception) -> str:
        return faults.advice(error)

    def _reconnect(self) -> None:
        self._line.renew()

    def _create(self, record: Record) -> bool:
        if record.expires <= record.seen:
            return False
        if record.subject is not None:
            return bool(self._write(scripts.CREATE, record, record.pack()))
        ttl = record.expires - record.seen
        return bool(self._send("SET", self._key(record.handle), record.pack(), "PX", ttl, "NX"))

    def _load(self, handle: str) -> Record | None:
        packed = self._send("GET", self._key(handle))
        return None if packed is None else Record.unpack(handle, packed)

    def _replace(self, record: Record) -> Record | None:
        standing = self._write(
            scripts.REPLACE, record, record.pack(), packed_version(record.version - 1)
        )
        if standing == 1:
            return record
        return None if standing is None else Record.unpack(record.handle, standing)

    def _touch(self, record: Record) -> bool:
        times = packed_times(record.seen, record.expires)
        return bool(self._write(scripts.TOUCH, record, times, packed_version(record.version)))

    def _delete(self, handle: str) -> bool:
        packed = self._run(scripts.DELETE, [self._key(handle)])
        if packed is None:
            return False
        for record in self._legible(Record.unpack, handle, packed):
            if record.subject is not None and not record.ended:
                self._run(scripts.NOTE, [self._index(record.subject)], handle, 0, 0)
        return True

    def _handles(
        self, subject: str | None, beginning: str, after: Any
    ) -> tuple[list[str], Any]:
        if subject is not None:
            cursor = after or 0
            key = self._index(subject)
            cursor, found = self._send("ZSCAN", key, cursor, "COUNT", _PAGE)
            return [_text_of(name) for name, _ in found], cursor or None
        servers = self._line.clients()
        name, cursor = after or (min(servers), 0)
        if name in servers:
            pattern = _SPECIAL.sub(r"\\\g<0>", self.prefix + beginning) + "*"
            cursor, keys = servers[name].execute_command(
                "SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE, **RAW
            )
        else:  # it has left the cluster, and its keys are elsewhere
            cursor, keys = 0, []
        named = (_text_of(key).removeprefix(self.prefix) for key in keys)
        rest = [other for other in servers if other > name]
        following = (min(rest), 0) if rest else None
        return list(filter(_HANDLE.fullmatch, named)), (name, cursor) if cursor else following

    def _apart(self, handles: list[str]) -> Iterable[list[str]]:
        apart: dict[Any, list[str]] = {}
        for handle in handles:
            apart.setdefault(self._line.server_of(self._key(handle)), []).append(handle)
        return apart.values()

    def _entries(self, handles: list[str]) -> list[Entry]:
        asked: list[Command] = []
        for key in map(self._key, handles):
            asked.append(("GETRANGE", key, 0, LONGEST_HEADER + LABEL - 1))
            asked.append(("STRLEN", key))
        answers = self._line.send_all(asked)
        entries = []
        for handle, head, size in zip(handles, answers[::2], answers[1::2], strict=True):
            for record in self._legible(_unpacked, handle, head, size):
                around = len(head) - len(record.payload)
                entries.append(Entry(Entry.of(record).record, max(0, size - around)))
        return entries

    def _end_many(self, handles: list[str], subject: str | None) -> list[str]:
        chosen = (0, "") if subject is None else (1, subject)
        keys = [self._key(handle) for handle in handles]
        if self._line.cluster:
            answers = self._run_each(scripts.END, keys, *chosen)
            # What one has failed to end is tried by itself, after the others are told of.
            subjects = [None if isinstance(one, Exception) else one[0] for one in answers]
        else:
            subjects = self._run(scripts.END, keys, *chosen)
        ended: dict[str, list[str]] = {}
        for handle, found in zip(handles, subjects, strict=True):
            if found is not None:
                ended.setdefault(_text_of(found), []).append(handle)
        # They have ended, whether the index learns of it or not.
        with contextlib.suppress(*self._errors):
            self._line.send_all(
                [("ZREM", self._index(whose), *gone) for whose, gone in ended.items() if whose]
            )
        return [handle for gone in ended.values() for handle in gone]

    def _examine(self) -> Examination:
        return examination.examine(self._line.clients())

    def _key(self, handle: str) -> str:
        return self.prefix + handle

    def _index(self, subject: str) -> str:
        return f"{self.prefix}of:{subject}"

    def _write(self, script: scripts.Script, record: Record, *arguments: Any) -> Any:
        """Run a script that writes a record, and notes it in the index of its subject. In a
        cluster these are on different servers: the index is then first to know a session, and
        last to forget it.
        """
        expires = 0 if record.ended else record.expires
        noted = (record.handle, expires, record.seen)
        arguments = (*noted, record.expires - record.seen, *arguments)
        key = self._key(record.handle)
        if record.subject is None:
            return self._run(script, [key], *arguments)
        index = self._index(record.subject)
        if not self._line.cluster:
            return self._run(script, [key, index], *arguments)
        if not record.ended:
            self._run(scripts.NOTE, [index], *noted)
        done = self._run(script, [key], *arguments)
        if record.ended and done == 1:
            self._run(scripts.NOTE, [index], *noted)
        return done

    def _run(self, script: scripts.Script, keys: list[str], *arguments: Any) -> Any:
        rest = (len(keys), *keys, *arguments)
        try:
            return self._send("EVALSHA", script.sha, *rest)
        except self._errors as error:
            if not faults.unknown_script(error):
                raise
        return self._send("EVAL", script.text, *rest)

    def _run_each(
        self, script: scripts.Script, keys: Iterable[str], *arguments: Any
    ) -> list[Any]:
        """Run a script for each key by itself, where they are on different servers. An error
        stands in its answer's place, unless there are only errors.
        """
        asked: list[Command] = [("EVALSHA", script.sha, 1, key, *arguments) for key in keys]
        answers = self._line.send_all(asked)
        unknown = [n for n, answer in enumerate(answers) if faults.unknown_script(answer)]
        texts = [("EVAL", script.text, *asked[number][2:]) for number in unknown]
        for number, answer in zip(unknown, self._line.send_all(texts), strict=True):
            answers[number] = answer
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        if failed and len(failed) == len(answers):
            raise failed[0]
        return answers

    def _send(self, *command: Any) -> Any:
        try:
            return self._line.send(*command)
        except self._errors as error:
            if faults.of_another_type(error):
                raise _no_record(error) from error
            raise


def _unpacked(handle: str, head: Any, size: Any) -> Record | None:
    for answer in (head, size):
        if isinstance(answer, Exception):
            raise _no_record(answer) if faults.of_another_type(answer) else answer
    return Record.unpack(handle, head) if head else None


def _no_record(error: Exception) -> SerializationError:
    return SerializationError(
        f"What is stored under a key of RedisStore is not a record: {error}"
    )


def _text_of(name: bytes | str) -> str:
    """As the client's ``decode_responses`` says, it is either."""
    return name.decode(errors="replace") if isinstance(name, bytes) else name
