"""A Redis cluster: three primaries that share the slots, and their replicas."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deployments import ask
from deployments import caught_up
from deployments import connected
from deployments import Replicated
from deployments import running
from deployments import SOON
from deployments import wait_until
from servers import free_port

SLOTS = 16384


class Node(Replicated):
    def __init__(self, patience: int) -> None:
        super().__init__()
        #: Milliseconds after which it takes another one for dead.
        self.patience = patience

    def prepare(self, folder: Path) -> None:
        self.bus = free_port()  # by default its port and 10,000, which may be no port at all

    def command(self, folder: Path) -> list[str]:
        options = {
            "enabled": "yes",
            "config-file": folder / "nodes",
            "port": self.bus,
            "node-timeout": self.patience,
        }
        cluster = [
            part for key, value in options.items() for part in (f"--cluster-{key}", value)
        ]
        return [*super().command(folder), *map(str, cluster)]

    @property
    def id(self) -> str:
        return ask(self, "CLUSTER MYID")

    @property
    def is_primary(self) -> bool:
        return ask(self, "ROLE")[0] == "master"


class Cluster:
    """Three primaries that share the slots, each with so many replicas."""

    def __init__(self, replicas: int = 0) -> None:
        patience = SOON if replicas else 15_000  # as by default, where none takes over
        self.shards = [[Node(patience) for _ in range(1 + replicas)] for _ in range(3)]
        self.nodes = [node for shard in self.shards for node in shard]
        self._changed = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        with running(self.nodes):
            self._join()
            self.settle()
            yield

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}"

    def client(self, timeout: float) -> Any:
        """What an application makes by itself."""
        import redis

        nodes = [redis.cluster.ClusterNode("127.0.0.1", node.port) for node in self.nodes]
        return redis.RedisCluster(
            startup_nodes=nodes, socket_timeout=timeout, socket_connect_timeout=timeout
        )

    def _join(self) -> None:
        for number, (primary, *replicas) in enumerate(self.shards):
            first, last = (SLOTS * n // 3 for n in (number, number + 1))
            ask(primary, "CLUSTER ADDSLOTSRANGE", first, last - 1)
            for node in (primary, *replicas):
                meeting = ("CLUSTER MEET", "127.0.0.1", node.port, node.bus)
                if node is not self.nodes[0]:
                    ask(self.nodes[0], *meeting)
        for primary, *replicas in self.shards:
            for replica in replicas:
                # Refused until they have heard of each other.
                wait_until(lambda: ask(replica, "CLUSTER REPLICATE", primary.id))  # noqa: B023

    def settle(self) -> None:
        """Wait until all nodes say that all is well, and each replica has what it should."""
        wait_until(lambda: all(map(_is_whole, self.nodes)))
        for shard in self.shards:
            wait_until(lambda: _has_caught_up(shard))  # noqa: B023

    def fail_over(self) -> None:
        """In each shard a replica and its primary change places, and nothing is lost."""
        # The others do not vote again within two of their time limits, and while they have not,
        # the primary lets its clients wait.
        wait_until(lambda: time.monotonic() > self._changed + 2 * SOON / 1000)
        for shard in self.shards:
            replica = next(node for node in shard if not node.is_primary)
            wait_until(lambda: _takes_over(replica))  # noqa: B023
        self._changed = time.monotonic()
        self.settle()

    def kill(self) -> None:
        """A primary dies; it is back, without its data, when its replica has its place."""
        shard = self.shards[0]
        primary = next(node for node in shard if node.is_primary)
        primary.kill()
        wait_until(lambda: any(node.is_primary for node in shard if node is not primary))
        primary.start()
        self.settle()

    def reshard(self) -> None:
        """The slots of the keys that are in use go from one primary to the others."""
        primaries = [node for node in self.nodes if node.is_primary]
        source = max(primaries, key=lambda node: len(_slots_in_use(node)))
        others = [node for node in primaries if node is not source]
        slots = sorted(_slots_in_use(source))
        moves = [(slot, others[slot % len(others)]) for slot in slots]
        ids = {node: node.id for node in primaries}
        for slot, target in moves:
            ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
            ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        for slot, target in moves:  # for as long as that takes, some keys are here, some there
            while keys := ask(source, "CLUSTER GETKEYSINSLOT", slot, 10):
                address = ("127.0.0.1", target.port, "", 0, 5000)
                ask(source, "MIGRATE", *address, "KEYS", *keys)
        for slot, target in moves:
            for node in (target, source, *others):
                ask(node, "CLUSTER SETSLOT", slot, "NODE", ids[target])


def _slots_in_use(node: Node) -> set[int]:
    """Those whose keys have been looked at in the last two seconds."""
    with connected(node) as client:
        keys = client.execute_command("KEYS", "*")
        idle = {key: client.execute_command("OBJECT IDLETIME", key) for key in keys}
        return {
            client.execute_command("CLUSTER KEYSLOT", key)
            for key, seconds in idle.items()
            if seconds is not None and seconds < 2
        }


def _is_whole(node: Node) -> bool:
    info = ask(node, "CLUSTER INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) >= 3


def _takes_over(replica: Node) -> bool:
    ask(replica, "CLUSTER FAILOVER")
    with contextlib.suppress(TimeoutError):
        return bool(wait_until(lambda: replica.is_primary, 1.5))
    return False


def _has_caught_up(shard: list[Node]) -> bool:
    primaries = [node for node in shard if node.is_primary]
    others = [node for node in shard if node not in primaries]
    return len(primaries) == 1 and all(caught_up(primaries[0], node) for node in others)
