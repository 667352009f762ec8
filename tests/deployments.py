"""What takes more than one server: Redis with sentinels, a replica set of MongoDB."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers import MongoDB
from servers import Redis
from servers import Server

#: Milliseconds after which others take a server for dead.
SOON = 500
SERVICE = "sessions"
#: Milliseconds between two looks of a sentinel, by default up to ten seconds. An old primary
#: that is back stays one for four of them.
PERIODS = ("INFO-PERIOD", 200, "PUBLISH-PERIOD", 200, "ASK-PERIOD", 200)


@contextmanager
def running(servers: Iterable[Server]) -> Iterator[None]:
    """Started all at the same time."""
    servers = list(servers)
    try:
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.start(), servers))
        yield
    finally:
        for server in servers:
            server.kill()  # nobody needs its data
            server.stop()


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What it says once that is something. A server that is not there says nothing."""
    deadline = time.monotonic() + seconds
    problem: object = None
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except _driver_errors() as error:
            problem = error
        time.sleep(0.02)
    raise TimeoutError(f"not within {seconds} seconds: {condition.__qualname__}: {problem}")


def _driver_errors() -> tuple[type[Exception], ...]:
    """Of the drivers in use: where one backend is tested, the others' are missing."""
    names = {"redis": "RedisError", "pymongo.errors": "PyMongoError"}
    return tuple(getattr(sys.modules[m], n) for m, n in names.items() if m in sys.modules)


def ask(server: Redis, *command: Any) -> Any:
    with connected(server) as client:
        return client.execute_command(*command)


def connected(server: Redis) -> Any:
    import redis

    return redis.Redis(port=server.port, socket_timeout=5, decode_responses=True)


def caught_up(old: Redis, new: Redis) -> bool:
    """Whether a replica has all that its primary had just now."""
    ahead, behind = (ask(server, "INFO", "replication") for server in (old, new))
    linked: bool = behind.get("master_link_status") == "up"
    return linked and ahead["master_repl_offset"] <= behind["slave_repl_offset"]


# -- sentinels


class Replicated(Redis):
    """A primary, or the replica of one."""

    def __init__(self, primary: Redis | None = None) -> None:
        super().__init__()
        self._primary = primary

    def command(self, folder: Path) -> list[str]:
        options = ["--repl-diskless-sync-delay", "0"]
        if self._primary is not None:
            options += ["--replicaof", "127.0.0.1", str(self._primary.port)]
        return [*super().command(folder), *options]


class Sentinel(Redis):
    """It writes what it learns into its configuration."""

    def __init__(self, primary: Redis) -> None:
        super().__init__()
        self._primary = primary

    def prepare(self, folder: Path) -> None:
        address = f"127.0.0.1 {self._primary.port}"
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"sentinel monitor {SERVICE} {address} 2",
            f"sentinel down-after-milliseconds {SERVICE} {SOON}",
            f"sentinel failover-timeout {SERVICE} {4 * SOON}",
        ]
        (folder / "conf").write_text("\n".join(lines))

    def command(self, folder: Path) -> list[str]:
        return [str(self.program), str(folder / "conf"), "--sentinel"]


class Watched:
    """A primary, its replicas, and three sentinels that watch over them."""

    def __init__(self, replicas: int = 1) -> None:
        primary = Replicated()
        self.servers = [primary, *(Replicated(primary) for _ in range(replicas))]
        self.sentinels = [Sentinel(primary) for _ in range(3)]

    @contextmanager
    def running(self) -> Iterator[None]:
        primary, *replicas = self.servers
        with running([primary]), running(replicas):
            wait_until(lambda: all(caught_up(primary, replica) for replica in replicas))
            with running(self.sentinels):
                for sentinel in self.sentinels:
                    ask(sentinel, "SENTINEL DEBUG", *PERIODS)
                self.settle()
                yield

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def client(self, timeout: float) -> Any:
        """What an application makes by itself."""
        import redis

        limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        hosts = [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]
        return redis.Sentinel(hosts, **limits).master_for(SERVICE, **limits)

    def settle(self) -> None:
        """Wait until all is as it should be: a failover can begin."""
        wait_until(lambda: all(map(self._knows_all, self.sentinels)))
        wait_until(lambda: all(caught_up(self.primary, other) for other in self._others()))

    def fail_over(self) -> None:
        """As the manual has it, and without losing anything: what is written while both take
        themselves for the primary would be lost, so nothing is.
        """
        old = self.primary
        ask(old, "CONFIG SET", "min-replicas-to-write", 9)  # it takes no more writes
        # The one that has most takes its place.
        wait_until(lambda: any(caught_up(old, other) for other in self._others()))
        self._switch(old)
        ask(old, "CLIENT KILL", "TYPE", "normal")
        # Sentinels do so, too, but now and then not before half a minute has passed.
        ask(old, "REPLICAOF", "127.0.0.1", self.primary.port)
        wait_until(lambda: ask(old, "ROLE")[0] == "slave")
        ask(old, "CONFIG SET", "min-replicas-to-write", 0)

    def fail_over_at_once(self) -> None:
        old = self.primary
        self._switch(old)
        wait_until(lambda: ask(old, "ROLE")[0] == "slave")

    def kill(self) -> None:
        """The primary dies; it is back, without its data, when another one has its place."""
        old = self.primary
        old.kill()
        wait_until(lambda: self._agreed() not in (None, old.port))
        old.start()

    def _switch(self, old: Redis) -> None:
        def switched() -> bool:
            # Refused, or given up, while they do not know enough of the replicas.
            ask(self.sentinels[0], "SENTINEL FAILOVER", SERVICE)
            with contextlib.suppress(TimeoutError):
                return bool(wait_until(lambda: self._agreed() not in (None, old.port), 5))
            return False

        wait_until(switched)

    @property
    def primary(self) -> Redis:
        port = wait_until(self._agreed)
        return next(server for server in self.servers if server.port == port)

    def _others(self) -> list[Redis]:
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    def _agreed(self) -> int | None:
        """The port of the primary, if the sentinels agree."""
        question = ("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
        ports = {int(ask(sentinel, *question)[1]) for sentinel in self.sentinels}
        return ports.pop() if len(ports) == 1 else None

    def _knows_all(self, sentinel: Sentinel) -> bool:
        fields = ask(sentinel, "SENTINEL MASTER", SERVICE)
        others = len(self.sentinels) - 1, len(self.servers) - 1
        known = int(fields["num-other-sentinels"]), int(fields["num-slaves"])
        return known == others and fields["flags"] in ("master", {"master"})


# -- a replica set


class Member(MongoDB):
    def command(self, folder: Path) -> list[str]:
        return [*super().command(folder), "--replSet", SERVICE, "--oplogSize", "50"]


class ReplicaSet:
    """Three members, each with all data."""

    def __init__(self) -> None:
        self.members = [Member() for _ in range(3)]

    @contextmanager
    def running(self) -> Iterator[None]:
        with running(self.members):
            hosts = [
                {"_id": number, "host": f"127.0.0.1:{member.port}"}
                for number, member in enumerate(self.members)
            ]
            settings = {"electionTimeoutMillis": 2 * SOON, "heartbeatIntervalMillis": SOON}
            config = {"_id": SERVICE, "members": hosts, "settings": settings}
            self._command(self.members[0], {"replSetInitiate": config})
            self.settle()
            yield

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={SERVICE}"

    @property
    def primary(self) -> Member | None:
        found = [m for m in self.members if self._hello(m).get("isWritablePrimary")]
        return found[0] if len(found) == 1 else None

    def settle(self) -> None:
        wait_until(lambda: self.primary)
        wait_until(
            lambda: all(
                h.get("secondary") or h.get("isWritablePrimary")
                for h in map(self._hello, self.members)
            )
        )

    def step_down(self) -> None:
        old = wait_until(lambda: self.primary)
        self._command(old, {"replSetStepDown": 2, "secondaryCatchUpPeriodSecs": 1})
        self._another(old)

    def kill(self) -> None:
        old = wait_until(lambda: self.primary)
        old.kill()
        self._another(old)
        old.start()
        self.settle()

    def _another(self, old: Member) -> None:
        wait_until(lambda: self.primary not in (None, old))

    def _hello(self, member: Member) -> dict[str, Any]:
        import pymongo

        with contextlib.suppress(pymongo.errors.PyMongoError):
            return self._command(member, {"hello": 1})
        return {}

    def _command(self, member: Member, command: dict[str, Any]) -> dict[str, Any]:
        import pymongo

        options = {"directConnection": True, "serverSelectionTimeoutMS": SOON}
        with pymongo.MongoClient("127.0.0.1", member.port, **options) as client:
            return client.admin.command(command)
