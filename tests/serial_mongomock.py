"""mongomock, with one operation at a time: on the server each is atomic, there it is not."""

from __future__ import annotations

import threading
from typing import Any

import mongomock
import mongomock.collection
import mongomock.database

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


mongomock.database.Collection = _SerialCollection
MongoClient = mongomock.MongoClient
