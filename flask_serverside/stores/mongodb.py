"""Sessions in MongoDB: one document each, removed by a TTL index when it has expired."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from datetime import timedelta
from datetime import UTC
from typing import Any
from typing import Self
from typing import TYPE_CHECKING
from typing import Unpack

import pymongo
from bson.codec_options import CodecOptions
from bson.codec_options import DatetimeConversion
from pymongo.errors import AutoReconnect
from pymongo.errors import DocumentTooLarge
from pymongo.errors import DuplicateKeyError
from pymongo.errors import ExecutionTimeout
from pymongo.errors import NetworkTimeout
from pymongo.errors import PyMongoError
from pymongo.errors import ServerSelectionTimeoutError
from pymongo.errors import WaitQueueTimeoutError
from pymongo.errors import WTimeoutError
from pymongo.read_preferences import ReadPreference

from .. import values
from ..errors import ConfigurationError
from ..errors import SerializationError
from . import mongodb_examination
from .base import StoreOptions
from .examination import Examination
from .index import IndexedStore
from .record import Record

if TYPE_CHECKING:
    from flask import Flask
    from pymongo.collection import Collection

KEY = "SESSION_MONGODB"
DEFAULT = "mongodb://127.0.0.1:27017"

#: A date that Python has not is no error of the whole batch.
_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class MongoDBStore(IndexedStore):
    """One document a session, with the handle as ``_id``.

    The server's TTL monitor wakes up once a minute; what it has not removed yet is seen
    as expired all the same.

    :param client: a URL or a :class:`pymongo.MongoClient`.
    :param database: the database's name, unless the URL has one.
    :param collection: the collection's name.
    """

    unavailable = (
        AutoReconnect,
        ExecutionTimeout,
        NetworkTimeout,
        ServerSelectionTimeoutError,
        WaitQueueTimeoutError,
        WTimeoutError,
    )
    failed = (PyMongoError,)

    #: Documents fetched at a time when there is no end of them.
    LIST_BATCH = 1000

    def __init__(
        self,
        client: Any = DEFAULT,
        database: str = "flask_session",
        collection: str = "sessions",
        **options: Unpack[StoreOptions],
    ) -> None:
        super().__init__(**options)
        self._ours = isinstance(client, str)
        self._client = _checked(self._connect(client) if self._ours else client)
        try:
            if self._ours:
                database = self._client.get_default_database(database).name
            self._collection: Collection[dict[str, Any]] = self._client[
                database
            ].get_collection(
                collection,
                codec_options=_OPTIONS,
                read_preference=ReadPreference.PRIMARY,
            )
        except PyMongoError as error:
            raise ConfigurationError(
                f"{KEY}_DB, {KEY}_COLLECT", (database, collection), f"valid names ({error})"
            ) from error
        self._indexed = False
        self._forked = False
        self._lock = threading.Lock()

    @classmethod
    def from_app(cls, app: Flask, **options: Unpack[StoreOptions]) -> Self:
        return cls(
            app.config.get(KEY, DEFAULT),
            values.text(app.config, f"{KEY}_DB", "flask_session"),
            values.text(app.config, f"{KEY}_COLLECT", "sessions"),
            **options,
        )

    def close(self) -> None:
        if self._ours:
            self._client.close()

    def reset(self) -> None:
        self._forked = True
        self._lock = threading.Lock()  # the parent may have held the old one

    def _connect(self, url: str) -> Any:
        limit = int(self.timeout * 1000)
        try:
            return pymongo.MongoClient(
                url,
                connect=False,
                serverSelectionTimeoutMS=limit,
                connectTimeoutMS=limit,
                timeoutMS=limit,
                # The driver's retry of a read takes a second time limit; see _dropped.
                retryReads=False,
            )
        except (PyMongoError, ValueError, TypeError) as error:
            raise ConfigurationError(KEY, url, f"a MongoDB URL ({error})") from error

    @property
    def _sessions(self) -> Collection[dict[str, Any]]:
        if self._forked:
            # The driver closes the parent's connections when the client is first used here. A
            # thread that comes in between is given one of them.
            with self._lock:
                if self._forked:
                    try:
                        self._client.admin.command("ping")
                    finally:
                        self._forked = False
        if not self._indexed:  # no lock: to create it twice does no harm
            self._collection.create_index("expires", expireAfterSeconds=0)
            # Ids that were given up have no lifetime, and may be many for each session.
            self._collection.create_index([("subject", 1), ("lifetime", 1)])
            self._indexed = True
        return self._collection

    def _create(self, record: Record) -> bool:
        document = {"_id": record.handle, "created": _date(record.created)}
        try:
            with pymongo.timeout(self.timeout):
                self._sessions.insert_one(document | _changing(record))
        except DuplicateKeyError:
            return False
        except DocumentTooLarge as error:
            raise self._too_large(record) from error
        return True

    def _load(self, handle: str) -> Record | None:
        with pymongo.timeout(self.timeout):
            document = self._sessions.find_one({"_id": handle})
        return None if document is None else _record(document)

    def _replace(self, record: Record) -> Record | None:
        alive = _alive(record) | {"version": record.version - 1}
        try:
            with pymongo.timeout(self.timeout):
                done = self._sessions.update_one(alive, {"$set": _changing(record)})
        except DocumentTooLarge as error:
            raise self._too_large(record) from error
        return record if done.matched_count else self._load(record.handle)

    def _touch(self, record: Record) -> bool:
        times = {"seen": _date(record.seen), "expires": _date(record.expires)}
        alive = _alive(record) | {"version": record.version}
        with pymongo.timeout(self.timeout):
            return bool(self._sessions.update_one(alive, {"$set": times}).matched_count)

    def _delete(self, handle: str) -> bool:
        with pymongo.timeout(self.timeout):
            return bool(self._sessions.delete_one({"_id": handle}).deleted_count)

    def count(self, subject: str | None = None) -> int:
        alive = {"expires": {"$gt": _date(self.now())}}
        return self._call(self._counted, _asked(subject, "") | alive)

    def _records(self, subject: str | None, beginning: str) -> Iterator[Record]:
        asked = _asked(subject, beginning)
        most = 0 if subject is not None else self.LIST_BATCH  # a subject's all at once
        while found := self._found_by(asked, most):
            for document in found:
                yield from self._legible(_record, document)
            if not most:
                return
            asked["_id"] = asked.get("_id", {}) | {"$gt": found[-1]["_id"]}

    def _counted(self, asked: dict[str, Any]) -> int:
        with pymongo.timeout(self.timeout):
            return self._sessions.count_documents(asked)

    def _found_by(self, asked: dict[str, Any], most: int = 0) -> list[dict[str, Any]]:
        with pymongo.timeout(self.timeout):
            found = self._sessions.find(asked)
            return list(found.sort("_id").limit(most) if most else found)

    def _examine(self) -> Examination:
        with pymongo.timeout(self.timeout):
            return mongodb_examination.examine(self._client, self._collection)

    def _dropped(self, cause: BaseException | None) -> bool:
        return isinstance(cause, AutoReconnect) and not isinstance(
            cause, NetworkTimeout | ServerSelectionTimeoutError
        )


def _alive(record: Record) -> dict[str, Any]:
    return {"_id": record.handle, "expires": {"$gt": _date(record.seen)}}


def _asked(subject: str | None, beginning: str) -> dict[str, Any]:
    asked: dict[str, Any] = {"lifetime": {"$gt": 0}}
    if subject is not None:
        asked["subject"] = subject
    if beginning:
        asked["_id"] = {"$gte": beginning, "$lt": beginning + "g"}  # they are hexadecimal
    return asked


def _changing(record: Record) -> dict[str, Any]:
    """All of the document that a save may change."""
    return {
        "version": record.version,
        "seen": _date(record.seen),
        "expires": _date(record.expires),
        "lifetime": record.lifetime,
        "deadline": None if record.deadline is None else _date(record.deadline),
        "subject": record.subject,
        "payload": record.payload,
    }


def _record(document: dict[str, Any]) -> Record:
    try:
        deadline, handle, subject = (document[k] for k in ("deadline", "_id", "subject"))
        if not isinstance(handle, str) or not isinstance(subject, str | None):
            raise TypeError(f"_id {handle!r}, subject {type(subject).__name__}")
        return Record(
            handle,
            bytes(memoryview(document["payload"])),
            int(document["version"]),
            _milliseconds(document["created"]),
            _milliseconds(document["seen"]),
            _milliseconds(document["expires"]),
            int(document["lifetime"]),
            None if deadline is None else _milliseconds(deadline),
            subject,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SerializationError(
            f"What is stored for session {document.get('_id')} is not a record: {error!r}"
        ) from error


def _date(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND


def _milliseconds(date: datetime) -> int:
    return (date - _EPOCH) // _MILLISECOND


def _checked(client: Any) -> Any:
    # By name, too, so that tests may use mongomock's.
    if not isinstance(client, pymongo.MongoClient) and type(client).__name__ != "MongoClient":
        reason = "To use the server on this machine, leave the key out."
    elif not client.write_concern.acknowledged:
        reason = "With w=0 it would not notice that a session was not stored."
    else:
        return client
    raise ConfigurationError(KEY, client, "a MongoDB URL or a pymongo.MongoClient", reason)
