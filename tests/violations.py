"""What cannot have been, whatever the order of those that overlapped: a history is checked.

While a server is disturbed, a request may be answered 503. Nobody knows then whether it was
done: what it wrote may be there or not, what it ended may be alive or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from history import ENDINGS
from history import Event
from history import FOREVER
from history_app import LIFE

#: Seconds after its end for which an id is surely still known to have ended.
REMEMBERED = 20
#: What always changes something.
SAVES = ("set", "nested", "atomic", "flash")


def violations(history: list[Event], disturbed: bool = False) -> list[str]:
    """What must not have been; empty if all promises were kept.

    :param disturbed: whether a request may be answered 503.
    """
    allowed = (200, 409, 410, 503) if disturbed else (200, 409, 410)
    found = [
        f"{event.op} was answered {event.status}"
        for event in history
        if event.status not in allowed
    ]
    lives = _lives(history)
    found += _revived_ids(history, lives) + _cookies_of_the_dead(history) + _messages(history)
    refused = {event.value for event in history if event.refused}
    may_end = {event.sent for event in history if event.op in ENDINGS and event.sent}
    for life, events in lives.items():
        found += [f"{life}: {problem}" for problem in _check_life(events, refused, may_end)]
    return found


def _lives(history: list[Event]) -> dict[str, list[Event]]:
    """The events of each session, among them those that may have been."""
    behind: dict[str, set[str]] = defaultdict(set)  # an id
    for event in history:
        if event.life is not None:
            if event.sent and LIFE in (event.seen or {}):
                behind[event.sent].add(event.life)
            if event.cookie:
                behind[event.cookie].add(event.life)
    lives: dict[str, list[Event]] = defaultdict(list)
    for event in history:
        possible = {event.life}
        if event.unknown:
            ids = {event.sent, event.cookie} & behind.keys()
            possible = {event.begun}.union(*(behind[sid] for sid in ids))
        for life in possible - {None}:
            lives[life].append(replace(event))
    for events in lives.values():
        _settle(events)
    return lives


def _settle(events: list[Event]) -> None:
    """What has not been done before the next save cannot be any more: that has another
    version.
    """
    saves = [event for event in events if event.done and event.op in SAVES]
    for event in events:
        if event.unknown:
            later = (save.end for save in saves if save.start > event.end)
            event.done_by = min(later, default=FOREVER)
        else:
            event.done_by = event.end


def _revived_ids(history: list[Event], lives: dict[str, list[Event]]) -> list[str]:
    """An id that was seen dead is never seen alive again. Left out are sessions that were told
    to expire: one request may be told that it has, while another one that was sent before that
    is about to extend it.
    """
    expiring = [
        events for events in lives.values() if any(event.op == "expire" for event in events)
    ]
    left_out = {event.sent for events in expiring for event in events}
    dead_since: dict[str, float] = {}
    for event in sorted(history, key=lambda event: event.end):
        if event.sent and event.seen is not None and LIFE not in event.seen:
            dead_since.setdefault(event.sent, event.end)
    return [
        f"{event.sent}: it was dead and is alive again: {event.op} {event.value}"
        for event in history
        if event.sent in dead_since.keys() - left_out
        and LIFE in (event.seen or {})
        and event.start > dead_since[event.sent]
    ]


def _cookies_of_the_dead(history: list[Event]) -> list[str]:
    """Who sends an id that was destroyed or regenerated away neither sets nor clears it."""
    ended: dict[str, float] = {}
    for event in sorted(history, key=lambda event: event.end):
        ends_it = event.op in ("destroy", "regenerate") and event.cookie is not None
        if event.sent and ends_it and LIFE in (event.seen or {}):
            ended.setdefault(event.sent, event.end)
    return [
        f"a dead id set or cleared the cookie: {event.op} {event.value}"
        for event in history
        if event.sent in ended
        and 0 < event.start - ended[event.sent] < REMEMBERED
        and event.cookie is not None
    ]


def _messages(history: list[Event]) -> list[str]:
    """Each message is shown once at the most, and a refused one never."""
    refused = {event.value for event in history if event.op == "flash" and event.refused}
    shown = [m for event in history if event.op == "show" and event.done for m in _shown(event)]
    found = [f"a refused message was shown: {message}" for message in refused & set(shown)]
    seen: set[str] = set()
    for message in shown:
        if message in seen:
            found.append(f"a message was shown twice: {message}")
        seen.add(message)
    return found


def _shown(event: Event) -> list[str]:
    return event.body["result"] or []


def _check_life(events: list[Event], refused: set[str], may_end: set[str]) -> Iterator[str]:
    """One session, from its beginning to its end, under all its ids."""
    yield from _ends(events, may_end)
    yield from _counted(events)
    keys = {event.key for event in events if event.op in ("set", "delete")}
    for key in keys:
        yield from _register(key, events, refused)
    for key in {event.key for event in events if event.op == "nested"}:
        yield from _appended(key, events, refused)


def _looks(events: list[Event]) -> list[Event]:
    """Those who saw this session alive, not those who began it."""
    return [event for event in events if event.seen and LIFE in event.seen]


def _ends(events: list[Event], may_end: set[str]) -> Iterator[str]:
    """Nobody sees it after it was ended, and it does not end by itself.

    :param may_end: the ids with which somebody has asked for an end.
    """
    ended = [
        event.end
        for event in events
        if event.done
        and (event.op == "destroy" or (event.op == "revoke" and event.body["result"]))
    ]
    for event in _looks(events):
        if event.start > min(ended, default=event.start):
            yield f"it was ended and is alive: {event.op} {event.value}"
    asked = any(event.op in ENDINGS or {event.sent, event.cookie} & may_end for event in events)
    # Nobody was told the new id.
    lost = any(event.unknown and event.op == "regenerate" for event in events)
    if not asked and not lost:
        given = any(event.cookie for event in events if event.done)
        last = [event for event in _looks(events) if event.value.startswith("last-")]
        if given and not last:
            yield "it is gone, and nobody has ended it"
        yield from _missing_messages(events)


def _missing_messages(events: list[Event]) -> Iterator[str]:
    # Those may have taken them.
    taken = [event.done_by for event in events if event.op == "show" and event.unknown]
    flashed = {
        event.value
        for event in events
        if event.op == "flash" and event.done and event.start > max(taken, default=0)
    }
    shown = {m for event in events if event.op == "show" and event.done for m in _shown(event)}
    for message in flashed - shown:
        yield f"a message was never shown: {message}"


def _counted(events: list[Event]) -> Iterator[str]:
    """Each increment counts once."""
    counts = [event for event in events if event.op == "atomic"]
    results = sorted(event.body["result"] for event in counts if event.done)
    for a, b in pairwise(results):
        if a == b:
            yield f"two increments gave {a}"
    for event in _looks(events):
        before = sum(other.done and other.end < event.start for other in counts)
        until = sum(other.start <= event.end for other in counts if other is not event)
        if not before <= event.seen.get("count", 0) <= until:
            number = event.seen.get("count", 0)
            yield f"{before} to {until} increments were made, {number} seen: {event.value}"


def _register(key: str, events: list[Event], refused: set[str]) -> Iterator[str]:
    """A value that is seen was written, and not overwritten before it was looked at."""
    writes = [event for event in events if event.op in ("set", "delete") and event.key == key]
    by_value = {event.value: event for event in writes if event.op == "set"}
    sets = [*by_value.values()]
    absent = [Event("delete", key, "", status=200, done_by=0)]
    absent += [event for event in writes if event.op == "delete"]
    overwritten = {event.value: _over(event, writes) for event in sets}
    set_again = [(event.start, _over(event, sets)) for event in absent]
    for event in _looks(events):
        value = event.seen.get(key)
        if value in refused:
            yield f"{key}: a refused value is there: {value}"
        elif value is None:
            if all(s > event.end or again < event.start for s, again in set_again):
                yield f"{key}: an acknowledged write is gone: {event.op} {event.value}"
        elif value not in by_value or by_value[value].start > event.end:
            yield f"{key}: {value} is there, and nobody had written it"
        elif overwritten[value] < event.start:
            yield f"{key}: {value} is there, and was overwritten: {event.op} {event.value}"


def _over(event: Event, writes: list[Event]) -> float:
    """When one of these was surely done after it."""
    later = (write.end for write in writes if write.done and _is_before(event, write))
    return min(later, default=FOREVER)


def _is_before(event: Event, write: Event) -> bool:
    return write.start > (event.end if write.op in SAVES else event.done_by)


def _appended(key: str, events: list[Event], refused: set[str]) -> Iterator[str]:
    """A list that one worker appends to has all of it, in order."""
    appended = [event for event in events if event.op == "nested" and event.key == key]
    unknown = {event.value for event in appended if event.unknown}
    for event in _looks(events):
        seen = event.seen.get(key, {"in": []})["in"]
        if refused & set(seen):
            yield f"{key}: a refused value is there"
        must = [o.value for o in appended if o.done and o.end < event.start]
        may = [other.value for other in appended if other.start <= event.end]
        # Those of which nobody knows are there or not, but in their place.
        may = [value for value in may if value in seen or value not in unknown]
        known = [value for value in seen if value not in unknown]
        if known[: len(must)] != must or seen != may[: len(seen)]:
            yield f"{key}: {seen} is there, appended were {must}"
