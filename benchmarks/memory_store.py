"""The memory store with up to a million sessions: bytes of each, and time of each operation.

.. code-block:: text

    python benchmarks/memory_store.py [--most NUMBER]

Each size has a process of its own. Bytes are what the process grew by, divided by the sessions,
which expire in no order. The longest time of an operation stands beside the median: collecting
garbage is part of it. Then all expire, and while another thread purges them, sessions are
created, loaded and saved.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from running import machine

from flask_serverside.stores.memory import MemoryStore
from flask_serverside.testing import Clock
from flask_serverside.testing import new_record

FORK = multiprocessing.get_context("fork")
PAYLOAD = 200
SAMPLE = 2000


def grown() -> int:
    """Bytes of this process's memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def times(operation: Callable[[Any], object], of: Iterable[Any]) -> list[float]:
    """Microseconds of each."""
    taken = []
    for one in of:
        began = time.perf_counter_ns()
        operation(one)
        taken.append((time.perf_counter_ns() - began) / 1000)
    return taken


def measure(number: int) -> dict[str, float]:
    clock = Clock()
    store = MemoryStore(threshold=10**8, clock=clock)
    before, handles, created = grown(), [], []
    for n in range(number):
        lifetime = random.randrange(1800_000, 3600_000)
        record = new_record(store, os.urandom(PAYLOAD), lifetime, subject=f"user-{n}")
        handles.append(record.handle)
        created += times(store.create, [record])
    found: dict[str, float] = {"bytes": (grown() - before) / number}
    found |= _described("create", created[-SAMPLE:], created)
    step = max(1, number // SAMPLE)
    some = handles[::step]
    found |= _described("load", times(store.load, some))
    records = [record for record in map(store.load, some) if record]
    changed = [r._replace(version=r.version + 1, payload=os.urandom(PAYLOAD)) for r in records]
    found |= _described("save", times(store.replace, changed))
    touched = [r._replace(seen=r.seen + 1, expires=r.expires + 1) for r in changed]
    found |= _described("touch", times(store.touch, touched))
    clock.advance(3600)
    purge = threading.Thread(target=store.purge)
    began = time.monotonic()
    purge.start()
    meanwhile: list[float] = []
    while purge.is_alive():
        new = new_record(store, b"x" * PAYLOAD)
        meanwhile += times(store.create, [new])
        meanwhile += times(store.load, [new.handle])
        meanwhile += times(store.replace, [new._replace(version=2)])
    found["purge"] = (time.monotonic() - began) / number * 1e6
    found |= _described("meanwhile", meanwhile or [0.0])
    return found


def _described(
    name: str, taken: list[float], most: list[float] | None = None
) -> dict[str, float]:
    return {name: statistics.median(taken), f"{name} longest": max(most or taken)}


def in_a_process(number: int) -> dict[str, float]:
    results: multiprocessing.Queue[dict[str, float]] = FORK.Queue()
    process = FORK.Process(target=lambda: results.put(measure(number)))
    process.start()
    found = results.get()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--most", type=int, default=1_000_000)
    most = parser.parse_args().most
    print(f"{machine()}\n\n{PAYLOAD} bytes a session, a subject each")
    print("  sessions   bytes each   create, load, save, touch, purge: us, and the longest")
    number = 1000
    while number <= most:
        found = in_a_process(number)
        cells = [
            f"{found[name]:.1f} ({found[name + ' longest']:.0f})"
            for name in ("create", "load", "save", "touch")
        ]
        print(
            f"{number:10}{found['bytes']:10.0f}     {'  '.join(cells)}  {found['purge']:.1f} "
            f"a session; others meanwhile {found['meanwhile']:.1f} "
            f"({found['meanwhile longest']:.0f})",
            flush=True,
        )
        number *= 10


if __name__ == "__main__":
    main()
