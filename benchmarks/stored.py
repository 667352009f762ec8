"""A load and a save with a thousand sessions stored, up to a million, and the bytes of each.

.. code-block:: text

    python benchmarks/stored.py [--most NUMBER] [BACKEND ...]

The store alone, without a request, on real servers. Bytes are what the server says it has more
than before: of memory on Redis and Memcached, of data before it is compressed and of indexes on
MongoDB, of the table with its indexes on PostgreSQL and MariaDB. For the memory store see
memory_store.py.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Callable
from typing import Any

from many_sessions import fill
from memory_store import times
from rounds import Spread
from running import add_backends
from running import each
from running import machine
from running import redis_client
from running import Running
from running import told

from flask_serverside.testing import new_record

PAYLOAD = 800
SAMPLE = 1000


def _redis(store: Any) -> int:
    return int(redis_client(store).info("memory")["used_memory"])


def _memcached(store: Any) -> int:
    told: dict[bytes, int] = store._client("").stats("slabs")
    slabs = {key.partition(b":")[0] for key in told if key.endswith(b":used_chunks")}
    return sum(told[s + b":chunk_size"] * told[s + b":used_chunks"] for s in slabs)


def _mongodb(store: Any) -> int:
    told = store._collection.database.command("collStats", store._collection.name)
    return int(told["size"] + told["totalIndexSize"])


def _sql(question: str, first: str = "SELECT 1") -> Callable[[Any], int]:
    def ask(store: Any) -> int:
        store.limit.start(60)
        with store._connection() as connection:
            connection.exec_driver_sql(first).all()
            return int(connection.exec_driver_sql(question).scalar_one())

    return ask


_BYTES: dict[str, Callable[[Any], int]] = {
    "redis": _redis,
    "memcached": _memcached,
    "mongodb": _mongodb,
    "postgresql": _sql("SELECT pg_total_relation_size('sessions')"),
    "mariadb": _sql(
        "SELECT data_length + index_length FROM information_schema.tables "
        "WHERE table_name = 'sessions'",
        first="ANALYZE TABLE sessions",  # else the numbers are those of long before
    ),
}


def measure(running: Running, most: int) -> None:
    store = running.make_store()
    store.create(new_record(store))
    print(f"\n{running.name}{told(running.server)}")
    print(f"  {'sessions':>9}{'load, us':>20}{'save, us':>20}{'bytes':>8}")
    handles: list[str] = []
    before, number = _BYTES[running.name](store), 1000
    while number <= most:
        payload = os.urandom(PAYLOAD)
        subjects = range(len(handles), number)
        records = [new_record(store, payload, subject=f"user-{n}") for n in subjects]
        handles += [record.handle for record in records]
        fill(store, records)
        some = random.sample(handles, SAMPLE)
        loads = times(store.load, some)
        found = [record for record in map(store.load, some) if record is not None]
        assert len(found) == SAMPLE, "the server has dropped some"
        changed = [
            r._replace(version=r.version + 1, payload=os.urandom(PAYLOAD)) for r in found
        ]
        saves = times(store.replace, changed)
        used = (_BYTES[running.name](store) - before) / number
        print(
            f"  {number:9}{Spread.of(loads):20.1}{Spread.of(saves):20.1}{used:8.0f}",
            flush=True,
        )
        number *= 10
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--most", type=int, default=1_000_000)
    add_backends(parser, list(_BYTES))
    chosen = parser.parse_args()
    print(f"{machine()}; {PAYLOAD} bytes a session, each of another subject")
    for running in each(chosen.backends):
        measure(running, chosen.most)


if __name__ == "__main__":
    main()
