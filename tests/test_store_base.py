"""What all stores share: the record's packed form, and what is done twice, or not."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import pytest

from flask_serverside import SerializationError
from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.merge import merge
from flask_serverside.stores import Entry
from flask_serverside.stores import IndexedStore
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
    fixed = b"\xf5\x02" + numbers + b"\xff" * 32 + b"\x00\x07"
    expected = fixed + "jürgen".encode() + b"payload"
    assert WHOLE.pack() == expected


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        WHOLE.pack()[:83],
        WHOLE.pack()[:87],
        b"\xf5\x01" + WHOLE.pack()[2:],
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
    """What a driver might raise when the server has closed the connection."""


class Silent(Exception):
    """When there is no answer."""


class Refused(Exception):
    """Another one."""


class Shaky(MemoryStore):
    """Fails as often as it is told to, before or after doing what it is asked for."""

    stale = (Dropped,)
    unavailable = (Silent,)
    failed = (Refused,)

    def __init__(self, failures: list[Exception | None], **options: Any) -> None:
        super().__init__(**options)
        self.failures = failures
        self.refusals: list[Exception] = []
        self.tries = 0
        self.reconnected = 0

    def _call(self, primitive: Any, *arguments: Any, again: Any = None) -> Any:
        again = again and self._shaky(again)
        return super()._call(self._shaky(primitive), *arguments, again=again)

    def _shaky(self, primitive: Any) -> Any:
        def shaky(*arguments: Any) -> Any:
            self.tries += 1
            if self.refusals:
                raise self.refusals.pop(0)
            done = primitive(*arguments)
            if self.failures and (failure := self.failures.pop(0)):
                raise failure
            return done

        return shaky

    def _put(self, record: Record) -> None:
        super()._put(record._replace())  # a server gives back another object than it was given

    def _reconnect(self) -> None:
        self.reconnected += 1


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


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("operation", ["create", "replace", "touch", "delete"])
def test_a_write_that_met_a_closed_connection_is_tried_once_more(
    operation: str, done: bool
) -> None:
    store = Shaky([])
    record = new_record(store)
    changed = saved_again(record, b"changed")
    if operation != "create":
        store.create(record)
    arguments: dict[str, Any] = {
        "create": record,
        "replace": changed,
        "touch": record._replace(expires=record.expires + 1000),
        "delete": record.handle,
    }
    argument = arguments[operation]
    store.tries = 0
    if done:
        store.failures = [Dropped("closed")]
    else:
        store.refusals = [Dropped("closed")]
    assert getattr(store, operation)(argument) in (True, changed)
    assert (store.tries, store.reconnected) == (2, 1)
    left = {"create": record, "replace": changed, "touch": argument, "delete": None}
    assert store.load(record.handle) == left[operation]


def test_a_replace_that_took_effect_is_not_taken_for_another_writers() -> None:
    store = Shaky([Dropped("closed")])
    record = new_record(store)
    store.failures = []
    store.create(record)
    store.replace(saved_again(record, b"theirs"))
    store.failures = [Dropped("closed")]
    standing = store.replace(saved_again(record, b"mine"))
    assert standing is not None
    assert standing.payload == b"theirs"


def test_a_create_of_a_handle_that_is_taken_is_refused_at_the_second_try_as_well() -> None:
    store = Shaky([])
    record = new_record(store)
    store.create(record)
    store.failures = [Dropped("closed")]
    assert not store.create(record._replace(payload=b"other"))


def test_what_failed_for_another_reason_is_not_repeated() -> None:
    store = Shaky([Silent("no answer")])
    with pytest.raises(StoreUnavailable, match="Shaky: no answer"):
        store.load("x")
    assert (store.tries, store.reconnected) == (1, 0)


def test_nothing_is_repeated_once_the_time_limit_has_passed() -> None:
    store = Shaky([Dropped("closed")], timeout=0)
    with pytest.raises(StoreUnavailable):
        store.load("x")
    assert store.tries == 1


def test_only_this_packages_errors_come_out() -> None:
    store = Shaky([Refused("no"), Silent(), Silent("long " * 1000)])
    with pytest.raises(StoreError, match="Shaky: no"):
        store.load("x")
    with pytest.raises(StoreUnavailable, match="Shaky: Silent"):
        store.load("x")
    with pytest.raises(StoreUnavailable) as error:
        store.load("x")
    assert len(str(error.value)) < 400


def lose_the_answer(monkeypatch: pytest.MonkeyPatch, store: Shaky, *stored: Record) -> None:
    """The next replace stores these, one on top of the other, and meets a closed connection."""
    replace = store._replace

    def answer_lost(record: Record) -> Record | None:
        monkeypatch.setattr(store, "_replace", replace)
        for each in stored:
            assert replace(each)
        raise Dropped("closed")

    monkeypatch.setattr(store, "_replace", answer_lost)


def test_a_replace_that_took_effect_is_known_by_what_stands_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if the session was touched in between: what is done once is not done twice."""
    store = Shaky([])
    record = new_record(store)
    store.create(record)
    mine = saved_again(record, b"mine")
    later = {"seen": mine.seen + 1, "expires": mine.expires + 1}
    lose_the_answer(monkeypatch, store, mine._replace(**later))
    assert store.replace(mine) is mine


@pytest.mark.parametrize("rotation", [None, b"", b"r" * 32], ids=["saved", "moved", "rotated"])
def test_a_replace_of_which_nobody_knows_is_no_conflict(
    monkeypatch: pytest.MonkeyPatch, rotation: bytes | None
) -> None:
    """Somebody has saved on top of it, or moved it to a new id: a conflict would have it done
    again, and it may not be said to have come too late."""
    store = Shaky([])
    record = new_record(store)
    store.create(record)
    mine = saved_again(record, b"mine")
    theirs = saved_again(mine, b"theirs")
    if rotation is not None:
        theirs = mine.tombstone(store.now(), 30, "f" * 64, rotation)
    lose_the_answer(monkeypatch, store, mine, theirs)
    with pytest.raises(StoreUnavailable, match="nobody knows"):
        store.replace(mine)


def test_a_replace_that_was_ended_meanwhile_has_come_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether it was stored first or not: nothing is left of it."""
    store = Shaky([])
    record = new_record(store)
    store.create(record)
    mine = saved_again(record, b"mine")
    tombstone = mine.tombstone(store.now(), 30)
    lose_the_answer(monkeypatch, store, mine, tombstone)
    assert store.replace(mine) == tombstone


@pytest.mark.parametrize("remembered", [0.0, 30.0])
def test_ending_a_session_says_that_there_was_one_if_the_answer_was_lost(
    remembered: float,
) -> None:
    store = Shaky([])
    record = new_record(store)
    store.create(record)
    store.failures = [Dropped("closed")]
    assert store.end(record, remembered)
    standing = store.load(record.handle)
    assert standing is None if not remembered else standing is not None and standing.ended


def test_a_tombstone_whose_answer_was_lost_is_known_as_our_own() -> None:
    """Or else whoever regenerates an id would withdraw the session that it leads to."""
    store = Shaky([])
    old, new = new_record(store), new_record(store)
    store.create(old)
    store.create(new)
    tombstone = old.tombstone(store.now(), 60, new.handle)
    store.failures = [Dropped("closed")]
    assert store.replace(tombstone) is tombstone


def test_somebody_elses_tombstone_is_not_taken_for_our_own() -> None:
    store = Shaky([])
    old, new, others = (new_record(store) for _ in range(3))
    store.create(old)
    theirs = old.tombstone(store.now(), 60, others.handle)
    store.replace(theirs)
    store.refusals = [Dropped("closed")]
    assert store.replace(old.tombstone(store.now(), 60, new.handle)) == theirs


def test_ending_follows_a_session_that_a_machine_with_the_right_time_has_moved() -> None:
    right = MemoryStore()
    ahead = MemoryStore(clock=lambda: right.clock() + 1e6)
    ahead.__dict__.update({k: v for k, v in right.__dict__.items() if k != "clock"})
    old, new = new_record(right), new_record(right)
    right.create(old)
    found = ahead.find(old.handle)
    assert found is not None
    right.create(new)
    assert right.replace(old.tombstone(right.now(), 60, new.handle))
    assert ahead.end(found, 0)
    assert right.load(new.handle) is None


def test_what_has_no_time_left_at_all_is_ended() -> None:
    store = MemoryStore()
    record = new_record(store, expires=0)
    store.create(record)
    assert store.end(record)
    assert store.find(record.handle) is None


def test_many_that_ended_before_the_answer_was_lost_are_told_of() -> None:
    store = Shaky([])
    for _ in range(3):
        store.create(new_record(store, subject="ada"))
    store.failures = [None, None, Dropped("closed")]  # handles, entries, end_many
    assert len(list(store.end_all("ada"))) == 3
    assert store.count("ada") == 0


class OneByOne(MemoryStore):
    """A store that does no batches, on a server that is far away."""

    unavailable = (TimeoutError,)
    _entries = IndexedStore._entries
    _end_many = IndexedStore._end_many

    def _trip(self) -> None:
        if self.limit.over:
            raise TimeoutError
        self.limit._ends -= 0.005  # as if it had taken so long

    def _load(self, handle: str) -> Record | None:
        self._trip()
        return super()._load(handle)

    def _delete(self, handle: str) -> bool:
        self._trip()
        return super()._delete(handle)


def test_a_store_that_does_batches_one_by_one_can_end_them() -> None:
    store = OneByOne(timeout=1.0)
    for _ in range(500):
        store.create(new_record(store, subject="ada"))
    assert len(list(store.end_all("ada"))) == 500
    assert store.count("ada") == 0


def test_an_answer_about_handles_that_nobody_asked_for_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    store.create(new_record(store, subject="ada"))
    monkeypatch.setattr(store, "_end_many", lambda handles, subject: ["0" * 64])
    assert len(list(store.end_all("ada"))) == 1
    monkeypatch.setattr(store, "_entries", lambda handles: [Entry.of(new_record(store))])
    assert list(store.entries()) == []


def test_a_long_chain_of_ids_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    chain = [new_record(store, subject="ada") for _ in range(1500)]
    for record in chain:
        store.create(record)
    for old, new in pairwise(chain):
        store.replace(old.tombstone(store.now(), 60, new.handle))
    monkeypatch.setattr(store, "_handles", lambda *_: ([chain[0].handle], None))
    assert [entry.record for entry in store.entries("ada")] == [chain[-1]]
    assert list(store.end_all("ada")) == [chain[-1]]


def test_ids_that_lead_in_a_circle_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    records = [new_record(store, subject="ada") for _ in range(3)]
    for record in records:
        store.create(record)
    for old, new in pairwise([*records, records[0]]):
        store.replace(old.tombstone(store.now(), 60, new.handle))
    monkeypatch.setattr(store, "_handles", lambda *_: ([records[0].handle], None))
    assert list(store.entries("ada")) == list(store.end_all("ada")) == []
    assert not store.end(records[0])


def test_a_list_gives_up_when_one_batch_after_the_other_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    monkeypatch.setattr(store, "BATCH", 1)
    for _ in range(10):
        store.create(new_record(store))
    asked = []

    def fail(handles: list[str]) -> list[Entry]:
        asked.append(handles)
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(store, "_entries", fail)
    with pytest.raises(StoreUnavailable):
        list(store.entries())
    assert len(asked) == 3


def test_a_store_is_empty_if_no_page_names_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    assert store.is_empty()
    pages = iter([([], 1), ([], 2), (["a"], None)])
    monkeypatch.setattr(store, "_handles", lambda *_: next(pages))
    assert not store.is_empty()


def test_a_purge_in_a_child_waits_for_no_lock_of_the_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    store.create(new_record(store, lifetime=1))
    store._lock.acquire()  # by a thread that is not there in the child
    monkeypatch.setattr("os.getpid", lambda: -1)
    monkeypatch.setattr(store, "clock", lambda: 1e11)
    assert store.purge() == 1


class Confused(MemoryStore):
    """Answers another question first, as often as it is told to."""

    def __init__(self, *others: Record) -> None:
        super().__init__()
        self.others = [*others]

    def _load(self, handle: str) -> Record | None:
        return self.others.pop() if self.others else super()._load(handle)


def test_an_answer_about_another_handle_is_not_believed() -> None:
    others = new_record(MemoryStore(), b"another user's")
    store = Confused()
    record = new_record(store)
    store.create(record)
    store.others = [others]
    assert store.load(record.handle) == record
    store.others = [others, others]
    with pytest.raises(SerializationError, match=others.handle):
        store.load(record.handle)


def test_a_child_process_drops_the_connections_before_it_uses_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where nobody has run a fork hook: the process id alone says so."""

    class Connected(MemoryStore):
        resets = 0

        def reset(self) -> None:
            super().reset()
            self.resets += 1

    store = Connected()
    store.count()
    assert store.resets == 0
    monkeypatch.setattr("os.getpid", lambda: -1)
    for use in (store.count, store.purge, store.ping, store.examine):
        use()
    assert store.resets == 1


def test_the_log_says_once_that_a_store_is_away_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("flask_serverside.stores.outage.time.monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "flask_serverside")
    store = Shaky([Silent("no answer")] * 5)
    for _ in range(5):
        now[0] += 1
        with pytest.raises(StoreUnavailable):
            store.load("x")
    for _ in range(3):
        now[0] += 1
        store.load("x")
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("ERROR", "Session store unavailable: Shaky: no answer"),
        ("INFO", "The session store answers again, after 5.0 seconds."),
    ]
    caplog.clear()
    store.failures = [Silent("no answer"), None] * 20  # one of two servers is down
    for _ in range(20):
        now[0] += 1
        with pytest.raises(StoreUnavailable):
            store.load("x")
        store.load("x")
    assert len(caplog.records) == 4


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
