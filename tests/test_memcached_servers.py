"""Real Memcached servers in odd states: interrupted, full, untrusted, out of step."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from servers import Memcached
from servers import Server
from tls import make_certificate
from tls import Terminator

from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.testing import new_record

pytestmark = [pytest.mark.group("memcached"), pytest.mark.alone]


@pytest.fixture
def address(server: Callable[[str], Server]) -> str:
    found = server("memcached")
    assert isinstance(found, Memcached)
    return found.url


MADE: list[Any] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def cache(servers: Any, **options: Any) -> Any:
    from flask_serverside.stores.memcached import MemcachedStore

    MADE.append(MemcachedStore(servers, **options))
    return MADE[-1]


def test_whoever_interrupts_leaves_no_connection_behind(address: str) -> None:
    line = Proxy(int(address.rpartition(":")[2]))
    store = cache(f"127.0.0.1:{line.port}")
    record = new_record(store, b"mine")
    assert store.create(record)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(3):
            line.freeze()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                store.load("0" * 64)
            line.mend()
            assert store.load(record.handle).payload == b"mine"
    finally:
        signal.signal(signal.SIGALRM, former)
        line.close()
    [client] = store._clients.values()
    assert (len(client.client_pool.used), len(client.client_pool.free)) == (0, 1)


@pytest.mark.parametrize("given", [False, True])
def test_a_server_without_room_for_one_more_connection_is_an_outage(
    address: str, given: bool
) -> None:
    from pymemcache.client.base import PooledClient

    class Small(Memcached):
        def command(self, folder: Path) -> list[str]:
            return [*super().command(folder), "-c", "20", "-t", "1"]

    server = Small()
    server.start()
    taken: list[socket.socket] = []
    try:
        refused = 0
        while refused < 3:  # now and then it is late to close what was closed
            taken.append(socket.create_connection(("127.0.0.1", server.port)))
            said = b""
            with contextlib.suppress(OSError):
                taken[-1].sendall(b"version\r\n")
                said = taken[-1].recv(100)
            refused += not said.startswith(b"VERSION")
        store = cache(PooledClient(server.url) if given else server.url)
        with pytest.raises(StoreUnavailable):
            store.ping()
        while taken:
            taken.pop().close()
        deadline = time.monotonic() + 5
        while True:
            try:
                store.ping()
                break
            except StoreUnavailable:
                assert time.monotonic() < deadline
    finally:
        for each in taken:
            each.close()
        server.stop()


def test_a_certificate_of_memcached_that_is_not_trusted_is_called_that(
    address: str, tmp_path: Path
) -> None:
    from pymemcache.client.base import PooledClient

    trusted = ssl.create_default_context(cafile=str(make_certificate(tmp_path)))
    line = Terminator(int(address.rpartition(":")[2]), tmp_path)
    where = ("localhost", line.port)
    cache(PooledClient(where, tls_context=trusted)).ping()
    store = cache(PooledClient(where, tls_context=ssl.create_default_context()))
    with pytest.raises(StoreError, match="tls_context") as told:
        store.ping()
    assert not isinstance(told.value, StoreUnavailable)
    assert "no other" not in str(told.value)


def test_a_connection_with_a_strange_answer_is_not_used_again() -> None:
    from test_memcached import answering

    store = cache(f"127.0.0.1:{answering(b'END' + bytes([13, 10]))}")
    with pytest.raises(StoreError):
        store.delete("f" * 64)
    assert [client.client_pool.free for client in store._clients.values()] == [()]
