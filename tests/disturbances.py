"""What happens to servers while they are used, and what comes of it for those who use them.

``python tests/disturbances.py [NAME ...]`` measures the table of docs/operations.md anew.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import NamedTuple

from deployments import ask
from deployments import Cluster
from deployments import ReplicaSet
from deployments import Watched
from failovers import MariaDBPair
from failovers import Pair
from failovers import PostgreSQLPair
from failovers import RedisPair
from flask import Flask
from history import Event
from history import Reply
from history import run
from history import Send
from history_app import create_app
from proxy import Proxy
from servers import MariaDB
from servers import Memcached
from servers import MongoDB
from servers import PostgreSQL
from servers import Redis
from servers import Server
from test_history import in_threads
from test_life_of_a_request import store_of
from violations import violations

Config = dict[str, Any]

#: Seconds an operation of the store may take: as long as it may by default.
TIMEOUT = 2.0
#: Seconds within which requests must succeed again.
PATIENCE = 15.0
#: Requests that must succeed before it is disturbed again.
CALM = 100
#: Seconds between two requests of a worker: what waits for a failover is no load test.
PAUSE = 0.01


class Scene(NamedTuple):
    """A running server, or several."""

    config: Config
    #: Disturb it. Returns when the servers are as they were: it can be done again.
    disturb: Callable[[], None]


@dataclass(frozen=True)
class Disturbance:
    """One row of the table."""

    name: str
    group: str
    #: The server whose program is needed, by its name in ``servers``.
    server: str
    scene: Callable[[], AbstractContextManager[Scene]]
    #: What the servers themselves lose of what they have acknowledged.
    loses: str = ""
    times: int = 3


# -- what happens


@contextmanager
def sentinels(disturb: str, client: bool = False) -> Iterator[Scene]:
    watched = Watched()

    def disturb_and_settle() -> None:
        getattr(watched, disturb)()
        watched.settle()

    with watched.running(), given(watched, client) as where:
        config = {"SESSION_TYPE": "redis", "SESSION_REDIS": where}
        yield Scene(config, disturb_and_settle)


@contextmanager
def cluster(disturb: str, replicas: int = 1, client: bool = False) -> Iterator[Scene]:
    nodes = Cluster(replicas)
    with nodes.running(), given(nodes, client) as where:
        config = {"SESSION_TYPE": "redis", "SESSION_REDIS": where}
        yield Scene(config, getattr(nodes, disturb))


@contextmanager
def given(servers: Watched | Cluster, client: bool) -> Iterator[Any]:
    """A URL, or a client of the application's own."""
    if not client:
        yield servers.url
        return
    with contextlib.closing(servers.client(TIMEOUT)) as made:
        yield made


@contextmanager
def replica_set(disturb: str) -> Iterator[Scene]:
    members = ReplicaSet()
    with members.running():
        config = {"SESSION_TYPE": "mongodb", "SESSION_MONGODB": members.url}
        yield Scene(config, getattr(members, disturb))


@contextmanager
def one_address(kind: Callable[[], Pair], **config: Any) -> Iterator[Scene]:
    pair = kind()
    with pair.running():
        [key] = (key for key, value in config.items() if value is None)
        yield Scene(config | {key: pair.url}, pair.fail_over)


@contextmanager
def alone(server: Any, disturb: Callable[[Any], None], **config: Any) -> Iterator[Scene]:
    """One server."""
    server.start()
    try:
        [key] = (key for key, value in config.items() if value is None)
        yield Scene(config | {key: server.url}, lambda: disturb(server))
    finally:
        server.stop()


@contextmanager
def cut_off(server: Any, **config: Any) -> Iterator[Scene]:
    """One server that cannot close its connections by itself."""
    server.start()
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        proxy = Proxy(server.port)
        stack.callback(proxy.close)
        [key] = (key for key, value in config.items() if value is None)
        where = server.url.replace(str(server.port), str(proxy.port))
        yield Scene(config | {key: where}, proxy.drop)


class Fast(PostgreSQL):
    """Shut down as by an administrator: it closes all connections, and then ends in order."""

    import signal

    goodbye = signal.SIGINT


def restart(server: Server) -> None:
    server.end()
    server.start()


def kill_and_start(server: Server) -> None:
    server.kill()
    server.start()


def close_all_of_redis(server: Redis) -> None:
    ask(server, "CLIENT KILL", "TYPE", "normal")


def close_all_of_postgresql(server: PostgreSQL) -> None:
    import psycopg

    with psycopg.connect(server.dsn) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )


def close_all_of_mariadb(server: MariaDB) -> None:
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=server.port, user="root") as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT id FROM information_schema.processlist"
            " WHERE id <> CONNECTION_ID() AND db IS NOT NULL"
        )
        for [number] in cursor.fetchall():
            with contextlib.suppress(pymysql.err.OperationalError):  # it has gone by itself
                cursor.execute(f"KILL {number}")


REDIS = {"SESSION_TYPE": "redis", "SESSION_REDIS": None}
SQL = {"SESSION_TYPE": "sqlalchemy", "SESSION_SQLALCHEMY": None}
MONGODB = {"SESSION_TYPE": "mongodb", "SESSION_MONGODB": None}
MEMCACHED = {"SESSION_TYPE": "memcached", "SESSION_MEMCACHED": None}

LAST = "what its replica had not received yet"

ALL = [
    Disturbance(
        "Redis: sentinel failover, writes stopped before",
        "redis",
        "redis",
        lambda: sentinels("fail_over"),
    ),
    Disturbance(
        "Redis: `SENTINEL FAILOVER`, at once",
        "redis",
        "redis",
        lambda: sentinels("fail_over_at_once"),
        loses="what is written to the old primary before it is told",
        times=2,
    ),
    Disturbance(
        "Redis: primary killed, with sentinels",
        "redis",
        "redis",
        lambda: sentinels("kill"),
        loses=LAST,
        times=1,
    ),
    Disturbance(
        "Redis cluster: `CLUSTER FAILOVER`",
        "redis",
        "redis",
        lambda: cluster("fail_over"),
    ),
    Disturbance(
        "Redis cluster: slots are moved",
        "redis",
        "redis",
        lambda: cluster("reshard", replicas=0),
    ),
    Disturbance(
        "Redis cluster: a primary killed",
        "redis",
        "redis",
        lambda: cluster("kill"),
        loses=LAST,
        times=1,
    ),
    Disturbance(
        "Redis: failover behind one address",
        "redis",
        "redis",
        lambda: one_address(RedisPair, **REDIS),
    ),
    Disturbance(
        "Redis: connections closed",
        "redis",
        "redis",
        lambda: alone(Redis(), close_all_of_redis, **REDIS),
        times=6,
    ),
    Disturbance(
        "Redis: killed and started again, without persistence",
        "redis",
        "redis",
        lambda: alone(Redis(), kill_and_start, **REDIS),
        loses="everything",
        times=1,
    ),
    Disturbance(
        "Memcached: connections closed",
        "memcached",
        "memcached",
        lambda: cut_off(Memcached(), **MEMCACHED),
        times=6,
    ),
    Disturbance(
        "MongoDB: primary steps down",
        "mongo",
        "mongodb",
        lambda: replica_set("step_down"),
        times=2,
    ),
    Disturbance(
        "MongoDB: primary killed", "mongo", "mongodb", lambda: replica_set("kill"), times=1
    ),
    Disturbance(
        "MongoDB: connections closed",
        "mongo",
        "mongodb",
        lambda: cut_off(MongoDB(), **MONGODB),
        times=6,
    ),
    Disturbance(
        "PostgreSQL: restart", "sql", "postgresql", lambda: alone(Fast(), restart, **SQL)
    ),
    Disturbance(
        "PostgreSQL: connections closed",
        "sql",
        "postgresql",
        lambda: alone(PostgreSQL(), close_all_of_postgresql, **SQL),
        times=6,
    ),
    Disturbance(
        "PostgreSQL: failover behind one address",
        "sql",
        "postgresql",
        lambda: one_address(PostgreSQLPair, **SQL),
    ),
    Disturbance(
        "MariaDB: connections closed",
        "sql",
        "mariadb",
        lambda: alone(MariaDB(), close_all_of_mariadb, **SQL),
        times=6,
    ),
    Disturbance(
        "MariaDB: failover behind one address",
        "sql",
        "mariadb",
        lambda: one_address(MariaDBPair, **SQL),
    ),
]


# -- what comes of it


class Disturber(threading.Thread):
    """Disturbs again and again, whenever so many requests have succeeded in a row since."""

    def __init__(self, disturb: Callable[[], None], times: int, between: int) -> None:
        super().__init__()
        self._disturb = disturb
        self._times = times
        self._between = between
        self._succeeded = 0
        self._changed = threading.Condition()
        #: When it was disturbed.
        self.moments: list[float] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._calm()
            for _ in range(self._times):
                self.moments.append(time.monotonic())
                self._disturb()
                self._calm()
        except BaseException as error:
            self.error = error

    def heard(self, status: int) -> None:
        with self._changed:
            self._succeeded = self._succeeded + 1 if status < 500 else 0
            self._changed.notify()

    def _calm(self) -> None:
        """Wait until requests succeed, one after the other. That some do is not enough: what
        takes no writes may answer reads.
        """
        with self._changed:
            self._succeeded = 0
            for number, seconds in ((CALM, PATIENCE), (self._between, 10 * PATIENCE)):
                if not self._changed.wait_for(lambda: self._succeeded >= number, seconds):  # noqa: B023
                    raise TimeoutError(f"it does not work again within {seconds} seconds")


@dataclass
class Outcome:
    history: list[Event]
    #: When it was disturbed.
    moments: list[float]
    #: What stopped it from being disturbed.
    error: BaseException | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Event]:
        return [event for event in self.history if event.unknown]

    @property
    def recovery(self) -> float:
        """Seconds from a disturbance to the last request that failed after it, at the most."""
        ends = [*self.moments[1:], float("inf")]
        spans = zip(self.moments, ends, strict=True)
        return max(
            (
                event.end - begin
                for begin, end in spans
                for event in self.failed
                if begin <= event.end < end
            ),
            default=0.0,
        )

    @property
    def slowest(self) -> float:
        return max(event.end - event.start for event in self.history)

    @property
    def lost(self) -> list[str]:
        """What was acknowledged, and is gone."""
        return [line for line in self.problems if "was answered" not in line]

    @property
    def broken(self) -> list[str]:
        """What nobody may be answered."""
        return [line for line in self.problems if "was answered" in line]


def go_through(
    disturbance: Disturbance,
    operations: int,
    seed: int = 1,
    app: Flask | None = None,
    scene: Scene | None = None,
) -> Outcome:
    """The history of an application while its servers are disturbed."""
    with contextlib.ExitStack() as stack:
        scene = scene or stack.enter_context(disturbance.scene())
        app = app or create_app({"SESSION_STORE_TIMEOUT": TIMEOUT} | scene.config)
        stack.enter_context(contextlib.closing(store_of(app)))
        between = max(CALM, operations // (disturbance.times + 1))
        disturber = Disturber(scene.disturb, disturbance.times, between)
        in_thread = in_threads(app)

        @contextmanager
        def connect() -> Iterator[Send]:
            with in_thread() as send:

                def patient(arguments: dict[str, str], cookie: str | None) -> Reply:
                    reply = send(arguments, cookie)
                    disturber.heard(reply.status)
                    if disturber.is_alive():
                        time.sleep(PAUSE)
                    return reply

                yield patient

        with in_thread() as send:
            send({"op": "read"}, None)  # a table or an index takes its time
        disturber.start()
        try:
            history = run(seed, operations, connect, disturber.is_alive)
        finally:
            disturber.join()
    problems = violations(history, disturbed=True)
    return Outcome(history, disturber.moments, disturber.error, problems)


def row(disturbance: Disturbance, outcome: Outcome) -> str:
    nothing = "nothing" if not outcome.lost else f"{len(outcome.lost)} violations"
    lost = disturbance.loses or nothing
    if outcome.error is not None:
        again = f"not within {PATIENCE:g} s"
    elif not outcome.failed:
        again = f"no request fails; the slowest takes {outcome.slowest:.1f} s"
    else:
        again = f"{outcome.recovery:.1f} s"
    return f"| {disturbance.name} | {lost} | {again} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="those whose name contains one")
    parser.add_argument("--operations", type=int, default=1600)
    parser.add_argument("--verbose", action="store_true", help="what was lost, and the log")
    chosen = parser.parse_args()
    if not chosen.verbose:
        logging.disable()
    print("| disturbance | what is lost | how long until it works again |\n|---|---|---|")
    for disturbance in ALL:
        if chosen.names and not any(name in disturbance.name for name in chosen.names):
            continue
        began = time.monotonic()
        outcome = go_through(disturbance, chosen.operations)
        print(row(disturbance, outcome), flush=True)
        if chosen.verbose:
            counted = f"{len(outcome.history)} requests, {len(outcome.failed)} failed"
            print(f"  {time.monotonic() - began:.1f} s, {counted}", file=sys.stderr)
            for line in [*outcome.problems[:10], outcome.error or ""]:
                print(f"  {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
