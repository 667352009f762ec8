"""Connections of redis-py whose every step keeps to the time limit of the store's operation."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Iterable
from inspect import signature
from queue import Empty
from typing import Any
from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.connection import BlockingConnectionPool
from redis.connection import Connection
from redis.connection import SSLConnection
from redis.connection import UnixDomainSocketConnection
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as NoAnswer
from redis.retry import Retry

from ..time_limit import TimeLimit
from .urls import Place

#: Not to tell the server our name and version saves two trips for each connection.
_QUIET: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)
#: Connections that a process opens to one server, unless the URL says otherwise.
MOST = 100

_NOTHING = object()


class LimitedSocket:
    """A socket that waits no longer than is left of the operation, however often it is asked.

    A time limit of a socket's own begins anew with each answer, and with each byte of it.
    """

    def __init__(self, inner: socket.socket, limit: TimeLimit, most: float | None) -> None:
        self._inner = inner
        self._limit = limit
        self._most = most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _wait_no_longer(self) -> None:
        if self._inner.gettimeout() != 0:  # 0: redis-py looks whether there is something
            self._inner.settimeout(within(self._limit, self._most))

    def recv(self, *arguments: Any) -> bytes:
        self._wait_no_longer()
        return self._inner.recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        self._wait_no_longer()
        return self._inner.recv_into(*arguments)

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # one by one, since TLS has no limit for all of them
            self._wait_no_longer()
            rest = rest[self._inner.send(rest) :]


def within(limit: TimeLimit, most: float | None) -> float:
    return limit.left if most is None else min(most, limit.left)


if TYPE_CHECKING:
    _Connection = Connection
else:
    _Connection = object


class Limited(_Connection):
    """What each kind of connection is mixed with."""

    def __init__(self, *, limit: TimeLimit, **options: Any) -> None:
        self._limit = limit
        super().__init__(**options)  # type: ignore[no-untyped-call]

    # redis-py asks for these two before it connects to each address, and before it greets.

    @property
    def socket_timeout(self) -> float | None:
        return within(self._limit, self._socket_timeout)

    @socket_timeout.setter
    def socket_timeout(self, seconds: float | None) -> None:
        self._socket_timeout = seconds

    @property
    def socket_connect_timeout(self) -> float | None:
        return within(self._limit, self._socket_connect_timeout)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, seconds: float | None) -> None:
        self._socket_connect_timeout = seconds

    def _connect(self) -> Any:
        connected = super()._connect()  # type: ignore[no-untyped-call]
        return LimitedSocket(connected, self._limit, self._socket_timeout)

    # Who waits may be interrupted anywhere, by a signal's handler for one. The next to use the
    # connection must not take an answer that is still to come for its own.

    #: Answers that are still to come.
    owed = 0
    #: The pool's list of those that were lost. It gets an entry when this one is.
    lost: deque[None] | None = None

    def elsewhere(self) -> bool:
        """Whether another server is the right one now."""
        return False

    def send_command(self, *arguments: Any, **options: Any) -> None:
        self.owed += 1
        super().send_command(*arguments, **options)  # type: ignore[no-untyped-call]

    def pack_commands(self, commands: Iterable[Any]) -> Any:
        together = list(commands)
        self.owed += len(together)
        return super().pack_commands(together)  # type: ignore[no-untyped-call]

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            answer = super().read_response(*arguments, **options)
        except ResponseError:
            self.owed -= 1
            raise
        self.owed -= 1
        return answer

    def disconnect(self, *arguments: Any, **options: Any) -> None:
        super().disconnect(*arguments, **options)  # type: ignore[no-untyped-call]
        self.owed = 0

    def __del__(self) -> None:
        if self.lost is not None:
            self.lost.append(None)
        super().__del__()  # type: ignore[no-untyped-call]


class Plain(Limited, Connection):
    pass


class Encrypted(Limited, SSLConnection):
    pass


class Local(Limited, UnixDomainSocketConnection):
    pass


class Pool(BlockingConnectionPool):
    """Waits for a connection that others use, no longer than is left of the operation."""

    def __init__(self, *, limit: TimeLimit, **options: Any) -> None:
        self._limit = limit
        self._lost: deque[None] = deque()
        #: Whether servers speak unasked: only to those who use the newer protocol.
        self._pushes = options.get("protocol") == 3 and hasattr(Connection, "should_reconnect")
        super().__init__(limit=limit, **options)  # type: ignore[no-untyped-call]

    @property
    def timeout(self) -> float:
        return within(self._limit, self._timeout)

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    # As redis-py does it, but for forks, which the store sees to, and for its metrics: these
    # two are on the way of each command.

    def get_connection(self, *_: Any, **__: Any) -> Any:
        self._make_up_for_lost()
        taken: Any = _NOTHING
        try:
            taken = self.pool.get(timeout=self.timeout)
            if taken is None:  # there may be one more
                taken = self.make_connection()
            taken.lost = self._lost
            taken.connect()
            if self._is_stale(taken):
                taken.disconnect()
                taken.connect()
        except Empty:
            raise NoConnection("No connection available.") from None
        except BaseException:
            if taken is not _NOTHING:
                self._give_back(taken)
            raise
        return taken

    def make_connection(self) -> Any:
        """Nobody but who uses it refers to it: if that one is interrupted before it is given
        back, it is gone, and there is room for another one.
        """
        return self.connection_class(**self.connection_kwargs)

    def _make_up_for_lost(self) -> None:
        while self._lost:
            with contextlib.suppress(IndexError):  # another thread was faster
                self._lost.pop()
                self.pool.put_nowait(None)

    def _give_back(self, taken: Any) -> None:
        """Closed: it may be half made, in another database than ours."""
        if taken is not None:
            taken.disconnect()
        self.pool.put_nowait(taken)

    def _is_stale(self, connection: Any) -> bool:
        """Whether the server has closed it, has said something unasked, or is the wrong one."""
        if connection.elsewhere():
            return True
        try:
            return bool(connection.can_read(0)) and not self._pushes
        except (NoConnection, NoAnswer, OSError):
            return True

    def release(self, connection: Any) -> None:
        # A server may announce that it goes away, by a push of RESP3.
        if connection.owed or (self._pushes and connection.should_reconnect()):
            connection.disconnect()
        self.pool.put_nowait(connection)

    def close_idle(self) -> None:
        """Close the connections that nobody uses: they are taken out of the pool first, so
        that nobody begins to.
        """
        taken = 0
        try:
            with contextlib.suppress(Empty):
                while True:
                    connection = self.pool.get_nowait()
                    taken += 1
                    if connection is not None:
                        connection.lost = None
                        connection.disconnect()
        finally:
            for _ in range(taken):  # room for new ones, for who waits for it
                self.pool.put_nowait(None)

    def disconnect(self, *_: Any, **__: Any) -> None:
        self.close_idle()


def options_of(place: Place, limit: TimeLimit, **more: Any) -> dict[str, Any]:
    """What a connection to a server of this place is made with."""
    options = {
        # The older protocol: it takes no greeting, and a server does not speak unasked.
        "protocol": 2,
        # The store tries again, and knows when that is right.
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": None,
        **_QUIET,
    }
    if place.tls and place.options.get("ssl_cert_reqs") != "none":
        options["ssl_check_hostname"] = True
    return options | dict(place.options) | {"limit": limit} | more


def class_of(place: Place) -> type[Limited]:
    if place.kind == "socket":
        return Local
    return Encrypted if place.tls else Plain


def make_client(kind: type[Limited], options: dict[str, Any]) -> redis.Redis:
    """One of redis-py's clients, with a pool of such connections."""
    most = options.get("max_connections", MOST)
    waiting = options.get("timeout")
    own = {k: v for k, v in options.items() if k not in ("max_connections", "timeout")}
    pool = Pool(connection_class=kind, max_connections=most, timeout=waiting, **own)
    return redis.Redis(connection_pool=pool)


def drop(client: redis.Redis) -> None:
    """Give up a client that :func:`make_client` has made. What uses it may go on."""
    pool = client.connection_pool
    assert isinstance(pool, Pool)
    pool.close_idle()
