"""Sessions in Memcached, with ``gets``, ``cas`` and ``add``, each confirmed by the server."""

from __future__ import annotations

import math
import re
import ssl
import time
from collections.abc import Callable
from typing import Any
from typing import NamedTuple
from typing import Self
from typing import TYPE_CHECKING
from typing import TypeVar
from typing import Unpack

from pymemcache.client.base import Client
from pymemcache.client.base import PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.client.retrying import RetryingClient
from pymemcache.exceptions import MemcacheClientError
from pymemcache.exceptions import MemcacheError
from pymemcache.exceptions import MemcacheServerError
from pymemcache.exceptions import MemcacheUnexpectedCloseError
from pymemcache.exceptions import MemcacheUnknownCommandError
from pymemcache.exceptions import MemcacheUnknownError
from pymemcache.serde import LegacyWrappingSerde

from ...errors import ConfigurationError
from ...errors import StoreError
from ..base import Store
from ..base import StoreOptions
from ..examination import Examination
from ..operations import Fault
from ..record import Record
from . import connections as memcached_connections
from . import examination as memcached_examination

if TYPE_CHECKING:
    from flask import Flask

T = TypeVar("T")

KEY = "SESSION_MEMCACHED"
DEFAULT = "127.0.0.1:11211"
ALLOWED = (
    "host:port, /path/to/socket, several of them in a list or separated by commas, "
    "or a pymemcache.PooledClient"
)

#: Expiry times above 30 days are taken for points in time (Memcached's protocol.txt).
_LONGEST_RELATIVE = 30 * 24 * 3600

_OTHER_SERVER = "Look whether SESSION_MEMCACHED leads to a Memcached server, and to no other."

#: How often a write is tried again because somebody touched the record in between.
_ATTEMPTS = 8


class _Token(NamedTuple):
    cas: bytes
    expires: int


class MemcachedStore(Store):
    """One item a session: the prefix and the handle.

    With several servers each session lives on one of them, found by rendezvous hashing.
    There is no failover: a session that moved to another server would come back there
    after it was destroyed here.

    :param servers: an address, several, or a ``PooledClient``.
    """

    stale = (
        BrokenPipeError,
        ConnectionAbortedError,
        ConnectionResetError,
        MemcacheUnexpectedCloseError,
        # Perhaps the answer to somebody else's question.
        MemcacheUnknownError,
    )
    unavailable = (OSError, MemcacheServerError)
    failed = (MemcacheError,)

    def __init__(self, servers: Any = DEFAULT, **options: Unpack[StoreOptions]) -> None:
        super().__init__(**options)
        if not re.fullmatch(r"[\x21-\x7e]{0,180}", self.prefix):
            raise ConfigurationError(
                "SESSION_KEY_PREFIX",
                self.prefix,
                "at most 180 printable ASCII characters without a space",
            )
        self._addresses = _addresses(servers)
        self._ring = RendezvousHash(self._addresses)
        self._given = None if self._addresses else _checked(servers)
        self._clients: dict[str, Any] = {}
        self.reset()

    @classmethod
    def from_app(cls, app: Flask, **options: Unpack[StoreOptions]) -> Self:
        return cls(app.config.get(KEY, DEFAULT), **options)

    def close(self) -> None:
        for client in self._clients.values():
            if client is not self._given:
                client.close()

    def reset(self) -> None:
        if self._given is None:
            self._clients = {
                address: memcached_connections.connected_to(address, self.timeout, self.limit)
                for address in self._addresses
            }
        elif isinstance(self._given, PooledClient):
            self._clients = {"": memcached_connections.like(self._given, self.limit)}
        else:
            self._clients = {"": self._given}

    def _reconnect(self) -> None:
        old = self._clients
        self.reset()
        for client in old.values():
            memcached_connections.leave(client)

    def _fault(self, error: Exception) -> Fault:
        if isinstance(error, ssl.SSLCertVerificationError):  # which is an OSError, too
            return Fault.REFUSED
        return super()._fault(error)

    def _advice(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return "Have the client's tls_context trust who has signed the certificate."
        if isinstance(error, MemcacheUnknownCommandError):
            return _OTHER_SERVER
        if isinstance(error, MemcacheClientError) and "unauth" in str(error):
            return "It wants a user and a password, which pymemcache cannot send."
        return "Memcached refuses the command." if isinstance(error, MemcacheError) else ""

    def _second_try(self, primitive: Callable[..., T], *arguments: Any) -> T:
        try:
            return super()._second_try(primitive, *arguments)
        except MemcacheUnknownError as error:  # on a new connection, too
            raise StoreError(f"{self._describe(error)} {_OTHER_SERVER}") from error

    def _client(self, handle: str) -> Any:
        if len(self._clients) == 1:
            return next(iter(self._clients.values()))
        return self._clients[self._ring.get_node(handle)]

    def _create(self, record: Record) -> bool:
        return bool(self._store("add", record))

    def _load(self, handle: str) -> Record | None:
        packed, cas = _asked(self._client(handle).gets, self.prefix + handle)
        if packed is None:
            return None
        record = Record.unpack(handle, packed)
        return record._replace(token=_Token(cas, record.expires))

    def _replace(self, record: Record) -> Record | None:
        token = record.token
        for _ in range(_ATTEMPTS):
            if token is None or token.expires <= record.seen:
                standing = self._load_named(record.handle)
                if standing is None or standing.expires <= record.seen:
                    return None
                if standing.version != record.version - 1:
                    return standing
                token = standing.token
            stored = self._store("cas", record, token.cas)
            if stored is not False:
                return record if stored else None
            token = None
        return self._load(record.handle)

    def _touch(self, record: Record) -> bool:
        standing = self._load_named(record.handle)
        if standing is None or standing.expires <= record.seen:
            return False
        if standing.version != record.version:
            return False
        touched = standing._replace(seen=record.seen, expires=record.expires)
        return bool(self._store("cas", touched, standing.token.cas))

    def _delete(self, handle: str) -> bool:
        client, key = self._client(handle), self.prefix + handle
        if not isinstance(client, PooledClient):  # it is not pymemcache's
            return bool(client.delete(key, noreply=False))
        # Its own delete takes every answer but one for "there was none".
        said = _asked(client.raw_command, b"delete " + client.check_key(key))
        if said not in (b"DELETED", b"NOT_FOUND"):
            self._reconnect()
            raise MemcacheUnknownError(said[:32])
        return bool(said == b"DELETED")

    def _examine(self) -> Examination:
        return memcached_examination.examine(self._clients, self.max_size)

    def _store(self, command: str, record: Record, *cas: bytes) -> bool | None:
        """``add`` or ``cas``: True if stored, False if refused, None if there is no item."""
        # Memcached's clock moves once a second: without one more it may be early.
        expire = math.ceil((record.expires - record.seen) / 1000) + 1
        if expire > _LONGEST_RELATIVE:
            expire += int(time.time())
        client = self._client(record.handle)
        key = self.prefix + record.handle
        try:
            stored: bool | None = _asked(
                getattr(client, command), key, record.pack(), *cas, expire=expire, noreply=False
            )
        except MemcacheServerError as error:
            if "too large" not in str(error):
                raise
            raise self._too_large(record) from error
        return stored


def _asked(command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The answer. What the driver cannot read, such as one that names another key, it answers
    with Python's own errors, and closes the connection.
    """
    try:
        return command(*arguments, **options)
    except ssl.SSLCertVerificationError:  # which is a ValueError, too
        raise
    except (LookupError, ValueError) as error:
        raise MemcacheUnknownError(f"an answer that cannot be read: {error!r}") from error


def _addresses(servers: Any) -> list[str]:
    """The addresses in the configured value; none if it is a client."""
    if isinstance(servers, str):
        servers = servers.split(",")
    if not isinstance(servers, list | tuple):
        return []
    if len(servers) == 2 and isinstance(servers[0], str) and isinstance(servers[1], int):
        servers = [f"{servers[0]}:{servers[1]}"]
    addresses = [server.strip() for server in servers if isinstance(server, str)]
    wrong = [
        a
        for a in addresses
        if not re.fullmatch(r"/.+|(\[[0-9a-fA-F:]+\]|[^\s:/]+)(:\d{1,5})?", a)
    ]
    if not addresses or wrong or len(addresses) != len(servers):
        raise ConfigurationError(KEY, servers, ALLOWED)
    return addresses


def _checked(client: Any) -> Any:
    """A client that was given, if it can be trusted with sessions."""
    if isinstance(client, Client):
        reason = "A Client has one socket, which threads would share; a PooledClient has many."
    elif isinstance(client, HashClient | RetryingClient):
        reason = (
            "A HashClient moves sessions to another server when one is down, and back; a "
            "RetryingClient repeats what was done already. Give the list of addresses."
        )
    elif not all(callable(getattr(client, name, None)) for name in ("gets", "cas", "add")):
        reason = f"To use {DEFAULT}, leave the key out."
    elif getattr(client, "ignore_exc", False):
        reason = "With ignore_exc=True it shows a server that is down as an empty session."
    elif not _plain(getattr(client, "serde", None)):
        reason = "It has a serializer: what stands in Memcached must not be unpickled."
    else:
        return client
    raise ConfigurationError(KEY, client, ALLOWED, reason)


def _plain(serde: Any) -> bool:
    """Whether values pass through unchanged, as they do unless something else was asked for."""
    if not isinstance(serde, LegacyWrappingSerde):
        return serde is None
    functions = [getattr(f, "__func__", None) for f in (serde.serialize, serde.deserialize)]
    return functions == [
        LegacyWrappingSerde._default_serialize,
        LegacyWrappingSerde._default_deserialize,
    ]
