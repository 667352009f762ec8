"""What all stores share: the record's packed form, and what is done twice, or not."""

from __future__ import annotations

from typing import Any

import pytest

from flask_serverside import SerializationError
from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.merge import merge
from flask_serverside.stores import Record
from flask_serverside.stores.memory import MemoryStore
from flask_serverside.testing import Clock
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

WHOLE = Record("f" * 64, b"payload", 7, 1, 2, 3, 4, 5, "jürgen")


def test_a_packed_record_is_unpacked_as_it_was() -> None:
    for record in (WHOLE, WHOLE._replace(subject=None, deadline=None, payload=b"")):
        assert Record.unpack(record.handle, record.pack()) == record


def test_the_packed_form_is_the_one_that_is_stored_out_there() -> None:
    numbers = b"".join(n.to_bytes(8) for n in (7, 2, 3, 1, 4, 5))
    expected = b"\xf5\x01" + numbers + b"\x00\x07" + "jürgen".encode() + b"payload"
    assert WHOLE.pack() == expected


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        WHOLE.pack()[:51],
        WHOLE.pack()[:55],
        b"\xf5\x02" + WHOLE.pack()[2:],
        WHOLE.pack().replace("jürgen".encode(), b"j\xff\xffrgen"),
    ],
    ids=["nothing", "a header cut off", "a subject cut off", "another form", "not UTF-8"],
)
def test_what_is_no_record_is_refused(packed: bytes) -> None:
    with pytest.raises(SerializationError, match="f" * 64):
        Record.unpack("f" * 64, packed)


def test_a_records_repr_shows_no_data() -> None:
    assert repr(WHOLE) == f"<Record {'f' * 64} version 7, 7 bytes>"


class Dropped(Exception):
    """What a driver might raise."""


class Refused(Exception):
    """Another one."""


class Shaky(MemoryStore):
    """Fails as often as it is told to, before or after doing what it is asked for."""

    unavailable = (Dropped,)
    failed = (Refused,)

    def __init__(self, failures: list[Exception | None], **options: Any) -> None:
        super().__init__(**options)
        self.failures = failures
        self.tries = 0

    def _call(self, primitive: Any, *arguments: Any) -> Any:
        def shaky(*arguments: Any) -> Any:
            self.tries += 1
            done = primitive(*arguments)
            if self.failures and (failure := self.failures.pop(0)):
                raise failure
            return done

        return super()._call(shaky, *arguments)

    def _dropped(self, cause: BaseException | None) -> bool:
        return str(cause) == "closed"


def test_a_load_is_repeated_once_on_a_new_connection() -> None:
    store = Shaky([None, Dropped("closed")])
    record = new_record(store)
    store.create(record)
    assert store.load(record.handle) == record
    store.failures = [Dropped("closed"), Dropped("closed")]
    with pytest.raises(StoreUnavailable):
        store.load(record.handle)


def test_a_create_whose_answer_was_lost_has_succeeded() -> None:
    store = Shaky([Dropped("closed")])
    record = new_record(store)
    assert store.create(record)
    assert store.tries == 2
    assert not store.create(record)


@pytest.mark.parametrize("operation", ["replace", "touch", "delete"])
def test_what_may_have_been_done_is_not_repeated(operation: str) -> None:
    store = Shaky([])
    record = new_record(store)
    store.create(record)
    store.failures, store.tries = [Dropped("closed")], 0
    argument = {"replace": saved_again(record, b""), "touch": record, "delete": record.handle}
    with pytest.raises(StoreUnavailable):
        getattr(store, operation)(argument[operation])
    assert store.tries == 1


def test_what_failed_for_another_reason_is_not_repeated() -> None:
    store = Shaky([Dropped("no answer")])
    with pytest.raises(StoreUnavailable, match="Shaky: no answer"):
        store.load("x")
    assert store.tries == 1


def test_nothing_is_repeated_once_time_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Shaky([Dropped("closed")], timeout=2)
    times = iter([0.0, 0.21])
    monkeypatch.setattr("flask_serverside.stores.base.time.monotonic", lambda: next(times))
    with pytest.raises(StoreUnavailable):
        store.load("x")
    assert store.tries == 1


def test_only_this_packages_errors_come_out() -> None:
    store = Shaky([Refused("no"), Dropped(), Dropped("long " * 1000)])
    with pytest.raises(StoreError, match="Shaky: no"):
        store.load("x")
    with pytest.raises(StoreUnavailable, match="Shaky: Dropped"):
        store.load("x")
    with pytest.raises(StoreUnavailable) as error:
        store.load("x")
    assert len(str(error.value)) < 400


def test_a_refused_replace_shows_no_record_that_has_expired() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    record = new_record(store, lifetime=1000)
    store.create(record)
    store.replace(saved_again(record, b"theirs"))
    clock.advance(1)  # our own clock said so when the new record was made: it is behind
    assert store.replace(saved_again(record, b"mine")) is None
    alive = new_record(store)
    store.create(alive)
    assert store.replace(saved_again(alive, b"", expires=alive.seen)) is None
    assert store.load(alive.handle) == alive


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "merged"),
    [
        ({}, {"a": 1}, {"b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {}, {"a": 1, "b": 2}, {"b": 2}),
        ({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}),
        ({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1}, {"a": 2}),
        ({"a": 1}, {}, {}, {}),
        ({"a": 1}, {"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": 2}, {}, {"a": 2}),
        ({"a": 1}, {"a": True}, {"a": 1, "b": 1}, {"a": True, "b": 1}),
        ({}, {"a": None}, {}, {"a": None}),
    ],
)
def test_my_changes_are_applied_to_what_they_have(
    base: Any, mine: Any, theirs: Any, merged: Any
) -> None:
    before = dict(theirs)
    result = merge(base, mine, theirs, repr)
    assert repr(result) == repr(merged)
    assert theirs == before
