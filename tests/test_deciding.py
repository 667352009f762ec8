"""Every state, wish and moment that can be, decided: which rule is followed, and what no rule
may do. The table of docs/internals.md is made here."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import NamedTuple

import pytest

from flask_serverside.config import Settings
from flask_serverside.saving.chain import next_in
from flask_serverside.saving.decide import decide
from flask_serverside.saving.effects import Answer
from flask_serverside.saving.effects import CLEARED
from flask_serverside.saving.effects import DONE
from flask_serverside.saving.effects import Ending
from flask_serverside.saving.effects import Evicted
from flask_serverside.saving.effects import Found
from flask_serverside.saving.effects import Missing
from flask_serverside.saving.effects import Report
from flask_serverside.saving.effects import Stored
from flask_serverside.saving.effects import TellClient
from flask_serverside.saving.effects import TooMany
from flask_serverside.saving.react import react
from flask_serverside.saving.state import Absent
from flask_serverside.saving.state import Ended
from flask_serverside.saving.state import Held
from flask_serverside.saving.state import Known
from flask_serverside.saving.state import Move
from flask_serverside.saving.state import Moving
from flask_serverside.saving.state import Snapshot
from flask_serverside.saving.state import State
from flask_serverside.saving.state import Unknown
from flask_serverside.saving.steps import Bury
from flask_serverside.saving.steps import Create
from flask_serverside.saving.steps import EndLeft
from flask_serverside.saving.steps import EndPresented
from flask_serverside.saving.steps import Evict
from flask_serverside.saving.steps import Gone
from flask_serverside.saving.steps import GoOn
from flask_serverside.saving.steps import Moment
from flask_serverside.saving.steps import Nothing
from flask_serverside.saving.steps import Rotate
from flask_serverside.saving.steps import Rule
from flask_serverside.saving.steps import Save
from flask_serverside.saving.steps import Step
from flask_serverside.saving.steps import Touch
from flask_serverside.saving.steps import Warn
from flask_serverside.saving.steps import Withdraw
from flask_serverside.saving.wanted import Wanted
from flask_serverside.sealing.envelope import Contents
from flask_serverside.stores import Record
from flask_serverside.web.identity import handle_of

pytestmark = pytest.mark.group("memory")

NOW = 1_000_000_000
LIFETIME = 3_600_000
SID, NEW_SID, THIRD_SID = "s" * 43, "n" * 43, "t" * 43
SUBJECTS = (None, "ada", "bob")
SETTINGS = Settings.from_config(
    {
        "SECRET_KEY": "test",
        "PERMANENT_SESSION_LIFETIME": LIFETIME // 1000,
        "SESSION_ROTATION_INTERVAL": 1000,
        "SESSION_MAX_PER_SUBJECT": 2,
    }
)


class Case(NamedTuple):
    state: State
    wanted: Wanted
    moment: Moment
    settings: Settings

    def decided(self) -> Step:
        return decide(*self)


def snapshot(sid: str = SID, subject: str | None = None, **more: Any) -> Snapshot:
    seen, issued = more.pop("seen", NOW), more.pop("issued", NOW)
    data = more.pop("data", b"old")
    expires = seen + LIFETIME
    deadline = more.pop("deadline", None)
    record = Record(handle_of(sid), b"", 3, seen, seen, expires, LIFETIME, deadline, subject)
    contents = Contents(data, issued, **more.pop("contents", {}))
    return Snapshot(sid, record, contents, subject, True)


def states() -> Iterator[State]:
    yield Absent(NEW_SID)
    yield Absent(NEW_SID, asked=True)
    held = [
        snapshot(subject=subject, seen=seen, issued=issued, contents={"outdated": outdated})
        for subject in (None, "ada")
        for seen in (NOW, NOW - LIFETIME // 2)
        for issued in (NOW, NOW - 2_000_000)
        for outdated in (False, True)
    ]
    yield from map(Held, held)
    for subject in (None, "ada"):
        former = snapshot(subject=subject)
        moves = (Move("asked"), Move("subject"), Move("rotation", b"r" * 32))
        placed = (
            None,
            snapshot(NEW_SID, subject),
            snapshot(NEW_SID, "bob"),
            snapshot(NEW_SID, subject, data=b"new"),
        )
        for move, there in itertools.product(moves, placed):
            yield Moving(former, move, NEW_SID, there)
    yield Moving(snapshot(deadline=NOW), Move("asked"), NEW_SID)
    for whose, seen in (("ada", "ada"), ("ada", None), (None, None)):
        tombstone = snapshot(subject=whose).record.tombstone(NOW, 30, "f" * 64)
        for asked in (False, True):
            yield Ended(tombstone, seen, NEW_SID, asked)
    yield Unknown(Held(snapshot()))
    yield Unknown(Absent(NEW_SID))
    yield Unknown(Ended(snapshot().record.tombstone(NOW, 30)))


def wishes() -> Iterator[Wanted]:
    for encoded, subject in itertools.product((b"", b"old", b"new"), SUBJECTS):
        if not encoded and subject is not None:
            continue
        plain = Wanted(encoded, subject, True)
        yield plain
        yield plain._replace(lifetime=60_000)
        yield plain._replace(proved=NOW)
        yield plain._replace(disowned=True)
        for cleared in (False, True):
            yield plain._replace(kept=frozenset(), subject_kept=False, cleared=cleared)
        yield plain._replace(kept=frozenset({"_user_id"}))


def moments() -> Iterator[Moment]:
    for late, finishing, presented in itertools.product(
        (False, True), (False, True), (None, "e" * 64)
    ):
        yield Moment(NOW, late, finishing, presented=presented)


def settings() -> Iterator[Settings]:
    yield SETTINGS
    yield replace(SETTINGS, regenerate_on_subject_change=False)
    yield replace(SETTINGS, touch_on_read=False, max_per_subject=None, rotation_interval=None)


CASES = [Case(*case) for case in itertools.product(states(), wishes(), moments(), settings())]


def test_there_are_many() -> None:
    assert len(CASES) > 50_000


def test_each_rule_is_followed_somewhere() -> None:
    followed = {case.decided().rule for case in CASES}
    assert {*Rule} - followed == {Rule.EVICT, Rule.TOO_LATE}  # which only answers lead to


def test_nobody_is_given_an_id_that_cannot_be_told() -> None:
    for case in CASES:
        if case.moment.late:
            step = case.decided()
            assert not isinstance(step, Create | Rotate), case
            if isinstance(step, GoOn):
                assert isinstance(step.state, Held), case


def test_nothing_is_done_while_nobody_knows_what_is_stored() -> None:
    """It fails again, unless the view asks for nothing that is not stored, nor for an end."""
    for case in CASES:
        step, state, wanted = case.decided(), case.state, case.wanted
        assert (step.rule in (Rule.NO_ANSWER, Rule.CAUGHT)) == isinstance(state, Unknown)
        if step.rule is Rule.CAUGHT:
            assert isinstance(state, Unknown)
            assert not isinstance(state.before, Ended)
            data = b"old" if isinstance(state.before, Held) else b""
            assert wanted.encoded == data
            assert case.moment.presented is None


def test_what_has_ended_is_never_revived() -> None:
    """Only whoever signs in begins a session then, and under an id of its own."""
    for case in CASES:
        if isinstance(case.state, Ended):
            step = case.decided()
            assert not isinstance(step, Save | Bury | Touch), case
            if isinstance(step, Create):
                assert case.wanted.subject not in (None, case.state.subject), case
                assert step.snapshot.handle != case.state.tombstone.handle


def test_a_request_that_changes_nothing_costs_nothing_unless_it_is_due() -> None:
    for case in CASES:
        state, wanted = case.state, case.wanted
        if not (isinstance(state, Held) and case.moment.finishing):
            continue
        seen = state.snapshot
        unchanged = wanted == Wanted(b"old", seen.subject, True)
        fresh = (seen.record.seen, seen.contents.issued) == (NOW, NOW)
        if unchanged and fresh and not seen.contents.outdated:
            assert case.decided() == Nothing(Rule.UNCHANGED), case


def test_every_write_is_conditional_on_what_was_seen() -> None:
    for case in CASES:
        step = case.decided()
        if isinstance(step, Create):
            new = step.snapshot
            assert new.record.version == 1
            assert new.handle == handle_of(new.sid) == handle_of(NEW_SID)
        elif isinstance(step, Save):
            mine = step.snapshot
            assert (mine.record.version, mine.record.ended) == (4, False)
            assert mine.handle == handle_of(mine.sid)
        elif isinstance(step, Bury):
            assert (step.tombstone.version, step.tombstone.ended) == (4, True)
            assert step.tombstone.handle == handle_of(step.sid)


def test_a_sign_in_or_out_never_goes_on_under_the_old_id() -> None:
    for case in CASES:
        if not isinstance(case.state, Held) or not case.settings.regenerate_on_subject_change:
            continue
        step, was = case.decided(), case.state.snapshot.subject
        if isinstance(step, Save | Touch) and case.wanted.subject != was:
            assert case.moment.late, case
            assert case.wanted.subject is None, case  # signing out counts in any case


def test_an_old_id_leads_to_no_session_of_somebody_else() -> None:
    for case in CASES:
        step = case.decided()
        if isinstance(step, Bury) and step.rule is Rule.SUPERSEDE:
            assert isinstance(case.state, Moving)
            placed = case.state.placed
            same = placed is not None and placed.record.subject == case.state.former.subject
            rotation = case.state.move.rotation if same else None
            assert (step.tombstone.rotation or b"") == (rotation or b""), case
            assert step.tombstone.subject == case.state.former.subject


def answers(step: Step, state: State) -> list[Answer]:
    """All that a store can say to it."""
    other, exchanged = snapshot(data=b"theirs"), snapshot(THIRD_SID, data=b"theirs")
    left = snapshot().record.tombstone(NOW, 30, "f" * 64)
    refused = [Found(other, {}), Found(exchanged, {}), Missing(None), Missing(left)]
    match step:
        case Save():
            return [Stored(_stored(step)), *refused]
        case Bury():
            return [Stored(None), *refused]
        case Touch():
            assert isinstance(state, Held)
            return [Stored(state.snapshot), DONE]
        case Create():
            new = _stored(step)
            return [Stored(new), *([TooMany(new)] if step.counted else [])]
        case EndPresented() | EndLeft():
            return [Ending(False), Ending(True, left), Ending(True)]
        case Evict():
            return [Evicted(False), Evicted(True)]
    assert isinstance(step, GoOn | Rotate | Withdraw | Gone | Warn | Nothing)
    return [DONE]


def _stored(step: Save | Create) -> Snapshot:
    return step.snapshot


def followed(case: Case) -> Iterator[tuple[Case, Step, Answer, Any]]:
    """Each way that a save can go from here, to its end or until others were first."""
    step = case.decided()
    if isinstance(case.state, Unknown):
        return
    waiting = [(case, step, 0)]
    while waiting:
        case, step, depth = waiting.pop()
        assert depth < 9, f"it does not end: {case}, {step}"
        assert not isinstance(case.state, Unknown)
        if isinstance(step, Rotate):
            step = GoOn(step.rule, next_in(step.snapshot, case.settings))
        for answer in answers(step, case.state):
            reaction = react(case.state, case.wanted, step, answer, case.moment, case.settings)
            yield case, step, answer, reaction
            state: Known = reaction.state
            if not isinstance(state, Held) and not state.sid:
                state = replace(state, sid=THIRD_SID)
            moment = case.moment
            if isinstance(step, EndPresented):
                moment = moment._replace(presented=None)
            going = case._replace(state=state, moment=moment)
            if reaction.then is not None:
                waiting.append((going, reaction.then, depth + 1))
            elif reaction.again and reaction.merge is None:
                waiting.append((going, going.decided(), depth + 1))


WAYS = CASES[:: 7 if os.environ.get("REQUIRE_SERVERS") != "1" else 1]


def test_every_save_ends_whatever_the_store_answers() -> None:
    for case in WAYS:
        for _ in followed(case):
            pass


def test_a_cookie_is_given_only_to_what_is_stored() -> None:
    for case in WAYS:
        for _, _, answer, reaction in followed(case):
            for effect in reaction.effects:
                if isinstance(effect, TellClient) and effect.cookie not in (None, CLEARED):
                    assert isinstance(answer, Stored | Found), answer
                    assert not case.moment.late or isinstance(case.state, Held | Moving)


def test_what_is_dropped_is_told_or_nothing_is_lost() -> None:
    for case in WAYS:
        for _, _, answer, reaction in followed(case):
            if isinstance(answer, Missing) and isinstance(reaction.state, Ended):
                told = any(isinstance(effect, Report) for effect in reaction.effects)
                asks = case.wanted.encoded != b"old" or case.wanted.kept is not None
                assert told or not (case.wanted.encoded and asks), case


# -- the table of the docs

INTERNALS = Path(__file__).parent.parent / "docs" / "internals.md"


def table() -> str:
    rows: dict[Rule, set[tuple[str, str]]] = defaultdict(set)
    for case in CASES:
        step = case.decided()
        rows[step.rule].add((type(case.state).__name__, type(step).__name__))
    for case in CASES[::11]:
        for going, then, _, _ in followed(case):
            if then.rule in (Rule.EVICT, Rule.TOO_LATE):
                rows[then.rule].add((type(going.state).__name__, type(then).__name__))
    lines = ["| rule | state | step | why |", "|---|---|---|---|"]
    for rule in Rule:
        kinds = sorted({state for state, _ in rows[rule]})
        steps = sorted({step for _, step in rows[rule]})
        named = ", ".join(f"`{kind}`" for kind in kinds)
        done = ", ".join(f"`{step}`" for step in steps)
        lines.append(f"| `{rule.name}` | {named} | {done} | {rule.value} |")
    return "\n".join(lines)


def test_the_table_in_the_docs_is_what_is_decided() -> None:
    text = INTERNALS.read_text()
    if os.environ.get("WRITE_DOCS") == "1":
        begin, _, rest = text.partition("| rule | state |")
        INTERNALS.write_text(begin + table() + "\n\n" + rest.partition("\n\n")[2])
        text = INTERNALS.read_text()
    assert table() in text
