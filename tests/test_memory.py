"""What is special about memory: it must not fill up."""

from __future__ import annotations

import pytest

from flask_serverside.stores.memory import MemoryStore
from flask_serverside.testing import Clock
from flask_serverside.testing import DAY
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_has_expired_goes_as_new_ones_come(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    for _ in range(1000):
        store.create(new_record(store, lifetime=1000))
    clock.advance(1)
    for _ in range(300):
        store.create(new_record(store))
    assert len(store) == 300


def test_no_write_removes_more_than_a_few(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    for _ in range(1000):
        store.create(new_record(store, lifetime=1000))
    clock.advance(1)
    store.create(new_record(store))
    assert 990 < len(store) < 1000


def test_purge_removes_all_that_has_expired_and_nothing_else(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    records = [new_record(store, lifetime=n * 1000) for n in range(1, 101)]
    for record in records:
        store.create(record)
    extended = records[0]
    store.touch(extended._replace(expires=extended.seen + DAY))
    shortened = saved_again(records[99], b"", expires=extended.seen + 1)
    store.replace(shortened)
    clock.advance(50)
    assert store.purge() == 50
    assert len(store) == 50
    assert store.load(extended.handle) is not None
    clock.advance(50)
    assert store.purge() == 49
    clock.advance(DAY / 1000)
    assert store.purge() == 1
    assert len(store) == 0


def test_a_full_store_drops_the_one_that_would_expire_first(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore(10, clock=clock)
    records = [new_record(store, lifetime=DAY + n) for n in range(10)]
    for record in records:
        store.create(record)
    store.touch(records[0]._replace(expires=records[0].expires + DAY))
    for _ in range(2):
        assert store.create(new_record(store, lifetime=2 * DAY))
    assert len(store) == 10
    gone = [n for n, record in enumerate(records) if store.load(record.handle) is None]
    assert gone == [1, 2]
    assert caplog.text.count("SESSION_MEMORY_THRESHOLD") == 1


def test_what_was_deleted_takes_no_room(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    for _ in range(5000):
        record = new_record(store)
        store.create(record)
        store.delete(record.handle)
    assert len(store) == 0
    assert len(store._queue) < 2000


def test_the_index_keeps_nothing_of_what_has_gone(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    adas = {"subject": "ada", "lifetime": 1000}
    ended, deleted, expired = (new_record(store, **adas) for _ in range(3))
    changed = new_record(store, subject="ada")
    for record in (ended, deleted, expired, changed):
        store.create(record)
    store.end(ended)
    store.delete(deleted.handle)
    store.replace(saved_again(changed, b"x", subject="grace"))
    clock.advance(1)
    store.purge()
    assert store._of_subject == {"grace": changed.handle}
    store.delete(changed.handle)
    assert store._of_subject == {}
