"""What two requests have changed in one session is merged key by key, and nothing is made up.

A side is changed where its fingerprint differs from that of what both have loaded, so True
is not 1. What is said of all sessions is said by properties, then come some that can be read.
"""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_serverside import SessionConflict
from flask_serverside.merge import FLASHES
from flask_serverside.merge import merge
from flask_serverside.merge import MISSING
from flask_serverside.merge import refuse
from flask_serverside.sealing.codec import Codec
from flask_serverside.sealing.serializers import MsgPack

Data = dict[str, Any]
Queue = list[tuple[str, Any]]
#: Base, mine and theirs, or base and any number of writers.
Sides = list[Data]

codec = Codec(MsgPack())
fingerprint = codec.fingerprint

KEYS = ["a", "b", FLASHES]

scalars = st.sampled_from([None, True, 1, 1.0, "1", float("nan")])
values = st.recursive(
    scalars,
    lambda part: st.lists(part, max_size=2) | st.dictionaries(st.sampled_from("xy"), part),
    max_leaves=3,
)
messages = st.tuples(st.just("info"), st.sampled_from([1, True, "m", "n"]))
queues = st.lists(messages, max_size=4)
many = settings(max_examples=150, deadline=None)


likely = st.sampled_from([True, True, False])


@st.composite
def some_sides(draw: st.DrawFn, writers: int = 2, disjoint: bool = False) -> Sides:
    """What was loaded, and what some writers have made of it: if disjoint, no two of them
    have changed the same key.
    """
    kinds = dict.fromkeys(KEYS, values)
    # Nobody but Flask should write there, but anybody can.
    kinds[FLASHES] = draw(st.sampled_from([queues, queues, queues, queues | scalars]))
    base = {key: draw(kinds[key]) for key in draw(st.permutations(KEYS)) if draw(likely)}
    sides = [loaded(base) for _ in range(writers)]
    for key in KEYS:
        owner = draw(st.integers(0, writers)) if disjoint else None
        for number, side in enumerate(sides):
            if owner in (None, number) and draw(likely):
                side.pop(key, None)
                if draw(likely):
                    side[key] = draw(kinds[key])
    return [base, *sides]


@st.composite
def some_queues(draw: st.DrawFn, writers: int = 2) -> list[Queue]:
    """Queues as Flask makes them, of messages that are all different: what was loaded, and
    what is left of it for each writer, with what it has added.
    """
    base = [("info", f"loaded {n}") for n in range(draw(st.integers(0, 3)))]
    sides = [
        [message for message in base if draw(st.booleans())]
        + [("info", f"{writer} added {n}") for n in range(draw(st.integers(0, 2)))]
        for writer in range(writers)
    ]
    return [base, *sides]


def loaded(data: Data) -> Data:
    """Each request has objects of its own."""
    return codec.decode(codec.encode(data))


def marks(data: Data) -> dict[str, bytes]:
    """The same for the same data, in whatever order its keys are."""
    return {key: fingerprint(value) for key, value in data.items()}


def changed(base: Data, side: Data) -> set[str]:
    before, after = marks(base), marks(side)
    return {key for key in KEYS if before.get(key) != after.get(key)}


def are_queues(*sides: Data) -> bool:
    return all(isinstance(side.get(FLASHES, []), list) for side in sides)


def conflicts(base: Data, mine: Data, theirs: Data) -> set[str]:
    """The keys that both have changed, and not alike, but for the queue of messages."""
    both = changed(base, mine) & changed(base, theirs) & changed(mine, theirs)
    return both - {FLASHES} if are_queues(base, mine, theirs) else both


def merge_queues(base: Queue, mine: Queue, theirs: Queue) -> Queue:
    """An empty queue may also be one that is not there."""
    sides = [{FLASHES: queue} if queue else {} for queue in (base, mine, theirs)]
    merged: Queue = merge(*sides, fingerprint).get(FLASHES, [])
    return merged


def counted(queue: Queue) -> Counter[bytes]:
    return Counter(map(fingerprint, queue))


@many
@given(some_sides())
def test_if_i_have_changed_nothing_theirs_is_left_as_it_is(sides: Sides) -> None:
    base, theirs, _ = sides
    merged = merge(base, loaded(base), theirs, fingerprint)
    assert fingerprint(merged) == fingerprint(theirs)


@many
@given(some_sides())
def test_if_they_have_changed_nothing_mine_is_left_as_it_is(sides: Sides) -> None:
    base, mine, _ = sides
    assert marks(merge(base, mine, loaded(base), fingerprint)) == marks(mine)


@many
@given(some_sides())
def test_no_key_and_no_value_comes_out_of_nowhere(sides: Sides) -> None:
    base, mine, theirs = sides
    for key, value in merge(base, mine, theirs, fingerprint).items():
        if key == FLASHES and are_queues(*sides):
            either = counted([*mine.get(FLASHES, []), *theirs.get(FLASHES, [])])
            assert counted(value) <= either
        else:
            assert any(value is side[key] for side in (mine, theirs) if key in side)


@many
@given(some_sides())
def test_what_one_side_alone_has_changed_is_as_that_side_has_left_it(sides: Sides) -> None:
    base, mine, theirs = sides
    merged = marks(merge(base, mine, theirs, fingerprint))
    for key in changed(base, mine) ^ changed(base, theirs):
        side = mine if key in changed(base, mine) else theirs
        assert merged.get(key) == marks(side).get(key)


@many
@given(some_sides())
def test_of_what_both_have_changed_mine_wins_unless_told_otherwise(sides: Sides) -> None:
    merged = marks(merge(*sides, fingerprint))
    for key in conflicts(*sides):
        assert merged.get(key) == marks(sides[1]).get(key)


@many
@given(some_sides(disjoint=True))
def test_disjoint_changes_commute(sides: Sides) -> None:
    base, one, other = sides
    merged = marks(merge(base, one, other, fingerprint))
    assert merged == marks(merge(base, other, one, fingerprint))


@many
@given(some_sides(writers=3, disjoint=True))
def test_disjoint_changes_of_three_writers_may_come_in_any_order(sides: Sides) -> None:
    base, *writers = sides
    results = []
    for first, second, third in itertools.permutations(writers):
        two = merge(base, second, first, fingerprint)
        results.append(marks(merge(base, third, two, fingerprint)))
    assert all(result == results[0] for result in results)


@many
@given(some_sides(writers=3))
def test_changes_may_be_put_together_before_they_are_applied(sides: Sides) -> None:
    """Where the later save wins, changes that were made to the same base, applied one after
    the other, compose associatively: ``(theirs + first) + second`` is ``theirs + (first +
    second)``, whether or not they meet in a key, for their order is the same on both sides.
    The next test shows that it matters. The queue is a matter of its own: see there.
    """
    base, first, second, theirs = ({k: v for k, v in s.items() if k != FLASHES} for s in sides)
    one_by_one = merge(base, second, merge(base, first, theirs, fingerprint), fingerprint)
    together = merge(base, second, first, fingerprint)
    assert marks(one_by_one) == marks(merge(base, together, theirs, fingerprint))


def test_of_two_changes_to_one_key_the_order_decides() -> None:
    base, first, second = {"a": 0, "b": 0}, {"a": 1, "b": 0}, {"a": 2, "b": 3}
    assert merge(base, second, first, fingerprint) == {"a": 2, "b": 3}
    assert merge(base, first, second, fingerprint) == {"a": 1, "b": 3}


@many
@given(some_sides())
def test_two_sides_that_agree_are_not_in_conflict(sides: Sides) -> None:
    base, mine, _ = sides
    if are_queues(base, mine):
        mine.pop(FLASHES, None)
    assert marks(merge(base, mine, loaded(mine), fingerprint, refuse)) == marks(mine)


@many
@given(some_sides(), st.sampled_from([MISSING, None, "resolved"]))
def test_resolve_decides_about_what_both_have_changed_and_not_alike_and_nothing_else(
    sides: Sides, decision: Any
) -> None:
    asked = []

    def resolve(key: str, *sees: Any) -> Any:
        asked.append(key)
        stand = [side.get(key, MISSING) for side in sides]
        assert all(value is seen for value, seen in zip(stand, sees, strict=True))
        return decision

    merged = merge(*sides, fingerprint, resolve)
    assert sorted(asked) == sorted(conflicts(*sides))
    assert all(merged.get(key, MISSING) is decision for key in asked)
    assert not any(value is MISSING for value in merged.values())
    for side in (merged, undisputed := merge(*sides, fingerprint)):
        for key in asked:
            side.pop(key, None)
    assert marks(merged) == marks(undisputed)


@many
@given(some_sides())
def test_to_refuse_is_to_raise_if_there_is_a_conflict_and_only_then(sides: Sides) -> None:
    if conflicts(*sides):
        with pytest.raises(SessionConflict):
            merge(*sides, fingerprint, refuse)
    else:
        refused = merge(*sides, fingerprint, refuse)
        assert fingerprint(refused) == fingerprint(merge(*sides, fingerprint))


@many
@given(some_sides())
def test_where_both_have_the_same_the_very_object_is_mine(sides: Sides) -> None:
    base, mine, theirs = sides
    merged = merge(base, mine, theirs, fingerprint)
    alike = set(mine) - changed(mine, theirs)
    if are_queues(*sides) and FLASHES in changed(base, mine):
        alike -= {FLASHES}  # they are two queues, and the merged one is a third
    assert all(merged[key] is mine[key] for key in alike)


@many
@given(some_sides())
def test_a_merge_leaves_the_sides_as_they_are(sides: Sides) -> None:
    before = [fingerprint(side) for side in sides]
    merged = merge(*sides, fingerprint)
    assert [fingerprint(side) for side in sides] == before
    merged.clear()
    merged["new"] = True
    assert [fingerprint(side) for side in sides] == before


@many
@given(some_sides())
def test_their_keys_keep_their_order_and_the_ones_i_have_added_follow(sides: Sides) -> None:
    _, mine, theirs = sides
    merged = list(merge(*sides, fingerprint))
    order = [*theirs, *(key for key in mine if key not in theirs)]
    assert merged == [key for key in order if key in merged]


@many
@given(some_queues())
def test_messages_added_on_both_sides_are_all_there_once_in_order(sides: list[Queue]) -> None:
    base, mine, theirs = sides
    merged = merge_queues(base, mine, theirs)
    assert len(merged) == len(set(merged))
    for side, other in ((mine, theirs), (theirs, mine)):
        assert {message for message in side if message not in base} <= {*merged}
        kept = [message for message in side if message in other or message not in base]
        assert [message for message in merged if message in side] == kept


@many
@given(some_queues())
def test_a_message_that_either_side_has_taken_is_gone(sides: list[Queue]) -> None:
    base, mine, theirs = sides
    taken = {*base} - ({*mine} & {*theirs})
    assert not taken & {*merge_queues(base, mine, theirs)}


@many
@given(some_queues())
def test_my_messages_come_after_theirs(sides: list[Queue]) -> None:
    base, mine, theirs = sides
    left = [message for message in theirs if message in mine or message not in base]
    added = [message for message in mine if message not in base]
    assert merge_queues(base, mine, theirs) == left + added


@many
@given(some_queues(writers=3))
def test_messages_of_three_writers_are_the_same_in_any_order(sides: list[Queue]) -> None:
    """The same messages; theirs is always the front of the queue."""
    base, *writers = sides
    results = [
        {*merge_queues(base, third, merge_queues(base, second, first))}
        for first, second, third in itertools.permutations(writers)
    ]
    assert all(result == results[0] for result in results)


@many
@given(some_queues(writers=3))
def test_queues_may_be_put_together_before_they_are_applied(sides: list[Queue]) -> None:
    """Associative, as for the other keys, but only while all messages are different: the
    next test has the counter-example.
    """
    base, first, second, theirs = sides
    one_by_one = merge_queues(base, second, merge_queues(base, first, theirs))
    together = merge_queues(base, second, first)
    assert one_by_one == merge_queues(base, together, theirs)


def test_a_repeated_message_is_taken_once_by_each_who_has_seen_it_once() -> None:
    message = ("info", "saved")
    base, nothing, theirs = [message], [], [message, message]
    assert merge_queues(base, nothing, theirs) == [message]
    assert merge_queues(base, nothing, merge_queues(base, nothing, theirs)) == []
    together = merge_queues(base, nothing, nothing)
    assert merge_queues(base, together, theirs) == [message]


@many
@given(queues, queues, queues)
def test_of_repeated_messages_as_many_are_left_as_were_not_taken(
    base: Queue, mine: Queue, theirs: Queue
) -> None:
    merged = counted(merge_queues(base, mine, theirs))
    before, left, there = map(counted, (base, mine, theirs))
    for mark in {*before, *left, *there, *merged}:
        taken = max(0, before[mark] - left[mark])
        added = max(0, left[mark] - before[mark])
        rest = there[mark] - min(there[mark], taken)
        assert merged[mark] == rest + added


HELLO, BYE, OOPS = ("info", "hello"), ("info", "bye"), ("error", "oops")


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "merged"),
    [
        ([], [HELLO], [BYE], [BYE, HELLO]),
        ([], [HELLO], [HELLO], [HELLO, HELLO]),
        ([HELLO], [], [HELLO, BYE], [BYE]),
        ([HELLO], [HELLO, BYE], [], [BYE]),
        ([HELLO], [BYE], [OOPS], [OOPS, BYE]),
        ([HELLO, HELLO], [HELLO], [HELLO, HELLO, BYE], [HELLO, BYE]),
        ([("info", 1)], [], [("info", 1), ("info", True)], [("info", True)]),
    ],
)
def test_of_the_queue_each_takes_and_adds_messages(
    base: Queue, mine: Queue, theirs: Queue, merged: Queue
) -> None:
    assert fingerprint(merge_queues(base, mine, theirs)) == fingerprint(merged)


def test_a_queue_from_which_all_was_taken_is_no_more() -> None:
    sides: Sides = [{FLASHES: [HELLO, BYE]}, {FLASHES: [HELLO]}, {FLASHES: [BYE]}]
    assert merge(*sides, fingerprint) == {}


def test_what_is_no_queue_is_a_value_like_any_other() -> None:
    sides: Sides = [{}, {FLASHES: [HELLO]}, {FLASHES: "theirs"}]
    assert merge(*sides, fingerprint) == {FLASHES: [HELLO]}
    with pytest.raises(SessionConflict):
        merge(*sides, fingerprint, refuse)


def test_a_list_under_another_key_is_no_queue() -> None:
    assert merge({}, {"a": [1]}, {"a": [2]}, fingerprint) == {"a": [1]}


@pytest.mark.parametrize(
    ("resolve", "merged"),
    [
        (lambda key, base, mine, theirs: theirs, {"visits": 7, "user": "ann"}),
        (lambda key, base, mine, theirs: mine + theirs - base, {"visits": 9, "user": "ann"}),
        (lambda key, base, mine, theirs: MISSING, {"user": "ann"}),
        (lambda key, base, mine, theirs: None, {"visits": None, "user": "ann"}),
    ],
    ids=["theirs", "the sum", "neither", "None"],
)
def test_a_function_may_decide(resolve: Callable[..., Any], merged: Data) -> None:
    base = {"visits": 4, "cart": [1]}
    mine, theirs = {"visits": 6}, {"visits": 7, "cart": [1], "user": "ann"}
    assert merge(base, mine, theirs, fingerprint, resolve) == merged


def test_who_refuses_names_the_key() -> None:
    with pytest.raises(SessionConflict, match=r"session\['visits'\]"):
        merge({}, {"visits": 1}, {"visits": True}, fingerprint, refuse)


def test_what_one_side_has_deleted_and_the_other_has_changed_is_in_conflict() -> None:
    seen = []

    def resolve(*sees: Any) -> Any:
        seen.append(sees)
        return sees[2]

    base = {"a": 1, "b": 1}
    assert merge(base, {"a": 2}, {"b": 2}, fingerprint, resolve) == {"a": 2}
    assert seen == [("b", 1, MISSING, 2), ("a", 1, 2, MISSING)]
    assert repr(MISSING) == "MISSING"


class Role(enum.StrEnum):
    USER = "user"


def test_a_value_of_a_subclass_is_the_same_as_what_it_is_stored_as() -> None:
    theirs = {"role": "admin"}
    assert merge({"role": "user"}, {"role": Role.USER}, theirs, fingerprint, refuse) == theirs
