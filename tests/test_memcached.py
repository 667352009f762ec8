"""What is special about Memcached."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from proxy import Proxy
from servers import Memcached
from servers import Server
from slow import SlowLine

from flask_serverside import ConfigurationError
from flask_serverside import SessionTooLarge
from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.testing import DAY
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

pytestmark = [pytest.mark.group("memcached"), pytest.mark.alone]


@pytest.fixture
def url(server: Callable[[str], Server]) -> str:
    found = server("memcached")
    assert isinstance(found, Memcached)
    return found.url


@pytest.fixture
def store(url: str) -> Any:
    from flask_serverside.stores.memcached import MemcachedStore

    store = MemcachedStore(url)
    yield store
    store.close()


def remaining(url: str, key: str) -> int:
    """Seconds, as the server itself says (its meta command ``mg``)."""
    import socket

    host, _, port = url.partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"mg {key} t\r\n".encode())
        return int(connection.recv(100).split()[1][1:])


@pytest.mark.parametrize("days", [1, 29, 30, 31, 365, 4000])
def test_the_server_expires_the_record(store: Any, url: str, days: int) -> None:
    # A minute: for more than 30 days it is told a point in time, and its clock, set when it
    # starts and never again, is not the machine's: a server up for long is some seconds off.
    record = new_record(store, lifetime=days * DAY)
    store.create(record)
    assert abs(remaining(url, f"session:{record.handle}") - days * 86400) <= 60
    later = record.expires + DAY
    store.replace(saved_again(record, b"2", expires=later))
    assert abs(remaining(url, f"session:{record.handle}") - (days + 1) * 86400) <= 60
    store.touch(record._replace(version=2, expires=later + DAY))
    assert abs(remaining(url, f"session:{record.handle}") - (days + 2) * 86400) <= 60


def test_a_fraction_of_a_second_is_not_for_ever(store: Any, url: str) -> None:
    record = new_record(store, lifetime=300)
    store.create(record)
    assert remaining(url, f"session:{record.handle}") in (0, 1, 2)


def test_more_than_the_server_takes_leaves_the_old_value(store: Any) -> None:
    record = new_record(store, b"old")
    store.create(record)
    loaded = store.load(record.handle)
    with pytest.raises(SessionTooLarge, match=r"2000000 bytes, more than the server's limit"):
        store.replace(saved_again(loaded, b"x" * 2_000_000))
    with pytest.raises(SessionTooLarge):
        store.create(new_record(store, b"x" * 2_000_000))
    assert store.load(record.handle).payload == b"old"


def test_nagles_algorithm_is_off(store: Any) -> None:
    record = new_record(store, b"x" * 3000)
    store.create(record)
    began = time.perf_counter()
    for _ in range(20):
        record = saved_again(record, b"y" * 3000)
        store.replace(record)
    # With it, each write waits 40 ms for the server's delayed acknowledgement.
    assert time.perf_counter() - began < 20 * 0.04


def test_a_save_after_a_load_is_one_command(store: Any) -> None:
    record = new_record(store)
    store.create(record)
    loaded = store.load(record.handle)
    store._load = None  # what a save without the loaded cas number would need
    changed = saved_again(loaded, b"changed")
    assert store.replace(changed) is changed


def test_sessions_stay_on_their_server(url: str) -> None:
    from flask_serverside.stores.memcached import MemcachedStore

    second = Memcached()
    second.start()
    try:
        store = MemcachedStore(f"{url}, {second.url}", timeout=0.5)
        records = [new_record(store) for _ in range(50)]
        assert all(store.create(record) for record in records)
        alone = [MemcachedStore(address) for address in (url, second.url)]
        counts = [sum(s.load(r.handle) is not None for r in records) for s in alone]
        assert sum(counts) == 50
        assert min(counts) > 5
        second.kill()
        here = [r for r in records if alone[0].load(r.handle) is not None]
        assert all(store.load(r.handle) is not None for r in here)
        for each in (store, *alone):
            each.close()
    finally:
        second.stop()


def given_clients() -> dict[str, Any]:
    from pymemcache import serde
    from pymemcache.client.base import Client
    from pymemcache.client.base import PooledClient
    from pymemcache.client.hash import HashClient

    address = ("127.0.0.1", 11211)
    return {
        "one socket": Client(address),
        "moves sessions": HashClient([address]),
        "ignore_exc": PooledClient(address, ignore_exc=True),
        "unpickled": PooledClient(address, serde=serde.pickle_serde),
        "leave the key out": object(),
    }


@pytest.mark.parametrize(
    "reason", ["one socket", "moves sessions", "ignore_exc", "unpickled", "leave the key out"]
)
def test_a_client_that_cannot_be_trusted_is_refused(reason: str) -> None:
    from flask_serverside.stores.memcached import MemcachedStore

    with pytest.raises(ConfigurationError, match=f"SESSION_MEMCACHED.*{reason}"):
        MemcachedStore(given_clients()[reason])


def test_a_given_pool_is_used_and_left_open(url: str) -> None:
    from pymemcache.client.base import PooledClient

    from flask_serverside.stores.memcached import MemcachedStore

    # With pymemcache's default of noreply=True a write is reported before it is made.
    client = PooledClient(url)
    store = MemcachedStore(client)
    record = new_record(store)
    assert store.create(record)
    assert not store.create(record)
    store.close()
    assert client.get(f"session:{record.handle}") is not None
    client.close()


@pytest.mark.parametrize(
    "servers",
    [
        "localhost",
        "localhost:11211",
        "[::1]:11211",
        "/run/memcached.sock",
        "a:1,b:2",
        ["a", "b"],
    ],
)
def test_addresses_may_be_written_in_any_of_these_ways(servers: Any) -> None:
    from flask_serverside.stores.memcached import MemcachedStore

    assert len(MemcachedStore(servers)._clients) == (2 if len(servers) in (2, 7) else 1)


@pytest.mark.parametrize("given", [False, True])
def test_a_connection_that_was_closed_meanwhile_costs_no_operation(
    url: str, given: bool
) -> None:
    from pymemcache.client.base import PooledClient

    from flask_serverside.stores.memcached import MemcachedStore

    line = Proxy(int(url.partition(":")[2]))
    address = f"127.0.0.1:{line.port}"
    store = MemcachedStore(PooledClient(address) if given else address)
    record = new_record(store)
    store.ping()
    line.drop()
    assert store.create(record)
    line.drop()
    changed = saved_again(record, b"changed")
    assert store.replace(changed) is changed
    line.drop()
    assert store.touch(changed)
    line.drop()
    assert store.load(record.handle) is not None
    line.drop()
    assert store.delete(record.handle)
    store.close()
    line.close()


@pytest.mark.parametrize(("delay", "piece"), [(1.5, 65536), (0.3, 1)])
def test_a_slow_server_has_one_limit_for_all_its_answers(
    url: str, store: Any, delay: float, piece: int
) -> None:
    from flask_serverside.stores.memcached import MemcachedStore

    record = new_record(store)
    store.create(record)
    line = SlowLine(int(url.partition(":")[2]), delay, piece)
    slow = MemcachedStore(f"127.0.0.1:{line.port}")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):  # it has to be loaded first
        slow.touch(record._replace(expires=record.expires + DAY))
    assert 1.5 < time.monotonic() - began < 2.0 + 0.3
    slow.close()
    line.close()


def answering(said: bytes) -> int:
    """The port of a server that gives every command the same answer."""
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                while connection.recv(65536):
                    connection.sendall(said)
        listener.close()

    threading.Thread(target=serve, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("said", "unavailable", "told"),
    [
        (b"-ERR unknown command\r\n", False, "leads to a Memcached server"),
        (b"VALUE other 0 1 1\r\nx\r\nEND\r\n", False, "cannot be read"),
        (b"ERROR\r\n", False, "leads to a Memcached server"),
        (b"CLIENT_ERROR unauthenticated\r\n", False, "a user and a password"),
        (b"SERVER_ERROR out of memory\r\n", True, "out of memory"),
    ],
)
def test_an_answer_that_is_none_is_an_error_of_ours(
    said: bytes, unavailable: bool, told: str
) -> None:
    from flask_serverside.stores.memcached import MemcachedStore

    store = MemcachedStore(f"127.0.0.1:{answering(said)}")
    with pytest.raises(StoreError, match=told) as error:
        store.load("f" * 64)
    assert isinstance(error.value, StoreUnavailable) == unavailable
    store.close()


def test_a_sign_out_is_not_taken_for_done_by_a_strange_answer() -> None:
    from flask_serverside.stores.memcached import MemcachedStore

    store = MemcachedStore(f"127.0.0.1:{answering(b'END' + bytes([13, 10]))}")
    with pytest.raises(StoreError, match="END"):
        store.delete("f" * 64)
    store.close()


def test_a_server_that_closes_idle_connections_costs_no_operation(url: str) -> None:
    from flask_serverside.stores.memcached import MemcachedStore

    class Impatient(Memcached):
        def command(self, folder: Any) -> list[str]:
            return [*super().command(folder), "-o", "idle_timeout=1"]

    server = Impatient()
    server.start()
    store = MemcachedStore(server.url)
    try:
        record = new_record(store)
        assert store.create(record)
        [client] = store._clients["127.0.0.1:" + str(server.port)].client_pool.free
        client.sock.wrapped.settimeout(30)
        assert client.sock.wrapped.recv(1) == b""  # the server has closed it
        assert store.delete(record.handle)
        assert store.load(record.handle) is None
    finally:
        store.close()
        server.stop()
