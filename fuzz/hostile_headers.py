"""Any headers: ``Cookie`` as a whole, the one of the session, ``User-Agent``, together."""

from __future__ import annotations

import functools
from typing import Any

from fuzzed_site import AGENT
from fuzzed_site import Answer
from fuzzed_site import FORMER_KEY
from fuzzed_site import HEADER
from fuzzed_site import signed
from fuzzed_site import Site
from hostile_cookies import check
from hostile_cookies import KEYS
from hostile_cookies import PATHS
from pieces import Pieces

FALLBACKS: dict[str, Any] = {"SECRET_KEY_FALLBACKS": [FORMER_KEY]}
BOUND: dict[str, Any] = {"SESSION_BINDING": "user_agent"}
CONFIGS: dict[str, dict[str, Any]] = {
    "cookie": FALLBACKS,
    "header": FALLBACKS | {"SESSION_HEADER": HEADER},
    "bound cookie": BOUND,
    "bound header": BOUND | {"SESSION_HEADER": HEADER},
}
NAMES = [*CONFIGS]
#: What is put where an input says so: ``%`` and the number of a key.
MARKS = {f"%{number}".encode(): key for number, key in enumerate(KEYS)}


@functools.cache
def site(name: str) -> Site:
    return Site(**CONFIGS[name])


def check_headers(
    name: str, path: str, cookie: str | None, header: str | None, agent: str | None
) -> None:
    of = site(name)
    of.restore()
    headers = {"Cookie": cookie, HEADER: header, "User-Agent": agent}
    given = {key: value for key, value in headers.items() if value is not None}
    answer = of.request(path, given)
    presented = answer.presented
    if of.header:
        presented = [header] if header else []
    if "SESSION_BINDING" in of.app.config and (agent or "") != AGENT:
        check_other_client(of, path, answer, presented)
    else:
        check(of, path, answer, presented)


def check_other_client(of: Site, path: str, answer: Answer, presented: list[str]) -> None:
    """Who has the right id and is another client has nothing of the session."""
    assert answer.seen.data == {}
    known = len({*presented}) == 1 and of.verifies(presented[0])
    trips = ["_load"] if known else []
    assert answer.trips == trips + ["_create"] * (path == "/write")
    assert of.store.packed[of.handle] == of.packed[of.handle]
    if answer.told is not None:
        assert path == "/write"
        assert of.sid not in answer.told


def prepare() -> None:
    for name in NAMES:
        site(name)


def run(data: bytes) -> None:
    pieces = Pieces(data)
    name, path, which = pieces.choose(NAMES), pieces.choose(PATHS), pieces.number()
    parts = pieces.rest().split(b"\n", 2)
    parts += [b""] * (3 - len(parts))
    for mark, key in MARKS.items():
        value = signed(site(name).sid, key).encode()
        parts = [part.replace(mark, value) for part in parts]
    headers = [
        part.decode("latin-1") if which >> number & 1 else None
        for number, part in enumerate(parts)
    ]
    if which & 8:
        headers[2] = AGENT
    check_headers(name, path, *headers)


def seeds() -> list[bytes]:
    agent = AGENT.encode()
    rests = [
        b"\x01session=%0",
        b"\x09session=%0",
        b"\x09session=%1; session=%0",
        b"\x09session=%0; session=%0; a=b",
        b"\x09session=x; session=%0",
        b'\x09session="%0"',
        b"\x0f session = %0 ;\n%0\n",
        b"\x03session=%2\n%0\n",
        b"\x02\n%0\n",
        b"\x0a\n%0\n",
        b"\x0a\n%1\n",
        b"\x07session=%0\n%0\n" + agent,
        b"\x05session=%0\n\n" + agent + b" x",
    ]
    heads = [bytes([name, path]) for name in range(len(NAMES)) for path in range(len(PATHS))]
    return [head + rest for head in heads for rest in rests]
