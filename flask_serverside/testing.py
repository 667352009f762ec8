"""The store contract as a test suite, for pytest.

A store for another database is proved with four lines::

    from flask_serverside.testing import StoreContract

    class TestMyStore(StoreContract):
        def make_store(self, **options):
            return MyStore("my://127.0.0.1", **options)

Run it against the real server: what stands in for one hides faults. A store that is an
:class:`~flask_serverside.stores.IndexedStore` is proved by both, ``class
TestMyStore(StoreContract, IndexContract)``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from typing import TypeVar

import pytest

from .errors import SessionTooLarge
from .errors import StoreUnavailable
from .stores import Entry
from .stores import IndexedStore
from .stores import LABEL
from .stores import Record
from .stores import Store

T = TypeVar("T")

DAY = 24 * 3600 * 1000


class Clock:
    """A clock that stands still until it is told to move. Starts at the real time, since
    servers that expire records themselves go by theirs.
    """

    def __init__(self) -> None:
        self.seconds = float(int(time.time()))

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


def new_record(
    store: Store, payload: bytes = b"data", lifetime: int = DAY, **fields: Any
) -> Record:
    """A record that could be created now, under a handle of its own."""
    now = store.now()
    record = Record(secrets.token_hex(32), payload, 1, now, now, now + lifetime, lifetime)
    return record._replace(**fields)


def saved_again(record: Record, payload: bytes, **fields: Any) -> Record:
    """The record as its next version."""
    return record._replace(payload=payload, version=record.version + 1, **fields)


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """What ``work`` returns for each number, all threads let go at the same moment."""
    barrier = Barrier(count)

    def wait_and_work(number: int) -> T:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_work, range(count)))


class _Contract:
    def make_store(self, **options: Any) -> Store:
        """A store, with these options given to its constructor. Two that are made in one
        test use the same server, and the same table or collection on it.
        """
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def store(self, clock: Clock) -> Iterator[Store]:
        store = self.make_store(clock=clock)
        yield store
        store.close()


class StoreContract(_Contract):
    """What every store promises."""

    def test_a_created_record_is_loaded_as_it_was(self, store: Store) -> None:
        record = new_record(
            store, bytes(range(256)) * 40, subject="jürgen", deadline=store.now() + 3 * DAY
        )
        assert store.create(record)
        loaded = store.load(record.handle)
        assert loaded is not None
        assert loaded._replace(token=None) == record

    def test_a_record_without_subject_and_deadline_has_none(self, store: Store) -> None:
        record = new_record(store, b"")
        assert store.create(record)
        loaded = store.load(record.handle)
        assert loaded is not None
        assert (loaded.payload, loaded.subject, loaded.deadline) == (b"", None, None)

    def test_an_unknown_handle_is_not_found(self, store: Store) -> None:
        handle = secrets.token_hex(32)
        assert store.load(handle) is None
        assert not store.delete(handle)

    def test_create_never_overwrites(self, store: Store) -> None:
        record = new_record(store, b"first")
        assert store.create(record)
        assert not store.create(record._replace(payload=b"second"))
        assert _payload(store, record) == b"first"

    def test_of_many_creating_one_handle_one_succeeds(self, store: Store) -> None:
        record = new_record(store)
        created = at_once(8, lambda n: store.create(record._replace(payload=b"%d" % n)))
        assert created.count(True) == 1
        assert _payload(store, record) == b"%d" % created.index(True)

    def test_a_record_lives_until_the_moment_it_expires(
        self, store: Store, clock: Clock
    ) -> None:
        record = new_record(store, lifetime=10_000)
        store.create(record)
        clock.advance(9.999)
        assert store.load(record.handle) is not None
        clock.advance(0.001)
        assert store.load(record.handle) is None

    def test_a_record_may_live_for_years(self, store: Store, clock: Clock) -> None:
        record = new_record(store, lifetime=1000 * DAY)
        store.create(record)
        clock.advance(999 * 24 * 3600)
        assert store.load(record.handle) is not None

    def test_replace_stores_the_next_version(self, store: Store, clock: Clock) -> None:
        record = new_record(store, subject="alice", deadline=store.now() + 9 * DAY)
        store.create(record)
        loaded = store.load(record.handle)
        assert loaded is not None
        clock.advance(5)
        later = store.now()
        changed = saved_again(
            loaded,
            b"changed",
            seen=later,
            expires=later + 2 * DAY,
            lifetime=2 * DAY,
            deadline=None,
            subject=None,
        )
        assert store.replace(changed) is changed
        standing = store.load(record.handle)
        assert standing is not None
        assert standing._replace(token=None) == changed._replace(token=None)

    def test_replace_works_on_what_was_just_stored(self, store: Store) -> None:
        record = new_record(store)
        store.create(record)
        second = saved_again(record, b"second")
        third = saved_again(second, b"third")
        assert store.replace(second) is second
        assert store.replace(third) is third
        assert _payload(store, record) == b"third"

    def test_replace_refuses_another_version_and_shows_it(self, store: Store) -> None:
        record = new_record(store)
        store.create(record)
        loaded = store.load(record.handle)
        assert loaded is not None
        store.replace(saved_again(record, b"theirs"))
        standing = store.replace(saved_again(loaded, b"mine"))
        assert standing is not None
        assert (standing.payload, standing.version) == (b"theirs", 2)
        assert _payload(store, record) == b"theirs"

    def test_what_a_refused_replace_shows_can_be_replaced(self, store: Store) -> None:
        record = new_record(store)
        store.create(record)
        store.replace(saved_again(record, b"theirs"))
        standing = store.replace(saved_again(record, b"mine"))
        assert standing is not None
        merged = saved_again(standing, b"both")
        assert store.replace(merged) is merged
        assert _payload(store, record) == b"both"

    def test_of_many_replacing_one_version_one_succeeds(self, store: Store) -> None:
        record = new_record(store)
        store.create(record)
        for version in range(10):
            loaded = store.load(record.handle)
            assert loaded is not None
            assert loaded.version == version + 1
            attempts = [saved_again(loaded, b"%d by %d" % (version, n)) for n in range(8)]
            standing = at_once(8, lambda n, mine=attempts: store.replace(mine[n]))  # type: ignore[misc]
            winners = [n for n in range(8) if standing[n] is attempts[n]]
            assert len(winners) == 1
            assert _payload(store, record) == attempts[winners[0]].payload

    def test_replace_never_creates(self, store: Store) -> None:
        record = new_record(store)
        assert store.replace(saved_again(record, b"changed")) is None
        assert store.load(record.handle) is None

    def test_replace_never_revives_what_has_expired(self, store: Store, clock: Clock) -> None:
        record = new_record(store, lifetime=10_000)
        store.create(record)
        loaded = store.load(record.handle)
        assert loaded is not None
        clock.advance(10)
        now = store.now()
        assert store.replace(saved_again(loaded, b"late", seen=now, expires=now + DAY)) is None
        assert store.load(record.handle) is None

    def test_touch_extends_and_changes_nothing_else(self, store: Store, clock: Clock) -> None:
        record = new_record(store, lifetime=10_000, subject="alice")
        store.create(record)
        clock.advance(9)
        now = store.now()
        touched = record._replace(seen=now, expires=now + 10_000)
        assert store.touch(touched._replace(payload=b"not this", subject="bob"))
        clock.advance(9)
        loaded = store.load(record.handle)
        assert loaded is not None
        assert loaded._replace(token=None) == touched

    def test_a_touch_is_no_conflict_for_a_save(self, store: Store) -> None:
        record = new_record(store)
        store.create(record)
        loaded = store.load(record.handle)
        assert loaded is not None
        store.touch(record._replace(expires=record.expires + 5000))
        changed = saved_again(loaded, b"changed", expires=record.expires + 5000)
        assert store.replace(changed) is changed
        assert _payload(store, record) == b"changed"

    def test_touch_leaves_a_later_version_alone(self, store: Store) -> None:
        record = new_record(store)
        store.create(record)
        saved = saved_again(record, b"saved", expires=record.seen + 5000)
        store.replace(saved)
        assert not store.touch(record._replace(expires=record.expires + DAY))
        loaded = store.load(record.handle)
        assert loaded is not None
        assert loaded._replace(token=None) == saved

    def test_touch_never_creates(self, store: Store) -> None:
        record = new_record(store)
        assert not store.touch(record)
        assert store.load(record.handle) is None

    def test_touch_never_revives_what_has_expired(self, store: Store, clock: Clock) -> None:
        record = new_record(store, lifetime=10_000)
        store.create(record)
        clock.advance(10)
        now = store.now()
        assert not store.touch(record._replace(seen=now, expires=now + DAY))
        assert store.load(record.handle) is None

    def test_delete_says_whether_there_was_one(self, store: Store) -> None:
        record = new_record(store)
        store.create(record)
        assert store.delete(record.handle)
        assert not store.delete(record.handle)

    def test_delete_is_final(self, store: Store) -> None:
        record = new_record(store)
        store.create(record)
        loaded = store.load(record.handle)
        assert loaded is not None
        store.delete(record.handle)
        assert store.replace(saved_again(loaded, b"back?")) is None
        assert not store.touch(loaded)
        assert store.load(record.handle) is None

    def test_of_deleting_and_saving_at_once_deleting_wins(self, store: Store) -> None:
        for _ in range(10):
            record = new_record(store)
            store.create(record)
            loaded = store.load(record.handle)
            assert loaded is not None
            work: list[Callable[[], object]] = [
                lambda handle=record.handle: store.delete(handle),  # type: ignore[misc]
                lambda mine=loaded: store.replace(saved_again(mine, b"x")),  # type: ignore[misc]
                lambda mine=loaded: store.touch(mine),  # type: ignore[misc]
            ]
            at_once(3, lambda n, work=work: work[n]())  # type: ignore[misc]
            assert store.load(record.handle) is None

    def test_ending_leaves_a_tombstone_for_a_while(self, store: Store, clock: Clock) -> None:
        record = new_record(store, subject="alice")
        store.create(record)
        assert store.end(record, remembered=30)
        standing = store.load(record.handle)
        assert standing is not None
        assert (standing.ended, standing.payload) == (True, b"")
        assert not store.touch(record)
        refused = store.replace(saved_again(record, b"back?"))
        assert refused is not None
        assert refused.ended
        assert not store.end(standing)
        clock.advance(30)
        assert store.load(record.handle) is None

    def test_ending_does_not_depend_on_what_was_loaded(self, store: Store) -> None:
        record = new_record(store)
        store.create(record)
        store.replace(saved_again(record, b"theirs"))
        assert store.end(record)
        standing = store.load(record.handle)
        assert standing is not None
        assert standing.ended
        assert not store.end(record)

    def test_ending_follows_a_session_to_its_new_handle(self, store: Store) -> None:
        old, new, newest = (new_record(store) for _ in range(3))
        for record in (old, new, newest):
            store.create(record)
        assert store.replace(new.tombstone(store.now(), 30, newest.handle))
        tombstone = old.tombstone(store.now(), 30, new.handle)
        assert store.replace(tombstone) is tombstone
        assert tombstone.successor == new.handle
        assert store.end(old)
        standing = store.load(newest.handle)
        assert standing is not None
        assert standing.ended
        assert not store.end(old)

    def test_ending_does_not_follow_to_another_subject(self, store: Store) -> None:
        old, new = new_record(store), new_record(store)
        store.create(old)
        store.create(new)
        store.replace(old.tombstone(store.now(), 30, new.handle))
        store.replace(saved_again(new, b"signed in", subject="alice"))
        assert not store.end(old)
        standing = store.load(new.handle)
        assert standing is not None
        assert not standing.ended

    def test_a_machine_whose_clock_is_ahead_ends_it_too(
        self, store: Store, clock: Clock
    ) -> None:
        record = new_record(store, lifetime=1_800_000)
        store.create(record)
        clock.advance(3600)
        assert store.end(record, remembered=0)
        clock.advance(-3600)
        assert store.load(record.handle) is None

    def test_ending_and_saving_at_once_ends(self, store: Store) -> None:
        for _ in range(10):
            record = new_record(store)
            store.create(record)
            deadline = time.monotonic() + 20

            def save(number: int, record: Record = record, until: float = deadline) -> bool:
                if number == 0:
                    return store.end(record)
                standing: Record | None = record
                while standing is not None and not standing.ended:
                    assert time.monotonic() < until, "never told that it has ended"
                    standing = store.replace(saved_again(standing, b"x"))
                return False

            assert at_once(4, save) == [True, False, False, False]

    def test_a_payload_that_is_too_large_leaves_the_old_one(self) -> None:
        store = self.make_store(max_size=1000)
        record = new_record(store, b"x" * 1000)
        assert store.create(record)
        with pytest.raises(SessionTooLarge, match=record.handle):
            store.replace(saved_again(record, b"x" * 1001))
        with pytest.raises(SessionTooLarge, match="1001 bytes"):
            store.create(new_record(store, b"x" * 1001))
        assert _payload(store, record) == b"x" * 1000
        store.close()

    def test_threads_share_a_store_and_see_their_own_records(self, store: Store) -> None:
        def work(number: int) -> int:
            record = new_record(store, b"%d" % number)
            store.create(record)
            for turn in range(20):
                assert _payload(store, record) == b"%d" % (number + turn)
                record = saved_again(record, b"%d" % (number + turn + 1))
                assert store.replace(record) is record
            return number

        assert at_once(8, lambda n: work(n * 1000)) == [n * 1000 for n in range(8)]

    def test_two_stores_on_one_server_see_the_same(self, store: Store, clock: Clock) -> None:
        other = self.make_store(clock=clock)
        record = new_record(store)
        store.create(record)
        assert _payload(other, record) == (None if store.one_process else record.payload)
        if store.one_process:
            return
        other.delete(record.handle)
        assert store.load(record.handle) is None
        other.close()

    def test_purge_takes_nothing_that_is_alive(self, store: Store, clock: Clock) -> None:
        alive, expired = new_record(store), new_record(store, lifetime=1000)
        store.create(alive)
        store.create(expired)
        clock.advance(2)
        assert store.purge() >= 0
        assert _payload(store, alive) == alive.payload
        assert store.load(expired.handle) is None


class IndexContract(_Contract):
    """What a store promises that knows which sessions it keeps."""

    @pytest.fixture
    def subject(self) -> str:
        """Nobody whom the server knows from another test."""
        return f"jürgen {secrets.token_hex(8)}: *?[a-z]\\"

    def test_a_subject_has_its_own_sessions_and_no_others(
        self, store: IndexedStore, subject: str
    ) -> None:
        mine = [new_record(store, subject=subject) for _ in range(3)]
        others = [new_record(store), new_record(store)]
        # For some databases these are the same.
        for unlike in (
            subject.upper(),
            subject.replace("ü", "u"),
            subject + " ",
            subject + ".",
        ):
            others.append(new_record(store, subject=unlike))
        for record in mine + others:
            store.create(record)
        found = [entry.record for entry in store.entries(subject)]
        assert {record.handle for record in found} == {record.handle for record in mine}
        assert {r._replace(token=None) for r in found} == {*mine}
        assert store.count(subject) == len(found) == 3

    def test_all_means_all_and_each_once(self, store: IndexedStore, subject: str) -> None:
        anonymous = [new_record(store) for _ in range(1200)]
        signed_in = [new_record(store, subject=subject) for _ in range(1200)]
        for record in anonymous + signed_in:
            store.create(record)
        handles = [entry.record.handle for entry in store.entries()]
        count = store.count()
        later = [entry.record.handle for entry in store.entries()]
        assert len(handles) == len({*handles})
        assert {record.handle for record in anonymous + signed_in} <= {*later}
        # What others left in this store may expire while we count.
        assert {*later} <= {*handles}
        assert len(later) <= count <= len(handles)
        assert store.count(subject) == 1200

    def test_what_has_expired_is_in_no_list(
        self, store: IndexedStore, clock: Clock, subject: str
    ) -> None:
        record = new_record(store, subject=subject, lifetime=10_000)
        store.create(record)
        clock.advance(9.999)
        assert store.count(subject) == 1
        clock.advance(0.001)
        assert list(store.entries(subject)) == []
        assert store.count(subject) == 0
        assert record.handle not in {e.record.handle for e in store.entries()}

    def test_who_uses_a_session_keeps_it_in_the_list(
        self, store: IndexedStore, clock: Clock, subject: str
    ) -> None:
        saved = new_record(store, subject=subject, lifetime=DAY)
        touched = new_record(store, subject=subject, lifetime=DAY)
        for record in (saved, touched):
            store.create(record)
        for _ in range(5):
            clock.advance(20 * 3600)
            now, later = store.now(), store.now() + DAY
            saved = saved_again(saved, b"x", seen=now, expires=later)
            touched = touched._replace(seen=now, expires=later)
            assert store.replace(saved) is saved
            assert store.touch(touched)
            # Each time an index is written, what is past is removed from it.
            store.create(new_record(store, subject=subject, lifetime=1000))
        clock.advance(3600)
        assert {e.record.handle for e in store.entries(subject)} == {
            saved.handle,
            touched.handle,
        }

    def test_a_session_that_is_to_end_earlier_is_listed_until_then(
        self, store: IndexedStore, clock: Clock, subject: str
    ) -> None:
        record = new_record(store, subject=subject)
        store.create(record)
        store.replace(saved_again(record, b"x", expires=record.seen + 5000, lifetime=5000))
        clock.advance(4)
        assert store.count(subject) == 1
        clock.advance(1)
        assert store.count(subject) == 0

    def test_a_save_that_came_too_late_hides_nothing(
        self, store: IndexedStore, clock: Clock, subject: str
    ) -> None:
        record = new_record(store, subject=subject)
        store.create(record)
        store.replace(saved_again(record, b"first"))
        late = saved_again(record, b"x", expires=record.seen + 5000, lifetime=5000)
        assert store.replace(late) is not late
        clock.advance(8 * 3600)
        store.create(new_record(store, subject=subject, lifetime=1000))
        clock.advance(2)
        assert [e.record.handle for e in store.entries(subject)] == [record.handle]

    def test_what_was_deleted_or_has_ended_is_in_no_list(
        self, store: IndexedStore, subject: str
    ) -> None:
        deleted, ended, alive = (new_record(store, subject=subject) for _ in range(3))
        for record in (deleted, ended, alive):
            store.create(record)
        assert store.delete(deleted.handle)
        assert store.end(ended)
        assert [e.record.handle for e in store.entries(subject)] == [alive.handle]
        assert store.count(subject) == 1
        everybody = {e.record.handle for e in store.entries()}
        assert everybody & {deleted.handle, ended.handle, alive.handle} == {alive.handle}

    def test_who_signs_in_and_out_of_a_session_has_it_for_so_long(
        self, store: IndexedStore, subject: str
    ) -> None:
        record, other = new_record(store), f"{subject}, another"
        store.create(record)
        for who in (subject, other, None, subject):
            record = saved_again(record, b"x", subject=who)
            assert store.replace(record) is record
            listed = [name for name in (subject, other) if store.count(name)]
            assert listed == ([who] if who else [])
        assert [e.record.handle for e in store.entries(subject)] == [record.handle]

    def test_a_handle_is_found_by_its_beginning(self, store: IndexedStore) -> None:
        records = [new_record(store) for _ in range(8)]
        for record in records:
            store.create(record)
        for record in records:
            found = [e.record.handle for e in store.entries(beginning=record.handle[:12])]
            assert found == [record.handle]
        assert list(store.entries(beginning="*")) == []

    def test_a_list_has_the_beginning_of_each_payload_and_no_more(
        self, store: IndexedStore, subject: str
    ) -> None:
        payload = bytes(n % 256 for n in range(3 * LABEL))
        large = new_record(store, payload, subject=subject, deadline=store.now() + 3 * DAY)
        small = new_record(store, b"small", subject=subject)
        for record in (large, small):
            store.create(record)
        found = {entry.record.handle: entry for entry in store.entries(subject)}
        assert found == {
            large.handle: Entry(large._replace(payload=payload[:LABEL]), len(payload)),
            small.handle: Entry(small, 5),
        }

    def test_many_are_ended_but_for_tombstones_and_those_of_others(
        self, store: IndexedStore, clock: Clock, subject: str
    ) -> None:
        mine, expired, ended = (new_record(store, subject=subject) for _ in range(3))
        expired = expired._replace(expires=expired.seen + 10_000, lifetime=10_000)
        others, nobodys = new_record(store, subject=f"{subject}."), new_record(store)
        for record in (mine, expired, ended, others, nobodys):
            store.create(record)
        store.end(ended, remembered=3600)
        clock.advance(10)
        handles = [r.handle for r in (mine, expired, ended, others, nobodys)]
        removed = store._call(store._end_many, handles, subject)
        assert sorted(removed) == sorted([mine.handle, expired.handle])
        assert [store.find(h) is not None for h in handles] == [False, False, True, True, True]
        assert sorted(store._call(store._end_many, handles, None)) == sorted(
            [others.handle, nobodys.handle]
        )
        assert [store.find(handle) is not None for handle in handles].count(True) == 1
        assert store.count(subject) == 0

    @pytest.mark.parametrize("failing", ["_entries", "_end_many"])
    def test_after_a_batch_that_failed_the_next_has_its_turn(
        self,
        store: IndexedStore,
        subject: str,
        monkeypatch: pytest.MonkeyPatch,
        failing: str,
    ) -> None:
        for _ in range(7):
            store.create(new_record(store, subject=subject))
        monkeypatch.setattr(store, "BATCH", 2)
        work = getattr(store, failing)
        failed: list[list[str]] = []

        def fail_once(handles: list[str], *arguments: Any) -> Any:
            if not failed:
                failed.append(handles)
                raise StoreUnavailable("no answer")
            return work(handles, *arguments)

        monkeypatch.setattr(store, failing, fail_once)
        with pytest.raises(StoreUnavailable, match="no answer"):
            list(store.end_all(subject))
        left = sorted(entry.record.handle for entry in store.entries(subject))
        assert left == sorted(failed[0])

    def test_ending_all_of_a_subject_ends_no_others(
        self, store: IndexedStore, subject: str
    ) -> None:
        mine = [new_record(store, subject=subject) for _ in range(3)]
        others = [new_record(store), new_record(store, subject=f"{subject}.")]
        for record in mine + others:
            store.create(record)
        spared = mine[1].handle
        ended = {
            record.handle
            for record in store.end_all(subject, lambda record: record.handle == spared)
        }
        assert ended == {mine[0].handle, mine[2].handle}
        assert [e.record.handle for e in store.entries(subject)] == [spared]
        assert [store.load(handle) for handle in ended] == [None, None]
        assert all(store.load(record.handle) for record in others)
        assert store.replace(saved_again(mine[0], b"back?")) is None

    def test_a_machine_whose_clock_is_ahead_ends_them_all(
        self, store: IndexedStore, clock: Clock, subject: str
    ) -> None:
        for _ in range(3):
            store.create(new_record(store, subject=subject, lifetime=1_800_000))
        clock.advance(3600)
        assert len(list(store.end_all(subject))) == 3
        clock.advance(-3600)
        assert store.count(subject) == 0

    def test_ending_all_ends_what_moves_meanwhile(
        self, store: IndexedStore, subject: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        records = [new_record(store, subject=subject) for _ in range(5)]
        for record in records:
            store.create(record)
        end, unmoved = store._end_many, records[1:]

        def move_the_others_first(handles: list[str], whose: str | None) -> list[str]:
            while unmoved:
                old, new = unmoved.pop(), new_record(store, subject=subject)
                store.create(new)
                assert store.replace(old.tombstone(store.now(), 30, new.handle))
            return end(handles, whose)

        monkeypatch.setattr(store, "_end_many", move_the_others_first)
        assert len(list(store.end_all(subject))) == 5
        assert store.count(subject) == 0

    def test_a_session_that_moves_while_it_is_listed_is_listed_once(
        self, store: IndexedStore, subject: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, new = (new_record(store, subject=subject) for _ in range(2))
        store.create(old)
        found = store._handles

        def moved_meanwhile(*asked: Any) -> tuple[list[str], Any]:
            handles, after = found(*asked)
            assert handles == [old.handle]
            assert store.create(new)
            tombstone = old.tombstone(store.now(), DAY / 1000, new.handle)
            assert store.replace(tombstone) is tombstone
            return [old.handle, new.handle], after

        monkeypatch.setattr(store, "_handles", moved_meanwhile)
        assert [e.record.handle for e in store.entries(subject)] == [new.handle]

    @pytest.mark.parametrize("behind", [0, 61, 3600])
    def test_ending_all_ends_what_a_machine_moves_whose_clock_is_behind(
        self, store: IndexedStore, subject: str, monkeypatch: pytest.MonkeyPatch, behind: int
    ) -> None:
        found = store._handles

        def ends(whose: str | None) -> bool:
            old, new = (new_record(store, subject=subject) for _ in range(2))
            store.create(old)
            tombstone = old.tombstone(store.now() - behind * 1000, DAY / 1000, new.handle)
            unmoved = [old]

            def moved_meanwhile(*asked: Any) -> tuple[list[str], Any]:
                handles, after = found(*asked)  # by then it is known what there is
                if unmoved and old.handle in handles:
                    unmoved.clear()
                    assert store.create(new)
                    assert store.replace(tombstone) is tombstone
                return handles, after

            with monkeypatch.context() as patch:
                patch.setattr(store, "_handles", moved_meanwhile)
                list(store.end_all(whose))
            return not unmoved and store.count(subject) == 0

        assert ends(subject)
        assert ends(None)

    def test_ending_all_ends_what_is_saved_meanwhile(
        self, store: IndexedStore, subject: str
    ) -> None:
        records = [new_record(store, subject=subject) for _ in range(4)]
        for record in records:
            store.create(record)
        deadline = time.monotonic() + 20

        def save_or_end(number: int) -> int:
            if number == 4:
                return sum(1 for _ in store.end_all(subject))
            standing: Record | None = records[number]
            while standing is not None and not standing.ended:
                assert time.monotonic() < deadline, "never told that it has ended"
                standing = store.replace(saved_again(standing, b"x"))
            return 0

        assert at_once(5, save_or_end)[4] == 4
        assert store.count(subject) == 0

    def test_sessions_begun_at_once_are_all_listed(
        self, store: IndexedStore, subject: str
    ) -> None:
        records = [new_record(store, subject=subject) for _ in range(16)]
        assert all(at_once(16, lambda n: store.create(records[n])))
        assert {e.record.handle for e in store.entries(subject)} == {r.handle for r in records}


def _payload(store: Store, record: Record) -> bytes | None:
    loaded = store.load(record.handle)
    return None if loaded is None else loaded.payload
