"""How commands reach the servers: one or a cluster, by our own client or one we were given."""

from __future__ import annotations

import threading
from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import ClassVar

from .connections import drop

#: Records are bytes, whatever a client's ``decode_responses`` says. The name is that of
#: redis-py's and valkey-py's ``client.NEVER_DECODE``.
RAW: dict[str, Any] = {"NEVER_DECODE": []}

Command = tuple[Any, ...]


def key_of(command: Command) -> str:
    """The key that decides which server of a cluster is asked."""
    return str(command[3] if command[0] in ("EVALSHA", "EVAL") else command[1])


class Line(ABC):
    """What the store says to the servers, and how to start again with them."""

    #: Whether keys are on different servers.
    cluster: ClassVar[bool] = False

    @abstractmethod
    def send(self, *command: Any) -> Any:
        """One command that names a key; its answer."""

    @abstractmethod
    def send_all(self, commands: Sequence[Command]) -> list[Any]:
        """Several, in one trip to each server. An error stands in its answer's place."""

    @abstractmethod
    def clients(self) -> dict[str, Any]:
        """A client for each server that keeps sessions, by the server's name."""

    def server_of(self, key: str) -> Any:
        """Something that is the same for keys on the same server, as far as is known."""
        return None

    def renew(self) -> None:
        """Never again use the connections that there are."""

    def suspect(self) -> None:
        """There was no answer in time: another server may have taken its place."""

    def forget(self) -> None:
        """Leave the connections to the process that has made them, and make others."""

    def close(self) -> None:
        """Close the connections, if this package has made the client."""


class Given(Line):
    """A client that we were given. It looks after its connections itself, in forks, too."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def send(self, *command: Any) -> Any:
        return self.client.execute_command(*command, **RAW)

    def send_all(self, commands: Sequence[Command]) -> list[Any]:
        return sent_together(self._pipeline(), commands)

    def _pipeline(self) -> Any:
        return self.client.pipeline(transaction=False)

    def clients(self) -> dict[str, Any]:
        return {"": self.client}

    def renew(self) -> None:
        _close_idle(self.client)


class GivenCluster(Given):
    cluster = True

    def _pipeline(self) -> Any:
        return self.client.pipeline()

    def clients(self) -> dict[str, Any]:
        connected = _either(self.client, "get_redis_connection", "get_valkey_connection")
        return {node.name: connected(node) for node in self.client.get_primaries()}

    def server_of(self, key: str) -> Any:
        nodes = self.client.nodes_manager.slots_cache.get(self.client.keyslot(key))
        return nodes[0].name if nodes else None

    def renew(self) -> None:
        for node in self.client.get_nodes():
            client = _either(node, "redis_connection", "valkey_connection")
            if client is not None:
                _close_idle(client)


class Own(Line):
    """One server, by a client that is made anew whenever its connections are of no more use."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._mine = threading.local()
        self.client = self._make()

    def send(self, *command: Any) -> Any:
        return self._chosen().execute_command(*command, **RAW)

    def send_all(self, commands: Sequence[Command]) -> list[Any]:
        return sent_together(self._chosen().pipeline(transaction=False), commands)

    def clients(self) -> dict[str, Any]:
        return {"": self._chosen()}

    def _chosen(self) -> Any:
        self._mine.client = client = self.client
        return client

    def renew(self) -> None:
        """Only if it is the client that this thread has used: of many that find it useless at
        once, the first makes a new one, and the others use that.
        """
        with self._lock:
            used = getattr(self._mine, "client", None)
            if used is not self.client:
                return
            self.client = self._make()
        drop(used)

    def close(self) -> None:
        drop(self.client)


def sent_together(pipeline: Any, commands: Sequence[Command]) -> list[Any]:
    for command in commands:
        pipeline.execute_command(*command, **RAW)
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    return answers


def _either(whose: Any, name: str, in_valkey: str) -> Any:
    return getattr(whose, name if hasattr(whose, name) else in_valkey)


def _close_idle(client: Any) -> None:
    pool = client.connection_pool
    try:
        pool.disconnect(inuse_connections=False)
    except TypeError:  # a pool that knows no difference
        pool.disconnect()
