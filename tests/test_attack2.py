"""What breaks in stores/redis. All but the two that name "out of step" fail now."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from deployments import ask
from deployments import wait_until
from proxy import Proxy
from redis.crc import key_slot
from redis_nodes import Cluster
from redis_nodes import Node
from redis_nodes import SLOTS
from servers import Redis
from test_redis_sentinel import Sentinel
from test_redis_sentinel import Site
from test_redis_sentinel import until

from flask_serverside import ConfigurationError
from flask_serverside import StoreUnavailable
from flask_serverside.stores.redis import RedisStore
from flask_serverside.testing import new_record

pytestmark = pytest.mark.group("redis")


@pytest.fixture
def own() -> Iterator[Redis]:
    server = Redis()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    try:
        site.start()
        yield site
    finally:
        site.stop()


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    with made.running():
        for node in made.nodes:
            ask(node, "CONFIG SET", "cluster-node-timeout", 15_000)
            ask(node, "CONFIG SET", "cluster-require-full-coverage", "no")
        time.sleep(1)
        yield made


def shard_of(key: str) -> int:
    return min(2, key_slot(key.encode()) * 3 // SLOTS)


# -- sentinels that disagree


@pytest.mark.parametrize("names", ["a dead server", "a replica"])
def test_a_sentinel_that_is_behind_is_passed_over_for_one_that_is_right(
    site: Site, names: str
) -> None:
    replica = next(server for server in site.servers if server is not site.primary)
    behind = Sentinel()
    behind.primary = 1 if names == "a dead server" else replica.port
    behind.start()
    try:
        if names == "a replica":
            time.sleep(1)
        url = site.url.replace(
            "redis+sentinel://", f"redis+sentinel://127.0.0.1:{behind.port},"
        )
        store = RedisStore(url, timeout=2)
        for _ in range(3):
            with contextlib.suppress(StoreUnavailable):
                store.ping()
        store.ping()  # three of four sentinels are right
    finally:
        behind.stop()


def test_many_threads_that_ask_sentinels_at_once_find_all_of_them() -> None:
    """Without servers: a list is empty while it is sorted in place."""
    from flask_serverside.stores.redis.sentinel import Sentinels
    from flask_serverside.stores.redis.urls import parse
    from flask_serverside.stores.time_limit import TimeLimit

    limit = TimeLimit()
    sentinels = Sentinels(parse("redis+sentinel://a,b,c/shop"), limit)
    sentinels._ask = lambda address, seconds: ("h", 1)  # type: ignore[method-assign]
    sentinels._known = ("h", 1)
    silent = []
    ends = time.monotonic() + 2

    def work() -> None:
        limit.start(60)
        while time.monotonic() < ends:
            if sentinels._asked() is None:
                silent.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not silent


def test_who_only_reads_learns_of_a_new_primary(site: Site) -> None:
    """The old primary cannot be told that it is one no more, as in a partition: it goes on
    answering as a primary.
    """
    reader, writer = RedisStore(site.url, timeout=1), RedisStore(site.url, timeout=1)
    reader.create(record := new_record(reader))
    assert reader.load(record.handle) is not None
    old = site.primary
    with redis.Redis(port=old.port) as client:
        client.wait(1, 5000)
        client.execute_command("ACL SETUSER", "default", "-replicaof", "-slaveof", "-client")
    old.freeze()
    until(lambda: site.primary is not old)

    def ended() -> bool:
        try:
            return writer.end(record)
        except StoreUnavailable:
            return False

    until(ended)
    old.thaw()
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        found = reader.load(record.handle)
        if found is None or found.ended:
            return
        time.sleep(0.2)
    pytest.fail("15 seconds after it was ended the session is alive for who only reads")


# -- clusters


def test_sessions_on_the_healthy_servers_end_while_one_is_frozen() -> None:
    with cluster() as made:
        store = RedisStore(made.url, timeout=1)
        records = [new_record(store, subject="thief") for _ in range(30)]
        for record in records:
            store.create(record)
        index = shard_of("session:of:thief")
        frozen = (index + 1) % 3
        healthy = [r for r in records if shard_of(f"session:{r.handle}") != frozen]
        made.nodes[frozen].freeze()
        with contextlib.suppress(StoreUnavailable):
            list(store.end_all("thief"))
        alive = [r for r in healthy if store.load(r.handle) is not None]
        made.nodes[frozen].thaw()
        assert not alive, f"{len(alive)} of {len(healthy)} are alive"


def test_a_cluster_server_with_too_many_clients_is_unavailable() -> None:
    with cluster() as made:
        node = made.nodes[0]
        ask(node, "CONFIG SET", "maxclients", 5)
        held = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(12)]
        try:
            with pytest.raises(StoreUnavailable):
                RedisStore(f"redis+cluster://127.0.0.1:{node.port}", timeout=1).ping()
        finally:
            for connection in held:
                connection.close()


def test_a_redirect_to_a_server_without_a_name_is_followed() -> None:
    """``cluster-preferred-endpoint-type hostname``, and no hostname: MOVED names "?"."""
    with cluster() as made:
        for node in made.nodes:
            ask(node, "CONFIG SET", "cluster-preferred-endpoint-type", "hostname")
        with (
            redis.Redis(port=made.nodes[0].port) as client,
            pytest.raises(redis.ResponseError) as told,
        ):
            client.execute_command("GET", "foo")
        store = RedisStore(made.url, timeout=1)
        records = [new_record(store) for _ in range(12)]
        for record in records:
            store.create(record)
        from flask_serverside.stores.redis.cluster import Map

        primaries = store._line._map.primaries
        for record in records:
            store._line._map, store._line._doubted = Map([(0, SLOTS - 1, primaries[0])]), False
            # Through the line: the store would try again, by the new map.
            answer = store._line.send("GET", f"session:{record.handle}")
            assert answer is not None, str(told.value)


class Alone(Node):
    """A cluster of one, that others reach through a proxy."""

    def __init__(self) -> None:
        super().__init__(15_000)


@pytest.mark.parametrize("kind", ["redis", "redis+cluster"])
def test_a_connection_that_is_out_of_step_is_never_used_again(kind: str) -> None:
    node = Alone() if kind == "redis+cluster" else Redis()
    node.start()
    proxy = Proxy(node.port)
    if kind == "redis+cluster":
        ask(node, "CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
        ask(node, "CONFIG SET", "cluster-announce-port", proxy.port)
        wait_until(lambda: ask(node, "CLUSTER INFO")["cluster_state"] == "ok")
    try:
        store = RedisStore(f"{kind}://127.0.0.1:{proxy.port}", timeout=3)
        one, other = (new_record(store, name) for name in (b"one", b"other"))
        store.create(one)
        store.create(other)
        pools = (
            [c.connection_pool for c in store._line._clients.values()]
            if kind == "redis+cluster"
            else [store._line.client.connection_pool]
        )
        proxy.delay = 0.1
        for pool in pools:  # as if who has asked had been interrupted before the answer
            connection = pool.get_connection()
            connection.send_command("GET", f"session:{one.handle}")
            pool.release(connection)
        assert store.load(other.handle) == other
        assert store.load(other.handle) == other
    finally:
        proxy.close()
        node.stop()


def test_a_new_process_believes_the_newest_map_of_a_cluster() -> None:
    """The first of its seeds has left the cluster, and still thinks it has its slots."""
    with cluster() as made:
        ids = [node.id for node in made.nodes]
        left = made.nodes[0]
        for number in (1, 2):
            ask(made.nodes[number], "CLUSTER FORGET", ids[0])
        for number in (1, 2):
            ask(left, "CLUSTER FORGET", ids[number])
        ask(made.nodes[1], "CLUSTER ADDSLOTSRANGE", 0, SLOTS // 3 - 1)
        for node in made.nodes[1:]:
            wait_until(
                lambda n=node: ask(n, "CLUSTER INFO")["cluster_slots_assigned"] == str(SLOTS)
            )
        store = RedisStore(made.url, timeout=1)
        for _ in range(6):
            with contextlib.suppress(StoreUnavailable):
                store.create(new_record(store))
        assert all(store.create(new_record(store)) for _ in range(12))


# -- interruptions


class Interrupted(BaseException):
    pass


def interrupt_at(number: int, fired: list[int]) -> Callable[..., Any]:
    """As KeyboardInterrupt, a signal's handler or PyThreadState_SetAsyncExc do: anywhere."""
    passed = [0]

    def trace(frame: Any, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if event == "line" and ("/redis/" in name or "/stores/" in name):
            passed[0] += 1
            if passed[0] == number:
                sys.settrace(None)
                fired.append(number)
                raise Interrupted
        return trace

    return trace


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", ["load", "touch"])
def test_an_interruption_leaves_no_answer_for_the_next_and_no_slot_fewer(
    own: Redis, work: str
) -> None:
    proxy = Proxy(own.port)
    store = RedisStore(f"redis://127.0.0.1:{proxy.port}?max_connections=2", timeout=2)
    one, other = new_record(store, b"1"), new_record(store, b"2")
    store.create(one)
    store.create(other)
    proxy.delay = 0.01
    wrong, lost, number = [], [], 0
    while True:
        number += 1
        fired: list[int] = []
        before = sys.gettrace()
        try:
            sys.settrace(interrupt_at(number, fired))
            store.load(one.handle) if work == "load" else store.touch(one)
        except Interrupted:
            pass
        finally:
            sys.settrace(before)
        if not fired:
            break
        if store._line.client.connection_pool.pool.qsize() != 2:
            lost.append(number)
        try:
            answers: Any = (
                store.touch(new_record(store)),  # there is none
                store.load(other.handle) == other,
                store.delete("0" * 64),  # there is none
            )
        except AttributeError as error:  # the test below
            answers = repr(error)
        if answers != (False, True, False):
            wrong.append((number, answers))
        store._line.client = store._line._make()
    proxy.close()
    assert not wrong, wrong
    assert not lost, f"a slot is lost at {len(lost)} of {number} lines"


# -- values of others, permissions


@pytest.mark.parametrize("driver", ["url", "redis", "valkey"])
def test_a_key_of_others_that_is_no_text_stops_no_list(own: Redis, driver: str) -> None:
    import valkey

    store = RedisStore(
        {
            "url": f"{own.url}?decode_responses=true",
            "redis": redis.Redis(port=own.port, decode_responses=True),
            "valkey": valkey.Valkey(port=own.port, decode_responses=True),
        }[driver]
    )
    store.create(new_record(store))
    with redis.Redis(port=own.port) as client:
        client.set(b"session:\xff\xfe", "x")
    assert store.count() == 1
    assert len(list(store.end_all())) == 1


def test_a_tombstone_that_is_refused_leaves_the_session_in_the_index(own: Redis) -> None:
    admin = RedisStore(own.url)
    admin.create(record := new_record(admin, subject="ada"))
    ask(own, "ACL SETUSER", "shop", "on", ">pw", "~session:*", "+@all", "-set")
    store = RedisStore(f"redis://shop:pw@127.0.0.1:{own.port}")
    with pytest.raises(Exception, match="permissions"):
        store.end(record)
    assert admin.load(record.handle) is not None
    assert admin.count("ada") == 1
    assert len(list(admin.end_all("ada"))) == 1


def test_who_has_no_subject_can_sign_out_of_a_full_server(own: Redis) -> None:
    store = RedisStore(own.url)
    store.create(record := new_record(store))
    ask(own, "CONFIG SET", "maxmemory", 1)
    assert store.end(record)


def test_what_has_expired_is_not_created_and_is_no_error(own: Redis) -> None:
    store = RedisStore(own.url)
    record = new_record(store, subject="ada")
    assert not store.create(record._replace(expires=record.seen))


# -- URLs


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pa?SECRET@h:6379",
        "redis://:SECRET @h:bad",
        "redis://:SE CRET@h:bad",
        "redis:/:SECRET@h",
        "redis//u:SECRET@h",
        "u:SECRET@h:6379",
    ],
)
def test_no_message_has_a_part_of_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        RedisStore(url)
    assert "CRET" not in str(told.value)


def test_a_host_that_is_left_out_is_this_machine() -> None:
    """redis-py and Flask-Session take it."""
    RedisStore("redis://:6379/0")


def test_a_line_break_at_the_end_of_a_url_is_named_at_start_up() -> None:
    """From ``echo redis://... > secret``."""
    with pytest.raises(ConfigurationError):
        RedisStore("redis://:pw@h/\n")
    with pytest.raises(ConfigurationError):
        RedisStore("redis://:pw@h\n")


# -- the pool


def test_nobody_starves_while_connections_are_given_back_all_the_time(own: Redis) -> None:
    """60 who ask, 2 connections, 4 ms each: a turn comes round in about 0.12 seconds."""
    proxy = Proxy(own.port)
    store = RedisStore(f"redis://127.0.0.1:{proxy.port}?max_connections=2", timeout=2)
    store.ping()
    proxy.delay = 0.003
    ends = time.monotonic() + 5
    failed, waited, done = [], [], []

    def work() -> None:
        while time.monotonic() < ends:
            began = time.monotonic()
            try:
                store.ping()
                done.append(1)
            except StoreUnavailable as error:
                failed.append(str(error))
            waited.append(time.monotonic() - began)

    threads = [threading.Thread(target=work) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    proxy.close()
    assert not failed, f"{len(failed)} of {len(waited)} failed: {set(failed)}"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_who_is_interrupted_while_connecting_leaves_no_connection_to_another_database(
    own: Redis,
) -> None:
    """Between the socket and SELECT."""
    store = RedisStore(f"redis://127.0.0.1:{own.port}/1?max_connections=1", timeout=0.5)
    store.create(record := new_record(store))
    wrong, number = [], 0
    while True:
        number += 1
        fired: list[int] = []
        store._line.client = client = store._line._make()
        before = sys.gettrace()
        try:
            sys.settrace(interrupt_at(number, fired))
            store.load(record.handle)
        except Interrupted:
            pass
        finally:
            sys.settrace(before)
        if not fired:
            break
        if client.connection_pool.pool.qsize() != 1:
            continue  # that is the other test
        for _ in range(2):  # not by itself either
            try:
                found: Any = store.load(record.handle)
            except Exception as error:
                found = error
        if found != record:
            wrong.append((number, found if found is None else repr(found)[:60]))
    assert not wrong, f"{len(wrong)} of {number}: {wrong}"


def test_a_known_primary_serves_on_while_the_only_sentinel_left_has_lost_its_memory(
    site: Site,
) -> None:
    store = RedisStore(site.url, timeout=1)
    store.ping()
    for sentinel in site.sentinels:
        sentinel.kill()
    with Redis.__new__(_Fresh).at(site.sentinels[0].port):
        store._line._sentinels.doubt()
        store._line.client.connection_pool.disconnect()
        store.ping()


class _Fresh(Redis):
    """A sentinel that watches nothing: its configuration is that of a new one."""

    @contextlib.contextmanager
    def at(self, port: int) -> Iterator[None]:
        import subprocess
        import tempfile

        self.program = self.find()
        with tempfile.TemporaryDirectory() as folder:
            conf = f"{folder}/conf"
            with open(conf, "w") as file:
                file.write(f"port {port}\nbind 127.0.0.1\ndir {folder}\n")
            process = subprocess.Popen(
                [str(self.program), conf, "--sentinel"], stdout=subprocess.DEVNULL
            )
            self.port = port
            try:
                wait_until(self.answers)
                yield
            finally:
                process.kill()
                process.wait()
