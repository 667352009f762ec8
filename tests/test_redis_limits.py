"""An operation on Redis ends within one time limit, whatever steps it takes, and waits for a
connection that others use instead of failing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from servers import Redis
from servers import Server

from flask_serverside import StoreUnavailable
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

pytestmark = [pytest.mark.group("redis"), pytest.mark.alone]

LIMIT = 1.0
MARGIN = 0.3


class Guarded(Redis):
    """With a password and a socket, and with TLS, which not each server speaks itself."""

    def prepare(self, folder: Path) -> None:
        from tls import make_certificate
        from tls import Terminator

        self.socket = folder / "socket"
        self.authority = make_certificate(folder)
        self.tls_port = Terminator(self.port, folder).port

    def command(self, folder: Path) -> list[str]:
        options = ["--requirepass", "secret", "--unixsocket", str(self.socket)]
        return [*super().command(folder), *options]

    greeting = (b"AUTH secret\r\n", b"+OK")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    server = Guarded()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["plain", "tls"])
def slow(request: pytest.FixtureRequest, guarded: Guarded) -> Iterator[tuple[str, Proxy]]:
    """A URL with a password and a database, and the line to the server."""
    tls = request.param == "tls"
    proxy = Proxy(guarded.tls_port if tls else guarded.port)
    url = f"redis://:secret@127.0.0.1:{proxy.port}/1"
    if tls:
        url = f"rediss{url[5:]}?ssl_ca_certs={guarded.authority}"
    yield url, proxy
    proxy.close()


def make_store(url: str, **options: Any) -> Any:
    from flask_serverside.stores.redis import RedisStore

    return RedisStore(url, **{"timeout": LIMIT, **options})


@contextlib.contextmanager
def limited(limit: float = LIMIT) -> Iterator[None]:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        yield
    assert time.monotonic() - began < limit + MARGIN


#: What can be asked of a store, given a record that is there.
WORK: dict[str, Callable[[Any, Any], Any]] = {
    "load": lambda store, record: store.load(record.handle),
    "create": lambda store, record: store.create(new_record(store, subject="ada")),
    "replace": lambda store, record: store.replace(saved_again(record, b"x")),
    "touch": lambda store, record: store.touch(record),
    "delete": lambda store, record: store.delete(record.handle),
    "count": lambda store, record: store.count("ada"),
    "all": lambda store, record: store.count(),
    "ping": lambda store, record: store.ping(),
}


@pytest.mark.parametrize("work", WORK)
def test_slow_answers_at_each_step_share_one_limit(
    slow: tuple[str, Proxy], guarded: Guarded, work: str
) -> None:
    """Each answer is in time by itself: to AUTH, to SELECT, to EVALSHA, to EVAL."""
    import redis

    url, proxy = slow
    store = make_store(url)
    store.create(record := new_record(store, subject="ada"))
    store._line.renew()
    with redis.Redis(port=guarded.port, password="secret") as client:
        client.script_flush()
    proxy.delay = 0.6
    with limited():
        WORK[work](store, record)
    proxy.delay = 0
    assert store.load(record.handle) or work == "delete"


@pytest.mark.parametrize("work", ["load", "create"])
def test_bytes_that_trickle_in_do_not_make_the_limit_longer(
    slow: tuple[str, Proxy], work: str
) -> None:
    url, proxy = slow
    store = make_store(url)
    store.create(record := new_record(store, bytes(1000)))
    proxy.trickle = 0.2
    with limited():
        WORK[work](store, record)


def test_a_frozen_server_on_a_socket_is_given_up_in_time(guarded: Guarded) -> None:
    store = make_store(f"unix://:secret@{guarded.socket}?db=1")
    store.create(record := new_record(store))
    guarded.freeze()
    try:
        with limited():
            store.load(record.handle)
        with limited():  # and on a connection that is new
            store.load(record.handle)
    finally:
        guarded.thaw()
    assert store.load(record.handle) is not None


def test_a_shorter_limit_in_the_url_holds_for_each_answer(guarded: Guarded) -> None:
    proxy = Proxy(guarded.port)
    store = make_store(f"redis://:secret@127.0.0.1:{proxy.port}?socket_timeout=0.2", timeout=5)
    store.ping()
    proxy.freeze()
    with limited(0.2):
        store.ping()
    proxy.close()


def test_a_longer_limit_in_the_url_does_not_make_an_operation_longer(guarded: Guarded) -> None:
    proxy = Proxy(guarded.port)
    store = make_store(f"redis://:secret@127.0.0.1:{proxy.port}?socket_timeout=30")
    store.ping()
    proxy.freeze()
    with limited():
        store.ping()
    proxy.close()


def all_at_once(store: Any, number: int) -> list[Exception]:
    errors: list[Exception] = []
    ready = threading.Barrier(number)

    def work() -> None:
        try:
            ready.wait()
            for _ in range(5):
                store.ping()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.parametrize(("query", "most"), [("", 100), ("?max_connections=7", 7)])
def test_more_requests_than_connections_wait_for_one(
    server: Callable[[str], Server], query: str, most: int
) -> None:
    import redis

    found = server("redis")
    assert isinstance(found, Redis)
    store = make_store(found.url + query, timeout=20)
    with redis.Redis(port=found.port) as client:
        before = client.info("clients")["connected_clients"]
        assert all_at_once(store, 150) == []
        assert client.info("clients")["connected_clients"] - before <= most
    store.close()


def test_who_waits_for_a_connection_waits_no_longer_than_the_limit(guarded: Guarded) -> None:
    proxy = Proxy(guarded.port)
    store = make_store(f"redis://:secret@127.0.0.1:{proxy.port}?max_connections=1")
    store.ping()
    proxy.freeze()
    began = time.monotonic()
    errors = []

    def work() -> None:
        try:
            store.ping()
        except StoreUnavailable as error:
            errors.append((error, time.monotonic() - began))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 5
    assert all(seconds < LIMIT + MARGIN for _, seconds in errors)
    proxy.mend()
    proxy.close()


def test_connections_that_were_closed_leave_room_for_others(guarded: Guarded) -> None:
    store = make_store(f"redis://:secret@127.0.0.1:{guarded.port}?max_connections=1")
    for _ in range(3):
        store.ping()
        store._line.client.connection_pool.close_idle()
