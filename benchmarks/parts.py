"""Of what a request consists that reads or writes a session: parts timed where they happen.

.. code-block:: text

    pip install -e '.[all,bench,dev]'
    python benchmarks/parts.py [--rounds NUMBER]

Microseconds a request, medians. One part is timed at a time, in a row of requests of its own,
so that no stopwatch is in another one's way. A profiler that samples is not to be trusted with
a process that waits for a server: it mostly meets it when it has just been woken.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from typing import NamedTuple

import redis
from contestants import bare
from contestants import ours
from contestants import raw
from rounds import ROW
from running import each
from running import machine

from flask_serverside import interface
from flask_serverside.interface import ServerSideSessionInterface
from flask_serverside.sealing.codec import Codec
from flask_serverside.sealing.envelope import Envelope
from flask_serverside.stores import Record
from flask_serverside.stores import Store
from flask_serverside.web.identity import Identity


class Part(NamedTuple):
    owner: Any
    name: str


KINDS = ("read", "write")
DRIVER = "redis-py, and waiting"
#: What stands further to the right is part of what stands above it.
PARTS = {
    DRIVER: Part(redis.Redis, "execute_command"),
    "session opened": Part(ServerSideSessionInterface, "open_session"),
    "cookie found": Part(ServerSideSessionInterface, "presented"),
    "cookie verified": Part(Identity, "verify"),
    "record found": Part(Store, "find"),
    "  unpacked": Part(Record, "unpack"),
    "payload opened": Part(Envelope, "open"),
    "data decoded": Part(Codec, "decode"),
    "session saved": Part(ServerSideSessionInterface, "save_session"),
    "  data encoded": Part(Codec, "encode"),
    "  payload closed": Part(Envelope, "close"),
    "  record replaced": Part(Store, "replace"),
    "    packed": Part(Record, "pack"),
    "  Vary": Part(interface, "_vary_on"),
}


class Stopwatch:
    """Around one function at a time."""

    def __init__(self) -> None:
        self.taken = 0

    @contextmanager
    def on(self, part: Part) -> Iterator[None]:
        former = part.owner.__dict__[part.name]
        function = getattr(part.owner, part.name)
        bound = isinstance(former, classmethod)

        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter_ns()
            try:
                return function(*arguments, **options)
            finally:
                self.taken += time.perf_counter_ns() - began

        setattr(part.owner, part.name, staticmethod(timed) if bound else timed)
        try:
            yield
        finally:
            setattr(part.owner, part.name, former)

    def row(self, call: Callable[[], object], part: Part) -> Iterator[tuple[int, int]]:
        """Nanoseconds of the part and of all else, in each of a row of requests."""
        with self.on(part):
            for _ in range(ROW):
                self.taken, began = 0, time.perf_counter_ns()
                call()
                whole = time.perf_counter_ns() - began
                yield self.taken, whole - self.taken


#: Of each kind of request and each part of it, microseconds of the part and of all else.
Table = dict[str, dict[str, tuple[float, float]]]


def measured(calls: dict[str, Callable[[], object]], rounds: int) -> Table:
    watch = Stopwatch()
    times: dict[tuple[str, str], list[tuple[int, int]]]
    times = {(kind, name): [] for kind in calls for name in PARTS}
    for call in calls.values():
        for _ in range(100):
            call()
    gc.disable()
    try:
        for _ in range(rounds):
            gc.collect()
            for kind, name in random.sample(list(times), len(times)):
                times[kind, name] += watch.row(calls[kind], PARTS[name])
    finally:
        gc.enable()
    found: Table = {kind: {} for kind in calls}
    for (kind, name), taken in times.items():
        part, rest = (statistics.median(values) / 1000 for values in zip(*taken, strict=True))
        found[kind][name] = part, rest
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    calls = {"bare": bare().request("/untouched")}
    for running in each(["memory", "redis"]):
        on_server = running.name == "redis"
        if on_server:
            client = raw(running)
            calls["driver's get"] = client.request("/get")
            calls["get, set"] = client.request("/get-and-set")
        site = ours(running)
        calls |= {f"{running.name} {kind}": site.request(f"/{kind}") for kind in KINDS}
        if on_server:
            found = measured(calls, rounds)
    print(f"{machine()}\n")
    for heads in zip(*(f"{kind} ".split(" ")[:2] for kind in found), strict=True):
        _line("", heads)
    for name in PARTS:
        _line(name, (f"{row[name][0]:.1f}" for row in found.values()))
    _line("all but redis-py", (f"{row[DRIVER][1]:.1f}" for row in found.values()))


def _line(name: str, cells: Iterable[str]) -> None:
    print(f"{name:22}{''.join(f'{cell:>10}' for cell in cells)}")


if __name__ == "__main__":
    main()
