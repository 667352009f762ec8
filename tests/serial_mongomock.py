"""mongomock, with one operation at a time: on the server each is atomic, there it is not."""

from __future__ import annotations

import threading
from typing import Any

import mongomock
import mongomock.collection
import mongomock.database
import mongomock.mongo_client
from bson.codec_options import CodecOptions

_LOCK = threading.RLock()


class _SerialCollection(mongomock.collection.Collection):  # type: ignore[misc]
    def insert_one(self, *arguments: Any, **options: Any) -> Any:
        with _LOCK:
            return super().insert_one(*arguments, **options)

    def find_one(self, *arguments: Any, **options: Any) -> Any:
        with _LOCK:
            return super().find_one(*arguments, **options)

    def update_one(self, *arguments: Any, **options: Any) -> Any:
        with _LOCK:
            return super().update_one(*arguments, **options)

    def delete_one(self, *arguments: Any, **options: Any) -> Any:
        with _LOCK:
            return super().delete_one(*arguments, **options)

    def delete_many(self, *arguments: Any, **options: Any) -> Any:
        with _LOCK:
            return super().delete_many(*arguments, **options)


class _SerialCursor(mongomock.collection.Cursor):  # type: ignore[misc]
    """What a search finds is found when it is first asked for."""

    def _compute_results(self, *arguments: Any, **options: Any) -> Any:
        with _LOCK:
            return super()._compute_results(*arguments, **options)


class _SerialDatabase(mongomock.database.Database):  # type: ignore[misc]
    def get_collection(self, name: str, codec_options: Any = None, **options: Any) -> Any:
        # It knows no other dates than Python's, and no text that is none.
        usual = CodecOptions()
        plain = codec_options and codec_options.with_options(
            datetime_conversion=usual.datetime_conversion,
            unicode_decode_error_handler=usual.unicode_decode_error_handler,
        )
        return super().get_collection(name, codec_options=plain, **options)


mongomock.collection.Cursor = _SerialCursor
mongomock.database.Collection = _SerialCollection
mongomock.mongo_client.Database = _SerialDatabase
MongoClient = mongomock.MongoClient
