"""A hundred thousand sessions on each real server: listing, ending and purging them.

.. code-block:: text

    python benchmarks/many_sessions.py [--sessions NUMBER] [BACKEND ...]

Half as many subjects, so each has two sessions; some have more, to show what ending them all
depends on. Then half as many sessions again expire, and are removed by another process while
requests go on, each of which reads and writes a session; how long these take meanwhile stands
beside how long they take in peace. Servers are started and stopped.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import re
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask
from running import add_backends
from running import BACKENDS
from running import each
from running import machine
from running import redis_client
from running import Running
from running import told

from flask_serverside import current_session as session
from flask_serverside import Session
from flask_serverside.stores import IndexedStore
from flask_serverside.stores import Record
from flask_serverside.testing import new_record

FORK = multiprocessing.get_context("fork")
PAYLOAD = b"x" * 500
SIZES = (1, 10, 100, 1000, 10_000)
#: How many large sessions a subject has, and how large they are, in bytes.
LARGE = (300, 300_000)
LISTED = 300


def make_app(running: Running) -> Flask:
    app = Flask("benchmark")
    config = running.app_config(SESSION_MEMORY_THRESHOLD=10**7, SESSION_PURGE_INTERVAL=0)
    app.config.update(config, SECRET_KEY="...", SESSION_STORE_TIMEOUT=20, TESTING=True)
    Session(app)

    @app.get("/")
    def count() -> str:
        session["count"] = session.get("count", 0) + 1
        return ""

    return app


def store_of(app: Flask) -> IndexedStore:
    store = app.extensions["flask_serverside"].store
    assert isinstance(store, IndexedStore)
    return store


def fill(store: IndexedStore, records: list[Record]) -> None:
    def work(some: list[Record]) -> None:
        for record in some:
            assert store.create(record)

    threads = [threading.Thread(target=work, args=(records[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def milliseconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def requests_until(app: Flask, done: Callable[[], bool], at_least: int = 200) -> list[float]:
    gc.freeze()  # the records that this benchmark holds are not the application's
    clients = [app.test_client() for _ in range(10)]
    taken: list[float] = []
    for client in clients:
        client.get("/")
    while len(taken) < at_least or not done():
        taken.append(milliseconds(lambda: clients[len(taken) % 10].get("/")))
    return taken


def purge_aside(app: Flask) -> Callable[[], bool]:
    """Starts it; says whether it has ended."""
    if store_of(app).one_process:
        worker: Any = threading.Thread(target=store_of(app).purge)
    else:
        worker = FORK.Process(target=store_of(app).purge)
    worker.start()
    return lambda: not worker.is_alive()


def until_gone(app: Flask, expired: list[Record]) -> Callable[[], bool]:
    """For servers that remove what has expired by themselves."""
    some = [record.handle for record in expired[:: len(expired) // 50]]
    store = store_of(app)
    deadline = time.monotonic() + 30
    return lambda: time.monotonic() > deadline or not any(map(store.find, some))


def described(taken: list[float]) -> str:
    ordered = sorted(taken)
    last = ordered[int(len(ordered) * 0.999)]
    return (
        f"median {statistics.median(ordered):6.2f} ms, 99.9 % {last:6.2f}, "
        f"longest {ordered[-1]:6.2f} of {len(ordered)}"
    )


def measure(running: Running, number: int) -> None:
    app = make_app(running)
    sessions, store = app.extensions["flask_serverside"], store_of(app)
    print(f"\n{running.name}{told(running.server)}")
    subjects = number // 2
    whose = (f"user-{n % subjects}" for n in range(number))
    records = [new_record(store, PAYLOAD, subject=subject) for subject in whose]
    taken = milliseconds(lambda: fill(store, records)) / 1000
    print(f"  {number} sessions of {subjects} subjects created: {taken:.0f} s")
    if running.name == "redis":
        index_memory(store, subjects)

    with app.app_context():
        step = max(1, subjects // LISTED)
        listed = [
            milliseconds(lambda n=n: list(sessions.list(f"user-{n}")))  # type: ignore[misc]
            for n in range(0, LISTED * step, step)
        ]
        assert [r.subject for r in sessions.list("user-1")] == ["user-1"] * 2
        print(f"  list one subject: {described(listed)}")
        print(f"  count all: {milliseconds(sessions.count):.0f} ms")
        for size in SIZES:
            many = [new_record(store, PAYLOAD, subject=f"many-{size}") for _ in range(size)]
            fill(store, many)
            name = f"many-{size}"
            listing = milliseconds(lambda name=name: list(sessions.list(name)))  # type: ignore[misc]
            taken = milliseconds(lambda name=name: sessions.revoke_subject(name))  # type: ignore[misc]
            assert sessions.count(name) == 0
            print(
                f"  revoke_subject of {size:5}: {taken:8.2f} ms, {taken / size:.3f} each; "
                f"to list them: {listing:8.2f} ms"
            )
        measure_large(sessions, store)

    print(f"  requests in peace: {described(requests_until(app, lambda: True, 1000))}")
    removes_itself = running.name in ("redis", "mongodb")
    lifetime = 60_000 if removes_itself else 1000
    expiring = [new_record(store, PAYLOAD, lifetime) for _ in range(number // 2)]
    if removes_itself:
        now = store.now()
        expiring = [r._replace(seen=now, expires=now + lifetime) for r in expiring]
    began = time.monotonic()
    fill(store, expiring)
    if removes_itself:
        time.sleep(max(0, lifetime / 1000 - (time.monotonic() - began)))
        taken = requests_until(app, until_gone(app, expiring))
    else:
        time.sleep(1.1)
        began = time.monotonic()
        taken = requests_until(app, purge_aside(app))
        print(f"  purge of {len(expiring)}: {time.monotonic() - began:.1f} s")
        assert not any(store.find(record.handle) for record in expiring[::100])
    print(f"  requests meanwhile: {described(taken)}")
    assert store.load(records[-1].handle) is not None
    store.close()


def measure_large(sessions: Session, store: IndexedStore) -> None:
    number, size = LARGE
    payload = b"x" * size
    for _ in range(number):
        assert store.create(new_record(store, payload, subject="large"))
    before = peak_memory(reset=True)
    taken = milliseconds(lambda: sessions.revoke_subject("large"))
    more = peak_memory() - before
    assert sessions.count("large") == 0
    print(f"  revoke_subject of {number} of {size} bytes: {taken:.2f} ms, {more:.1f} MB more")


def peak_memory(reset: bool = False) -> float:
    """The most memory that this process has had, in MB, since it was reset (Linux: proc(5))."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1000  # type: ignore[index]


def index_memory(store: Any, subjects: int) -> None:
    client = redis_client(store)
    keys = [store._index(f"user-{n}") for n in range(0, subjects, subjects // 200)]
    two = statistics.mean(client.memory_usage(key) for key in keys)
    record = client.memory_usage(next(client.scan_iter(match=f"{store.prefix}" + "?" * 64)))
    print(f"  index of a subject with two sessions: {two:.0f} bytes, a record: {record} bytes")
    for number in (1, 10, 100, 1000):
        for _ in range(number):
            store.create(new_record(store, PAYLOAD, subject=f"index-{number}"))
        used = client.memory_usage(store._index(f"index-{number}"), samples=0)
        print(f"    with {number:4}: {used} bytes, {used / number:.0f} a session")
        list(store.end_all(f"index-{number}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sessions", type=int, default=100_000)
    names = [b.name for b in BACKENDS if not b.stand_in and b.group != "memcached"]
    add_backends(parser, names)
    chosen = parser.parse_args()
    print(machine())
    for running in each(chosen.backends):
        measure(running, chosen.sessions)


if __name__ == "__main__":
    main()
