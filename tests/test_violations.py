"""The checker of histories: what it must find, and what it must not, once a request was
answered 503 and nobody knows whether it was done."""

from __future__ import annotations

from typing import Any

import pytest
from history import Event
from history_app import LIFE
from violations import violations

#: The session that each of these histories is about.
ALIVE = {LIFE: "life of a"}
OTHER = {LIFE: "life of b"}
ID = "id"


class Told:
    """A history, one request after the other, all with the same id."""

    def __init__(self) -> None:
        self.history: list[Event] = []
        self.done("set", "x", "a", {}, cookie=ID)

    def done(self, op: str, key: str, value: str, seen: dict[str, Any], **more: Any) -> None:
        result = more.pop("result", None)
        self._add(op, key, value, 200, body={"seen": seen, "result": result}, **more)

    def failed(self, op: str, key: str = "", value: str = "unknown") -> None:
        self._add(op, key, value, 503)

    def refused(self, op: str, key: str = "", value: str = "refused") -> None:
        self._add(op, key, value, 409)

    def read(self, **seen: Any) -> list[str]:
        """What is wrong if this is what is there in the end."""
        self.done("read", "", "last-1", ALIVE | {"x": "a"} | seen)
        return violations(self.history, disturbed=True)

    def _add(self, op: str, key: str, value: str, status: int, **more: Any) -> None:
        start = 10.0 * len(self.history)
        event = Event(op, key, value, start, ID, start + 5, status, **more)
        if not self.history:
            event.sent = None
        self.history.append(event)


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_503_is_no_answer_unless_something_happens(told: Told) -> None:
    told.failed("set")
    assert "set was answered 503" in violations(told.history)


@pytest.mark.parametrize("seen", [{}, {"k": "unknown"}])
def test_a_value_that_may_have_been_written_is_there_or_not(
    told: Told, seen: dict[str, str]
) -> None:
    told.failed("set", "k")
    assert told.read(**seen) == []


def test_one_that_was_refused_is_not(told: Told) -> None:
    told.refused("set", "x")
    assert "x: a refused value is there" in told.read(x="refused")[0]


def test_one_that_was_acknowledged_is_whatever_failed_before(told: Told) -> None:
    told.failed("delete", "k")
    told.failed("set", "k")
    told.done("set", "k", "acknowledged", ALIVE | {"x": "a"})
    told.failed("atomic")
    assert "an acknowledged write is gone" in told.read()[0]


def test_one_that_was_overwritten_does_not_come_back(told: Told) -> None:
    told.done("set", "k", "first", ALIVE | {"x": "a"})
    told.done("set", "k", "second", ALIVE | {"x": "a", "k": "first"})
    told.failed("set", "j")
    assert "was overwritten" in told.read(k="first")[0]


@pytest.mark.parametrize("count", [1, 2])
def test_an_increment_that_may_have_been_made_counts_once_or_not(
    told: Told, count: int
) -> None:
    told.done("atomic", "", "one", ALIVE | {"x": "a"}, result=1)
    told.failed("atomic")
    assert told.read(count=count) == []


@pytest.mark.parametrize("count", [0, 3])
def test_it_does_not_count_twice_nor_take_others_away(told: Told, count: int) -> None:
    told.done("atomic", "", "one", ALIVE | {"x": "a"}, result=1)
    told.failed("atomic")
    assert "increments were made" in told.read(count=count)[0]


@pytest.mark.parametrize("there", [["1", "3"], ["1", "unknown", "3"]])
def test_what_may_have_been_appended_is_in_its_place_or_not(
    told: Told, there: list[str]
) -> None:
    append(told)
    assert told.read(n={"in": there}) == []


@pytest.mark.parametrize(
    "there",
    [["1"], ["1", "unknown"], ["unknown", "1", "3"], ["1", "unknown", "unknown", "3"], ["3"]],
)
def test_it_is_there_once_and_the_others_all_are(told: Told, there: list[str]) -> None:
    append(told)
    assert "appended were" in told.read(n={"in": there})[0]


def append(told: Told) -> None:
    told.done("nested", "n", "1", ALIVE | {"x": "a"})
    told.failed("nested", "n")
    told.done("nested", "n", "3", ALIVE | {"x": "a", "n": {"in": ["1"]}})


@pytest.mark.parametrize("op", ["destroy", "revoke", "expire", "regenerate"])
def test_a_session_that_may_have_been_ended_is_alive_or_not(told: Told, op: str) -> None:
    told.failed(op)
    assert violations(told.history, disturbed=True) == []
    assert told.read() == []


@pytest.mark.parametrize("op", ["destroy", "revoke", "regenerate"])
def test_once_it_was_seen_dead_it_stays_so(told: Told, op: str) -> None:
    told.failed(op)
    told.done("read", "", "dead", {})
    assert "it was dead and is alive again" in told.read()[0]


def test_one_whose_end_was_acknowledged_is_not_alive(told: Told) -> None:
    told.failed("set")
    told.done("destroy", "", "end", ALIVE | {"x": "a"}, cookie="")
    assert any("it was ended and is alive" in line for line in told.read())


def test_one_that_was_used_does_not_end_by_itself(told: Told) -> None:
    told.failed("set")
    assert violations(told.history, disturbed=True) == [
        "life of a: it is gone, and nobody has ended it"
    ]


def test_what_may_have_ended_another_session_does_not_excuse_it(told: Told) -> None:
    told.failed("destroy")
    told.history[-1].sent = "another id"
    assert violations(told.history, disturbed=True) == [
        "life of a: it is gone, and nobody has ended it"
    ]


def test_a_message_that_may_have_been_taken_is_not_missed(told: Told) -> None:
    told.done("flash", "", "hello", ALIVE | {"x": "a"})
    told.failed("show")
    assert told.read() == []


def test_one_that_nobody_may_have_taken_is(told: Told) -> None:
    told.done("flash", "", "hello", ALIVE | {"x": "a"})
    told.failed("set")
    assert told.read() == ["life of a: a message was never shown: hello"]


def test_one_is_shown_once_also_if_it_may_have_been_taken(told: Told) -> None:
    told.failed("flash", value="hello")
    for number in ("1", "2"):
        told.done("show", "", number, ALIVE | {"x": "a"}, result=["hello"])
    assert "a message was shown twice: hello" in told.read()
