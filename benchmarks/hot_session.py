"""Eight workers write one session at once, on Redis: trips and time of a request.

.. code-block:: text

    python benchmarks/hot_session.py [--work MILLISECONDS] [--requests NUMBER]

Each request adds a key of its own after some work, so that all of them overlap. Beside it, in
turns in the same run, the same with a lock for the whole request, as PHP's sessions and Rails'
with a locking store have it; redis-py's lock is asked for each millisecond. Workers are
processes; the server is started and stopped.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import redis
from flask import Flask
from running import machine
from running import told
from servers import Redis

from flask_serverside import current_session as session
from flask_serverside import Session

FORK = multiprocessing.get_context("fork")
WORKERS = 8
ROUNDS = 3


def make_app(url: str, work: float) -> Flask:
    app = Flask("benchmark")
    app.config.update(SECRET_KEY="...", SESSION_TYPE="redis", SESSION_REDIS=url)
    Session(app)

    @app.get("/<key>")
    def write(key: str) -> str:
        session.get(key)  # loads it: what others do from now on is a conflict
        time.sleep(work)
        session[key] = "x" * 20
        return ""

    return app


def lock_whole_requests(app: Flask, url: str) -> Flask:
    lock = redis.Redis.from_url(url).lock("lock", timeout=60, sleep=0.001)
    wsgi_app = app.wsgi_app

    def locked(environ: Any, start_response: Any) -> Any:
        with lock:
            return wsgi_app(environ, start_response)

    app.wsgi_app = locked  # type: ignore[method-assign]
    return app


def times(make: Callable[[], Flask], requests: int) -> list[float]:
    """Seconds of each request; all keys are there afterwards, or it says so."""
    first = make().test_client()
    first.get("/first")
    cookie = first.get_cookie("session")
    assert cookie is not None
    results: multiprocessing.Queue[list[float]] = FORK.Queue()
    ready = FORK.Barrier(WORKERS)

    def work(number: int) -> None:
        client, seconds = make().test_client(), []
        client.set_cookie("session", cookie.value)
        client.get("/first")
        ready.wait()
        for turn in range(requests):
            began = time.perf_counter()
            assert client.get(f"/{number}-{turn}").status_code == 200
            seconds.append(time.perf_counter() - began)
        results.put(seconds)

    workers = [
        FORK.Process(target=work, args=[number], daemon=True) for number in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    taken = [seconds for _ in workers for seconds in results.get(timeout=60)]
    for worker in workers:
        worker.join()
    with first.session_transaction() as transaction:
        assert len(transaction) == WORKERS * requests + 1, "keys are lost"
    return taken


def trips(server: Redis, requests: int, work: float) -> float:
    """How often a request goes to the server, by the server's own count: once to load the
    session, and once for each script that tries to save it.
    """
    client = redis.Redis.from_url(server.url)
    client.config_resetstat()
    times(lambda: make_app(server.url, work), requests)
    tried: int = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    return 1 + tried / (WORKERS * requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=float, default=20, help="milliseconds a request")
    parser.add_argument("--requests", type=int, default=25, help="of each worker")
    options = parser.parse_args()
    work = options.work / 1000
    server = Redis()
    server.start()
    try:
        kinds: dict[str, Callable[[], Flask]] = {
            "merged": lambda: make_app(server.url, work),
            "locked": lambda: lock_whole_requests(make_app(server.url, work), server.url),
        }
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(ROUNDS):
            for name, make in kinds.items():
                taken[name] += times(make, options.requests)
        print(f"{machine()}\n\nredis{told(server)}")
        print(f"{WORKERS} workers, {options.work:g} ms of work")
        for name, seconds in taken.items():
            cuts = statistics.quantiles(seconds, n=100)
            print(f"{name}: median {cuts[49] * 1000:.1f} ms, p95 {cuts[94] * 1000:.1f} ms")
        print(f"trips a request, merged: {trips(server, options.requests, work):.1f}")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
