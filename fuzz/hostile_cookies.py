"""Any value of the cookie, or of the header that takes its place.

A value that is not signed costs no trip to the store. One that is costs one, to look it up, and
is never an id that a session begins with.
"""

from __future__ import annotations

import functools
from typing import Any

from fuzzed_site import Answer
from fuzzed_site import DATA
from fuzzed_site import FOREIGN_KEY
from fuzzed_site import FORMER_KEY
from fuzzed_site import HEADER
from fuzzed_site import KEY
from fuzzed_site import signed
from fuzzed_site import Site
from pieces import Pieces

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fallbacks": {"SECRET_KEY_FALLBACKS": [FORMER_KEY]},
    "header": {"SESSION_HEADER": HEADER},
    "header and fallbacks": {"SESSION_HEADER": HEADER, "SECRET_KEY_FALLBACKS": [FORMER_KEY]},
}
NAMES = [*CONFIGS]
KEYS = [KEY, FORMER_KEY, FOREIGN_KEY]
PATHS = ["/read", "/write"]


@functools.cache
def site(name: str) -> Site:
    return Site(**CONFIGS[name])


def check_value(name: str, path: str, value: str) -> None:
    """:param value: what the server has read, as latin-1."""
    of = site(name)
    of.restore()
    answer = of.ask(path, value)
    presented = [value] if of.header else answer.presented
    check(of, path, answer, presented)


def check_id(name: str, path: str, sid: str, key: str) -> None:
    """An id of the attacker's choice, signed."""
    check_value(name, path, signed(sid, key))


def check(of: Site, path: str, answer: Answer, presented: list[str]) -> None:
    """That the answer is right for a client that has presented these values."""
    values = set(presented)
    value = values.pop() if len(values) == 1 else ""
    known = of.verifies(value)
    ours = known and value.partition(".")[0] == of.sid
    assert answer.seen.data == (DATA if ours else {})
    trips = ["_load"] if known else []
    if path == "/write":
        trips.append("_replace" if ours else "_create")
    assert answer.trips == trips, (value, answer.trips)
    if ours:
        assert answer.told in (None, of.signed)
    elif path == "/read":
        assert answer.told is None
    else:
        assert answer.told is not None
        assert of.verifies(answer.told)
        assert answer.told.partition(".")[0] != value.partition(".")[0]


def ascii_of(data: bytes) -> str:
    return bytes(byte & 0x7F for byte in data).decode("ascii")


def prepare() -> None:
    for name in NAMES:
        site(name)


def run(data: bytes) -> None:
    pieces = Pieces(data)
    name, path, kind = pieces.choose(NAMES), pieces.choose(PATHS), pieces.number() % 4
    if kind == 0:
        check_value(name, path, pieces.rest().decode("latin-1"))
    elif kind == 1:
        right = site(name).signed
        if pieces.number() % 2:
            right = signed(site(name).sid, pieces.choose(KEYS))
        check_value(name, path, pieces.edit(right.encode()).decode("latin-1"))
    elif kind == 2:
        key = pieces.choose(KEYS)
        check_id(name, path, ascii_of(pieces.rest()), key)
    else:
        key = pieces.choose(KEYS)
        check_id(name, path, ascii_of(pieces.edit(site(name).sid.encode())), key)


def seeds() -> list[bytes]:
    value, sid = signed("A" * 43, KEY).encode(), b"A" * 43
    rests = [b"\x00" + value, b"\x00" + value + b"; session=x", b"\x01\x00", b"\x01\x01\x01"]
    rests += [b"\x02" + bytes([key]) + sid for key in range(len(KEYS))]
    rests += [b"\x03" + bytes([key]) for key in range(len(KEYS))]
    rests += [b'\x00"' + value.replace(b".", b"\\056") + b'"']
    heads = [bytes([name, path]) for name in range(len(NAMES)) for path in range(len(PATHS))]
    return [head + rest for head in heads for rest in rests]
