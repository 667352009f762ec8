"""Whatever is done to a store, in whatever order, it answers as its contract says.

The model is a dict of the records as they should stand. Each example drives a store and the
model alike, under handles that nobody has used before, and compares all that both know.
"""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import Any

from backends import Running
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle
from hypothesis.stateful import initialize
from hypothesis.stateful import invariant
from hypothesis.stateful import multiple
from hypothesis.stateful import MultipleResults
from hypothesis.stateful import precondition
from hypothesis.stateful import rule
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.stateful import run_state_machine_as_test

from flask_serverside.stores import Record
from flask_serverside.stores import Store
from flask_serverside.testing import Clock
from flask_serverside.testing import DAY

#: Milliseconds. Real servers expire by a clock of their own, which no test must wait for:
#: all lifetimes are much longer than a test takes.
lifetimes = st.sampled_from([1_000_000, 5_000_000, DAY, 40 * DAY])
#: What a save may change.
contents = st.fixed_dictionaries(
    {
        "payload": st.sampled_from([b"", b"data", b"\x00\xff" * 300]),
        "subject": st.sampled_from([None, "jürgen"]),
        "deadline": st.sampled_from([None, 7_000_000_000_000]),
    }
)
#: How many records back: what a request holds may be out of date.
ages = st.sampled_from([0, 0, 0, 1, 2, 3])
likely = st.sampled_from([True, True, True, False])
#: Seconds before the record expires that it is used; mostly at once.
waits = st.sampled_from([None, None, None, None, None, 0, 0.125])


def bare(record: Record | None) -> Record | None:
    """Without the mark that is the backend's own business."""
    return None if record is None else record._replace(token=None)


class StoreMachine(RuleBasedStateMachine):
    handles = Bundle("handles")

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__()
        self.store, self.clock = store, clock
        self.born = store.now()
        #: What stands in the store, including what has expired and may still be there.
        self.model: dict[str, Record] = {}
        #: For every handle what was thought of, stored or shown under it, the latest last.
        self.known: dict[str, list[Record]] = {}

    def alive(self, handle: str | None) -> Record | None:
        standing = self.model.get(handle or "")
        return standing if standing and standing.expires > self.store.now() else None

    def stands(self, record: Record) -> None:
        """Known from now on, both as it was saved and as it is loaded."""
        self.model[record.handle] = record._replace(token=None)
        self.known[record.handle].append(record)
        self.load(record.handle)

    def recall(self, handle: str, age: int) -> Record:
        return self.known[handle][-1 - age :][0]

    def origin(self, handle: str) -> str:
        """Where a session began that was moved to this handle, perhaps more than once."""
        for former, records in self.known.items():
            if records[-1].successor == handle:
                return self.origin(former)
        return handle

    def wait_for(self, handle: str, wait: float | None) -> None:
        """Until so many seconds before what stands there expires."""
        standing = self.alive(handle)
        if standing is not None and wait is not None:
            self.clock.seconds = max(self.clock.seconds, standing.expires / 1000 - wait)

    def next_version(self, handle: str) -> int:
        return 1 + max(record.version for record in self.known[handle])

    def used(self, record: Record, version: int, lifetime: int, content: Any) -> Record:
        now = self.store.now()
        return record._replace(
            version=version, seen=now, expires=now + lifetime, lifetime=lifetime, **content
        )

    def replace(self, record: Record) -> None:
        standing = self.alive(record.handle)
        shown = self.store.replace(record)
        if standing is not None and standing.version == record.version - 1:
            assert shown is record
            self.stands(record)
        else:
            assert bare(shown) == standing
            if shown is not None:
                self.known[record.handle].append(shown)

    @initialize(target=handles, moves=st.integers(0, 3), lifetime=lifetimes, content=contents)
    def begin(self, moves: int, lifetime: int, content: Any) -> MultipleResults[str]:
        handles = [self.create(lifetime, content, True)]
        for _ in range(moves):
            handles.append(self.move(handles[-1], 0, lifetime, content, True))
        return multiple(*handles)

    @precondition(lambda self: len(self.known) < 3)
    @rule(target=handles, lifetime=lifetimes, content=contents, stored=likely)
    def create(self, lifetime: int, content: Any, stored: bool) -> str:
        record = Record(secrets.token_hex(32), b"", 1, self.born, 0, 0, 0)
        record = self.used(record, 1, lifetime, content)
        self.known[record.handle] = [] if stored else [record]
        if stored:
            assert self.store.create(record)
            self.stands(record)
        return record.handle

    @rule(handle=handles, lifetime=lifetimes, content=contents)
    def create_under_a_known_handle(self, handle: str, lifetime: int, content: Any) -> None:
        # With a version of its own: outside of tests no handle is used again, and nobody
        # has to tell what was there before from what is there now.
        record = self.recall(handle, 0)._replace(token=None)
        record = self.used(record, self.next_version(handle), lifetime, content)
        created = self.store.create(record)
        if handle not in self.model:
            assert created
        elif self.alive(handle):
            assert not created
        if created:
            self.stands(record)

    @rule(handle=handles)
    def load(self, handle: str) -> None:
        loaded = self.store.load(handle)
        assert bare(loaded) == self.alive(handle)
        if loaded is not None:
            self.known[handle].append(loaded)

    @rule(
        handle=handles,
        age=ages,
        ahead=st.sampled_from([1, 1, 1, 0, 2]),
        wait=waits,
        lifetime=lifetimes,
        content=contents,
    )
    def save(
        self, handle: str, age: int, ahead: int, wait: float | None, lifetime: int, content: Any
    ) -> None:
        self.wait_for(handle, wait)
        known = self.recall(handle, age)
        if ahead != 1:
            # The backend's mark stands for the version that was loaded.
            known = known._replace(token=None)
        self.replace(self.used(known, known.version + ahead, lifetime, content))

    @precondition(lambda self: len(self.known) < 6)
    @rule(
        target=handles,
        handle=handles,
        age=ages,
        lifetime=lifetimes,
        content=contents,
        stored=likely,
    )
    def move(self, handle: str, age: int, lifetime: int, content: Any, stored: bool) -> str:
        successor = self.create(lifetime, content, stored)
        known = self.recall(handle, age)
        self.replace(known.tombstone(self.store.now(), 1000, successor))
        return successor

    @rule(
        handle=handles,
        age=ages,
        ahead=st.sampled_from([0, 0, 1]),
        wait=waits,
        lifetime=lifetimes,
        content=contents,
    )
    def touch(
        self, handle: str, age: int, ahead: int, wait: float | None, lifetime: int, content: Any
    ) -> None:
        self.wait_for(handle, wait)
        standing, known = self.alive(handle), self.recall(handle, age)
        record = self.used(known, known.version + ahead, lifetime, content)
        touched = self.store.touch(record)
        assert touched == (standing is not None and standing.version == record.version)
        if standing is not None and touched:
            self.stands(standing._replace(seen=record.seen, expires=record.expires))

    @rule(handle=handles)
    def delete(self, handle: str) -> None:
        alive = self.alive(handle)
        deleted = self.store.delete(handle)
        if self.model.pop(handle, None) is None:
            assert not deleted
        elif alive:
            assert deleted

    @rule(
        handle=handles,
        early=st.booleans(),
        age=st.sampled_from([0, 1, 2, 2, 3]),
        remembered=st.sampled_from([0, 1000, 1000]),
    )
    def end(self, handle: str, early: bool, age: int, remembered: int) -> None:
        if early:
            handle = self.origin(handle)
        now, known = self.store.now(), self.recall(handle, age)
        standing, certain = self.leads_to(known)
        ended = self.store.end(known, remembered)
        if standing is None or not ended:
            # What has expired may have been removed, and a tombstone that leads on as well.
            assert not ended
            assert standing is None or not certain or standing.expires <= now
            return
        # By this clock it may have expired, by others' perhaps not: it ends a moment before.
        seen = now if standing.expires > now else max(0, standing.expires - 1)
        del self.model[standing.handle]
        if remembered:
            expires, version = seen + 1000 * remembered, standing.version + 1
            tombstone = Record(standing.handle, b"", version, self.born, seen, expires, 0)
            self.stands(tombstone._replace(subject=standing.subject))

    def leads_to(self, known: Record) -> tuple[Record | None, bool]:
        """The session that is to end, expired or not, and whether all that leads there is
        alive.
        """
        record = known if known.ended else self.model.get(known.handle)
        certain = True
        while record is not None and record.ended:
            certain = certain and (record is known or record.expires > self.store.now())
            following = self.model.get(record.successor or "")
            same = following is not None and following.subject == record.subject
            record = following if same else None
        return record, certain

    @rule(handle=handles, wait=st.sampled_from([None, 0, 0.125]), purge=st.booleans())
    def time_passes(self, handle: str, wait: float | None, purge: bool) -> None:
        self.clock.advance(1)
        self.wait_for(handle, wait)
        if purge:
            self.purge()

    def purge(self) -> None:
        assert self.store.purge() >= 0
        assert self.store.purge() == 0
        if type(self.store).purge is not Store.purge:
            self.model = {h: record for h, record in self.model.items() if self.alive(h)}

    @invariant()
    def every_handle_leads_to_what_should_stand_there(self) -> None:
        for handle in self.known:
            assert bare(self.store.load(handle)) == self.alive(handle)


def test_a_store_answers_as_its_model_does(backend: Running) -> None:
    clock = Clock()
    with closing(backend.make_store(clock=clock)) as store:
        run_state_machine_as_test(
            lambda: StoreMachine(store, clock),
            settings=settings(
                max_examples=90,
                stateful_step_count=30,
                derandomize=True,
                database=None,
                deadline=None,
                report_multiple_bugs=False,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
