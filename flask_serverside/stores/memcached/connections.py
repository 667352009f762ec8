"""Clients of pymemcache whose sockets keep to what is left of an operation's time limit."""

from __future__ import annotations

import copy
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymemcache.client.base import Client
from pymemcache.client.base import PooledClient
from pymemcache.exceptions import MemcacheServerError
from pymemcache.pool import ObjectPool

from ..time_limit import TimeLimit

#: What a server says, and closes the connection, that has as many as it may (``-c``).
_FULL = b"ERROR Too many open connections"


def connected_to(address: str, timeout: float, limit: TimeLimit) -> PooledClient:
    """A client of our own for one server."""
    client = PooledClient(
        address,
        connect_timeout=timeout,
        timeout=timeout,
        no_delay=True,  # else Nagle's algorithm holds a value back for 40 ms
        default_noreply=False,
        socket_module=_Sockets(socket, limit),
    )
    client.client_class = _Client
    client.client_pool = _Pool(client)
    return client


def like(client: PooledClient, limit: TimeLimit) -> PooledClient:
    """A client that is set up as the one that was passed, with connections of its own. Those
    of the one that was passed know no limit but their own, and in a child process they belong
    to the parent.
    """
    own = copy.copy(client)
    own.no_delay = True
    own.socket_module = _Sockets(client.socket_module, limit)
    if client.tls_context is not None:
        own.tls_context = _Context(client.tls_context, limit)
    if own.client_class is Client:
        own.client_class = _Client
    own.client_pool = _Pool(own)
    return own


def leave(client: Any) -> None:
    """Use these connections no more. Those that others are using are closed after that."""
    if isinstance(client, PooledClient) and isinstance(client.client_pool, _Pool):
        client.client_pool.leave()


class _Client(Client):  # type: ignore[misc]
    def _raise_errors(self, line: bytes, name: bytes) -> None:
        # pymemcache takes it for the answer to a command that the server does not know.
        if line.startswith(_FULL):
            raise MemcacheServerError(line.decode("ascii", "replace"))
        super()._raise_errors(line, name)


class _Pool(ObjectPool[Client]):  # type: ignore[misc]
    """Without a largest number of connections: there is one for each thread at most, and
    pymemcache has threads fail that find none, instead of having them wait.
    """

    def __init__(self, client: PooledClient) -> None:
        super().__init__(client._create_client, after_remove=lambda each: each.close())
        self._left = False

    def leave(self) -> None:
        self._left = True
        with self._lock:
            unused = [*self._free_objs]
            self._free_objs.clear()
        for each in unused:
            each.close()

    @contextmanager
    def get_and_release(self, destroy_on_fail: bool = False) -> Iterator[Client]:
        # pymemcache's own keeps for ever what was being used when somebody interrupted, as
        # gevent's timeouts do: the server runs out of connections.
        obj = self.get()
        try:
            yield obj
        except BaseException:
            self.destroy(obj)
            raise
        self.release(obj)

    def release(self, obj: Client, silent: bool = True) -> None:
        super().release(obj, silent)
        if self._left:
            self.leave()


class _Socket:
    """A socket, as far as pymemcache uses one: each call waits for what is left of the limit,
    so that a server which sends a byte now and then has no more time than another.
    """

    def __init__(self, wrapped: Any, limit: TimeLimit) -> None:
        self.wrapped = wrapped
        self._limit = limit
        self._longest: float | None = None

    def settimeout(self, seconds: float | None) -> None:
        self._longest = seconds

    def connect(self, address: Any) -> None:
        self._in_time().connect(address)

    def sendall(self, data: bytes) -> None:
        self._in_time().sendall(data)

    def recv(self, size: int) -> bytes:
        received: bytes = self._in_time().recv(size)
        return received

    def setsockopt(self, *option: Any) -> None:
        self.wrapped.setsockopt(*option)

    def close(self) -> None:
        self.wrapped.close()

    def _in_time(self) -> Any:
        left = self._limit.left
        self.wrapped.settimeout(left if self._longest is None else min(left, self._longest))
        return self.wrapped


class _Sockets:
    """A module like :mod:`socket` that makes such sockets."""

    def __init__(self, module: Any, limit: TimeLimit) -> None:
        self._module = module
        self._limit = limit

    def socket(self, *kind: Any) -> _Socket:
        return _Socket(self._module.socket(*kind), self._limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Context:
    """An ``ssl.SSLContext`` that takes such sockets, and makes them."""

    def __init__(self, context: Any, limit: TimeLimit) -> None:
        self._context = context
        self._limit = limit

    def wrap_socket(self, plain: _Socket, server_hostname: str) -> _Socket:
        wrapped = self._context.wrap_socket(plain.wrapped, server_hostname=server_hostname)
        return _Socket(wrapped, self._limit)
