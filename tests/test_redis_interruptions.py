"""Who is interrupted at Redis, anywhere, leaves nothing behind that others would notice."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from deployments import ask
from deployments import wait_until
from proxy import Proxy
from redis_nodes import Node
from redis_nodes import SLOTS
from servers import Redis
from servers import Server

from flask_serverside.testing import new_record

pytestmark = [
    pytest.mark.group("redis"),
    # A socket that nobody has a name for yet is closed by Python, which says so.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def own(server: Callable[[str], Server]) -> Iterator[Redis]:
    assert server("redis")
    started = Redis()
    started.start()
    yield started
    started.stop()


@pytest.fixture
def proxy(own: Redis) -> Iterator[Proxy]:
    proxy = Proxy(own.port)
    yield proxy
    proxy.close()


def make_store(url: str) -> Any:
    from flask_serverside.stores.redis import RedisStore

    return RedisStore(url, timeout=2)


class Interrupted(BaseException):
    pass


@contextlib.contextmanager
def interrupted_at(number: int, done: list[bool]) -> Iterator[None]:
    """At this line, as by a signal's handler. Notes whether the work was done before."""
    passed = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal passed
        if event == "line" and (
            "/redis/" in (f := frame.f_code.co_filename) or "/stores/" in f
        ):
            passed += 1
            if passed == number:
                sys.settrace(None)
                raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
        if passed < number:  # otherwise it was in a destructor, which raises nothing
            done.append(True)
    except Interrupted:
        pass
    finally:
        sys.settrace(before)


def each_line(
    work: Callable[[], Any], before: Callable[[], Any] = lambda: None
) -> Iterator[int]:
    """Interrupt the work at its first line, at its second, and so on, until it is done."""
    done: list[bool] = []
    number = 0
    while not done:
        number += 1
        before()
        with interrupted_at(number, done):
            work()
        yield number
    gc.collect()


def room(pool: Any, most: int) -> bool:
    """Whether so many connections can be used at once."""
    connections = [pool.get_connection() for _ in range(most)]
    for connection in connections:
        pool.release(connection)
    return True


@pytest.mark.parametrize("work", ["load", "list"])
def test_an_interruption_leaves_no_answer_to_the_next_and_takes_no_connection(
    proxy: Proxy, work: str
) -> None:
    store = make_store(f"redis://127.0.0.1:{proxy.port}?max_connections=2")
    one, other = new_record(store, b"1"), new_record(store, b"2")
    store.create(one)
    store.create(other)
    proxy.delay = 0.002
    chosen: Callable[[], Any] = {
        "load": lambda: store.load(one.handle),
        "list": lambda: store._entries([one.handle]),
    }[work]

    def begun() -> None:
        store.limit.start(2)
        chosen()

    for number in each_line(begun):
        assert not store.touch(new_record(store)), number  # there is none
        assert store.load(other.handle) == other, number
        assert not store.delete("0" * 64), number  # there is none
        store.limit.start(0.05)
        assert room(store._line.client.connection_pool, 2), number


def test_an_interruption_while_connecting_leaves_no_connection_to_another_database(
    own: Redis,
) -> None:
    """Between the socket and SELECT."""
    store = make_store(f"redis://127.0.0.1:{own.port}/1?max_connections=1")
    store.create(record := new_record(store))
    for number in each_line(lambda: store.load(record.handle), store._line.renew):
        for _ in range(2):  # not by itself either
            assert store.load(record.handle) == record, number


class Alone(Node):
    """A cluster of one, that others reach through a proxy."""

    def __init__(self) -> None:
        super().__init__(15_000)


@pytest.fixture(params=["redis", "redis+cluster"])
def line(request: pytest.FixtureRequest, own: Redis) -> Iterator[tuple[str, Proxy]]:
    node = Alone() if request.param == "redis+cluster" else None
    if node is None:
        proxy = Proxy(own.port)
    else:
        node.start()
        proxy = Proxy(node.port)
        ask(node, "CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
        ask(node, "CONFIG SET", "cluster-announce-port", proxy.port)
        wait_until(lambda: ask(node, "CLUSTER INFO")["cluster_state"] == "ok")
    yield f"{request.param}://127.0.0.1:{proxy.port}", proxy
    proxy.close()
    if node is not None:
        node.stop()


def test_a_connection_that_still_owes_an_answer_is_never_used_again(
    line: tuple[str, Proxy],
) -> None:
    url, proxy = line
    store = make_store(url)
    one, other = (new_record(store, name) for name in (b"one", b"other"))
    store.create(one)
    store.create(other)
    store.limit.start(2)
    proxy.delay = 0.1
    for client in store._line.clients().values():
        connection = client.connection_pool.get_connection()
        connection.send_command("GET", f"session:{one.handle}")
        client.connection_pool.release(connection)
    assert store.load(other.handle) == other
    assert store.load(other.handle) == other
