"""What every store promises, each promise a test."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest

from ..errors import SessionTooLarge
from ..stores import Record
from ..stores import Store
from .clock import Clock
from .records import DAY
from .records import new_record
from .records import saved_again
from .threads import at_once


class Contract:
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


class StoreContract(Contract):
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


def _payload(store: Store, record: Record) -> bytes | None:
    loaded = store.load(record.handle)
    return None if loaded is None else loaded.payload
