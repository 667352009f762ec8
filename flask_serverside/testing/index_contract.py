"""What a store promises that can say which sessions it keeps, each promise a test."""

from __future__ import annotations

import secrets
import time
from typing import Any

import pytest

from ..errors import StoreUnavailable
from ..stores import Entry
from ..stores import IndexedStore
from ..stores import LABEL
from ..stores import Record
from .clock import Clock
from .contract import Contract
from .records import DAY
from .records import new_record
from .records import saved_again
from .threads import at_once


class IndexContract(Contract):
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
