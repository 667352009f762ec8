"""Faults to plant: each breaks one promise, in the place where the code keeps it."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flask_serverside import SessionGone
from flask_serverside.saving.state import Moving
from flask_serverside.saving.storing import Storing
from flask_serverside.saving.unit import Unit
from flask_serverside.session import ServerSideSession
from flask_serverside.stores import Record
from flask_serverside.stores import Store

Plant = Callable[[pytest.MonkeyPatch, Store], None]


def take_the_compare_out(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Have a save succeed whichever version stands in the store, if any does."""
    COMPARES[type(store).__name__](monkeypatch, store)


def _memory(monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
    def replace(record: Record) -> Record | None:
        with store._lock:
            if record.handle not in store._stored:
                return None
            store._put(record)
            return record

    monkeypatch.setattr(store, "_replace", replace)


def _redis(monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
    from flask_serverside.stores.redis import scripts

    compare = "or field(header, VERSION) ~= ARGV[6] "
    text = scripts.REPLACE.text
    assert compare in text
    script = types.SimpleNamespace(text=text.replace(compare, ""), sha="0" * 40)
    monkeypatch.setattr(scripts, "REPLACE", script)


def _memcached(monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
    send = store._store

    def without_cas(command: str, record: Record, *cas: bytes) -> bool | None:
        return send("replace", record) if command == "cas" else send(command, record)

    monkeypatch.setattr(store, "_store", without_cas)


def _mongodb(monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
    collection = type(store._collection)
    update_one = collection.update_one

    def without_version(self: Any, query: dict[str, Any], *rest: Any, **options: Any) -> Any:
        query.pop("version", None)
        return update_one(self, query, *rest, **options)

    monkeypatch.setattr(collection, "update_one", without_version)


def _sqlalchemy(monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
    import sqlalchemy as sa

    columns, loaded = store.table.c, sa.bindparam("loaded", type_=sa.BigInteger)
    monkeypatch.setattr(
        store._statements,
        "update",
        store.table.update().where(
            columns.handle == sa.bindparam("of"),
            sa.func.coalesce(loaded, 0) >= 0,  # any
            columns.expires > sa.bindparam("now", type_=columns.expires.type),
        ),
    )


COMPARES: dict[str, Plant] = {
    "MemoryStore": _memory,
    "RedisStore": _redis,
    "MemcachedStore": _memcached,
    "MongoDBStore": _mongodb,
    "SQLAlchemyStore": _sqlalchemy,
}


def forget_what_has_ended(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Leave no tombstone, so that a late request is taken for a newcomer."""
    replace = store.replace

    def without_tombstone(record: Record) -> Record | None:
        brief = record._replace(expires=record.seen + 1) if record.ended else record
        standing = replace(brief)
        return record if standing is brief else standing

    monkeypatch.setattr(store, "replace", without_tombstone)


def revive_what_is_gone(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Create the record again if a save finds none, or a tombstone."""
    replace = store.replace

    def replace_or_create(record: Record) -> Record | None:
        standing = replace(record)
        if not record.ended and (standing is None or standing.ended):
            store.delete(record.handle)
            store.create(record)
            return record
        return standing

    monkeypatch.setattr(store, "replace", replace_or_create)


def overwrite_with_all_of_mine(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Merge nothing: the later save is kept whole."""
    merge = Unit._merge

    def mine(self: Any, *arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(self.draft, "kept", frozenset())
        merge(self, *arguments, **options)

    monkeypatch.setattr(Unit, "_merge", mine)


def supersede_whatever_stands_there(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Regenerate without what others have saved under the old id since it was loaded."""
    merge = Unit._merge

    def theirs_lost(self: Any, others: Any, **options: Any) -> None:
        if not isinstance(self.state, Moving):
            merge(self, others, **options)
            return
        lost = self.state.former._replace(record=others.merge.snapshot.record)
        self.state = replace(self.state, former=lost)

    monkeypatch.setattr(Unit, "_merge", theirs_lost)


def show_messages_before_they_are_taken(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Take flashed messages out of the store when the request ends, as others do."""
    monkeypatch.setattr(ServerSideSession, "pop", lambda self, *args: self._data.pop(*args))


def merge_messages_like_any_key(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Have the later queue win."""
    monkeypatch.setattr("flask_serverside.merge._are_queues", lambda *values: False)


def run_atomic_functions_once(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Merge what the function did, instead of doing it again."""

    def once(self: Any, function: Callable[[Any], Any]) -> Any:
        value = function(self)
        self.save()
        return value

    monkeypatch.setattr(ServerSideSession, "atomic", once)


def store_what_was_refused(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Store, and say that it was not."""
    replaced, times = Storing._replaced, [0]

    def unsure(self: Any, *arguments: Any) -> Any:
        answer = replaced(self, *arguments)
        times[0] += 1
        if times[0] % 50 == 0:
            raise SessionGone("it is stored, in fact")
        return answer

    monkeypatch.setattr(Storing, "_replaced", unsure)


#: What must be found, among other things.
OTHERS: dict[Plant, str] = {
    forget_what_has_ended: "a dead id set or cleared the cookie",
    revive_what_is_gone: "it was ended and is alive",
    overwrite_with_all_of_mine: "an acknowledged write is gone",
    supersede_whatever_stands_there: "increments were made",
    show_messages_before_they_are_taken: "a message was shown twice",
    merge_messages_like_any_key: "a message was",
    run_atomic_functions_once: "two increments gave",
    store_what_was_refused: "a refused",
}
