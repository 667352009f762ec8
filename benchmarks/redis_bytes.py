"""The bytes that a session takes in Redis, and those of a plain value with as many.

.. code-block:: text

    python benchmarks/redis_bytes.py

As MEMORY USAGE says. The plain value has a key of 32 bytes and nothing besides the payload, so
it is the least that any session could take. Redis allocates in sizes that are up to a quarter
apart (jemalloc's size classes).
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any

from running import each
from running import machine
from running import redis_client

from flask_serverside.testing import new_record

SHOWN = (100, 200, 500, 1000, 2000, 5000, 10_000, 100_000)
#: Of payloads, in bytes; the step meets no size class more often than another.
MANY = range(100, 20_000, 97)


def bound(size: int) -> float:
    return 1.15 * size + 150


def report(store: Any) -> None:
    client = redis_client(store)

    def session(size: int) -> int:
        record = new_record(store, os.urandom(size))
        assert store.create(record)
        return int(client.memory_usage(store.prefix + record.handle))

    def plain(size: int) -> int:
        key = os.urandom(32)
        client.set(key, os.urandom(size), px=1000_000)
        return int(client.memory_usage(key))

    kinds: dict[str, Callable[[int], int]] = {"a session": session, "a plain value": plain}
    print(f"\n{'payload':>8}{'1.15 x + 150':>15}" + "".join(f"{kind:>15}" for kind in kinds))
    for size in SHOWN:
        row = "".join(f"{measure(size):15}" for measure in kinds.values())
        print(f"{size:8}{bound(size):15.0f}{row}")
    print(f"\nof {len(MANY)} sizes from {MANY[0]} to {MANY[-1]} bytes:")
    for kind, measure in kinds.items():
        found = {size: measure(size) for size in MANY}
        within = sum(used <= bound(size) for size, used in found.items()) / len(found)
        factor = statistics.mean((used - 150) / size for size, used in found.items())
        print(f"{kind}: {within:.0%} within that; in the mean {factor:.3f} x + 150")


def main() -> None:
    print(machine())
    for running in each(["redis"]):
        report(running.make_store())


if __name__ == "__main__":
    main()
