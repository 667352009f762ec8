"""What happens to servers while they are used: the rows of the table in docs/operations.md."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from typing import NamedTuple

from deployments import ask
from deployments import ReplicaSet
from deployments import Watched
from failovers import MariaDBPair
from failovers import Pair
from failovers import PostgreSQLPair
from failovers import RedisPair
from proxy import Proxy
from redis_nodes import Cluster
from servers import MariaDB
from servers import Memcached
from servers import MongoDB
from servers import PostgreSQL
from servers import Redis
from servers import Server

Config = dict[str, Any]

#: Seconds an operation of the store may take: as long as it may by default.
TIMEOUT = 2.0


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
