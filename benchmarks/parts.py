"""Of what a request consists that reads a session: each part timed where it happens.

.. code-block:: text

    pip install -e '.[all,bench]'
    python benchmarks/parts.py [ROUNDS]

Microseconds a request, medians. One part is timed at a time, in a row of requests of its own,
so that no stopwatch is in another one's way. A profiler that samples is not to be trusted with
a process that waits for a server: it mostly meets it when it has just been woken.
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable
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

from flask_serverside import interface
from flask_serverside.codec import Codec
from flask_serverside.identity import Identity
from flask_serverside.interface import ServerSideSessionInterface
from flask_serverside.payload import Seal
from flask_serverside.stores import Record
from flask_serverside.stores import Store


class Part(NamedTuple):
    owner: Any
    name: str


DRIVER = Part(redis.Redis, "execute_command")
WHOLE = "the whole request"
PARTS = {
    "redis-py, and waiting": DRIVER,
    "session opened": Part(ServerSideSessionInterface, "open_session"),
    "cookie found": Part(ServerSideSessionInterface, "_presented"),
    "cookie verified": Part(Identity, "verify"),
    "record found, all": Part(Store, "find"),
    "record unpacked": Part(Record, "unpack"),
    "payload opened": Part(Seal, "open"),
    "data decoded": Part(Codec, "decode"),
    "session closed, all": Part(ServerSideSessionInterface, "save_session"),
    "data encoded": Part(Codec, "encode"),
    "Vary": Part(interface, "_vary_on"),
}


class Stopwatch:
    """Around one function at a time."""

    def __init__(self) -> None:
        self.taken = 0

    @contextmanager
    def on(self, part: Part | None) -> Iterator[None]:
        if part is None:
            yield
            return
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

    def row(self, call: Callable[[], object], part: Part | None) -> list[int]:
        """Nanoseconds of the part, or of the whole, in each of a row of requests."""
        found = []
        with self.on(part):
            for _ in range(ROW):
                self.taken, began = 0, time.perf_counter_ns()
                call()
                found.append(self.taken if part else time.perf_counter_ns() - began)
        return found


def measured(
    calls: dict[str, Callable[[], object]], rounds: int
) -> dict[str, dict[str, float]]:
    """Microseconds of each part of each kind of request."""
    parts: dict[str, Part | None] = {WHOLE: None, **PARTS}
    watch, found = Stopwatch(), {kind: {name: [] for name in parts} for kind in calls}
    turns = [(kind, name) for kind in calls for name in parts]
    for call in calls.values():
        for _ in range(100):
            call()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for kind, name in random.sample(turns, len(turns)):
                found[kind][name] += watch.row(calls[kind], parts[name])
    finally:
        gc.enable()
    return {
        kind: {name: statistics.median(values) / 1000 for name, values in rows.items()}
        for kind, rows in found.items()
    }


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    calls = {"bare": bare().request("/untouched")}
    for running in each(["memory", "redis"]):
        calls[f"read, {running.name}"] = ours(running).request("/read")
        if running.name == "redis":
            calls["raw get"] = raw(running).request("/get")
            found = measured(calls, rounds)
    kinds = ("bare", "read, memory", "raw get", "read, redis")
    print(f"{'':24}" + "".join(f"{kind:>14}" for kind in kinds))
    for name in (WHOLE, *PARTS):
        print(f"{name:24}" + "".join(f"{found[kind][name]:14.1f}" for kind in kinds))
    rest = (found[kind][WHOLE] - found[kind]["redis-py, and waiting"] for kind in kinds)
    print(f"{'whole without redis-py':24}" + "".join(f"{value:14.1f}" for value in rest))


if __name__ == "__main__":
    main()
