"""The store: each operation as MongoDB does it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from typing import Self
from typing import TYPE_CHECKING
from typing import Unpack

import pymongo
from bson.errors import BSONError
from pymongo.errors import DocumentTooLarge
from pymongo.errors import DuplicateKeyError
from pymongo.errors import PyMongoError
from pymongo.errors import ServerSelectionTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference

from ... import values
from ...errors import ConfigurationError
from ...errors import SerializationError
from ..base import StoreOptions
from ..examination import Examination
from ..index import IndexedStore
from ..operations import Fault
from ..outage import log
from ..record import Entry
from ..record import Record
from . import documents
from . import examination
from . import faults
from .connections import Connections
from .connections import DEFAULT
from .connections import KEY
from .indexes import Index
from .indexes import INDEXES

if TYPE_CHECKING:
    from flask import Flask
    from pymongo.collection import Collection

#: Seconds. A driver that knows of no server looks for one, and at the clock, every half second:
#: it may take so much longer than it was told to.
_LATE = 0.25


class MongoDBStore(IndexedStore):
    """One document a session, with the handle as ``_id``.

    The server's TTL monitor wakes up once a minute; what it has not removed yet is seen
    as expired all the same.

    :param client: a URL or a :class:`pymongo.MongoClient`.
    :param database: the database's name, unless the URL has one.
    :param collection: the collection's name.
    :param create: whether the indexes are created at first use.
    """

    failed = (PyMongoError, BSONError)

    #: Handles fetched at a time.
    PAGE = 5000

    def __init__(
        self,
        client: Any = DEFAULT,
        database: str = "flask_session",
        collection: str = "sessions",
        *,
        create: bool = True,
        **options: Unpack[StoreOptions],
    ) -> None:
        super().__init__(**options)
        self._connections = Connections(client, self.timeout)
        self._names = (self._connections.database or database, collection)
        self._wanted: tuple[Index, ...] = INDEXES if create else ()
        self._create_allowed = create
        self._open()

    @classmethod
    def from_app(cls, app: Flask, **options: Unpack[StoreOptions]) -> Self:
        return cls(
            app.config.get(KEY, DEFAULT),
            values.text(app.config, f"{KEY}_DB", "flask_session"),
            values.text(app.config, f"{KEY}_COLLECT", "sessions"),
            create=values.boolean(app.config, f"{KEY}_CREATE", True),
            **options,
        )

    def close(self) -> None:
        self._connections.close()

    def reset(self) -> None:
        self._connections.begin_in_child()
        self._open()

    def _open(self) -> None:
        database, collection = self._names
        try:
            self._collection: Collection[dict[str, Any]] = self._connections.client[
                database
            ].get_collection(
                collection,
                codec_options=documents.OPTIONS,
                read_preference=ReadPreference.PRIMARY,
                read_concern=_newest(self._connections.client),
            )
        except PyMongoError as error:
            raise ConfigurationError(
                f"{KEY}_DB, {KEY}_COLLECT", self._names, f"valid names ({error})"
            ) from error

    def _fault(self, error: Exception) -> Fault:
        if faults.demoted(error) and self._connections.leave_demoted():
            self._open()
        if faults.untrusted(error):
            # One of several servers that is merely down may be back, and be the primary.
            looked = isinstance(error, ServerSelectionTimeoutError)
            if not looked or all(map(faults.untrusted, self._connections.problems())):
                return Fault.REFUSED
        return faults.fault(error)

    def _advice(self, error: Exception) -> str:
        return faults.advice(error)

    @contextmanager
    def _sessions(self) -> Iterator[Collection[dict[str, Any]]]:
        """The collection with its indexes, for one command within what is left of the limit.

        For one: the driver waits for a server for the whole of the time it was given, whatever
        else that was used for.
        """
        for index in self._wanted:  # no lock: to create one twice does no harm
            with self._limited():
                index.create(self._collection)
            self._wanted = tuple(other for other in self._wanted if other is not index)
        with self._limited():
            yield self._collection

    def _limited(self) -> Any:
        left = self.limit.left
        late = 0 if self._connections.leads_to_a_primary() else min(_LATE, left / 4)
        return pymongo.timeout(left - late)

    def _create(self, record: Record) -> bool:
        document = {"_id": record.handle, "created": documents.date(record.created)}
        try:
            with self._sessions() as sessions:
                sessions.insert_one(document | documents.changing(record))
        except DuplicateKeyError as error:
            if "_id" not in (error.details or {}).get("keyPattern", {"_id": 1}):
                raise  # an index of somebody else's
            return False
        except DocumentTooLarge as error:
            raise self._too_large(record) from error
        return True

    def _create_again(self, record: Record) -> bool:
        if not super()._create_again(record):
            return False
        # That the first try was stored does not mean that it will last. A write that changes
        # nothing waits for the write concern of all before it.
        self._touch(record)
        return True

    def _load(self, handle: str) -> Record | None:
        with self._sessions() as sessions:
            document = sessions.find_one({"_id": handle})
        return None if document is None else documents.record_of(document)

    def _replace(self, record: Record) -> Record | None:
        alive = documents.alive(record) | {"version": record.version - 1}
        try:
            with self._sessions() as sessions:
                done = sessions.update_one(alive, {"$set": documents.changing(record)})
        except DocumentTooLarge as error:
            raise self._too_large(record) from error
        return record if done.matched_count else self._load(record.handle)

    def _touch(self, record: Record) -> bool:
        alive = documents.alive(record) | {"version": record.version}
        with self._sessions() as sessions:
            done = sessions.update_one(alive, {"$set": documents.times(record)})
        return bool(done.matched_count)

    def _delete(self, handle: str) -> bool:
        with self._sessions() as sessions:
            return bool(sessions.delete_one({"_id": handle}).deleted_count)

    def _handles(
        self, subject: str | None, beginning: str, after: Any
    ) -> tuple[list[str], Any]:
        asked = documents.asked(subject, beginning, after)
        with self._sessions() as sessions:
            found = sessions.find(asked, {"_id": 1}).sort("_id", 1).limit(self.PAGE)
            handles = [document["_id"] for document in found.batch_size(self.PAGE)]
        return handles, handles[-1] if len(handles) == self.PAGE else None

    def _entries(self, handles: list[str]) -> list[Entry]:
        asked = {"_id": {"$in": handles}}
        with self._sessions() as sessions:
            # With room for one more the server knows, and says, that this is all.
            found = sessions.find(asked, documents.WITHOUT_REST).batch_size(len(handles) + 1)
            return [entry for document in found for entry in _legible(document)]

    def _end_many(self, handles: list[str], subject: str | None) -> list[str]:
        # MongoDB says how many it has removed, not which.
        there = self._standing(documents.ending(handles, subject), len(handles))
        with self._sessions() as sessions:
            done = sessions.delete_many(documents.ending(there, subject))
        if done.deleted_count in (0, len(there)):
            return there if done.deleted_count else []
        # Somebody else has ended some of them just now, or has made them another's.
        left = {*self._standing({"_id": {"$in": there}}, len(there))}
        return [handle for handle in there if handle not in left]

    def _standing(self, asked: dict[str, Any], most: int) -> list[str]:
        """The handles of the documents that there are, which are not more than so many."""
        with self._sessions() as sessions:
            found = sessions.find(asked, {"_id": 1}).batch_size(most + 1)
            return [document["_id"] for document in found]

    def _examine(self) -> Examination:
        with self._limited():
            return examination.examine(
                self._connections.client, self._collection, self._create_allowed
            )


def _newest(client: Any) -> ReadConcern:
    """What is read when a write was refused must be what it was compared with. "majority" gives
    what most members have, which may be older: the write would be refused again and again, or
    our own first try would be taken for somebody else's.
    """
    asked: str | None = client.read_concern.level
    return ReadConcern("linearizable" if asked == "linearizable" else "local")


def _legible(document: dict[str, Any]) -> Iterator[Entry]:
    try:
        yield documents.entry_of(document)
    except SerializationError as error:
        log.warning("Left out of the list: %s", error)
