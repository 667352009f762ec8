"""What is special about Redis."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from servers import Redis
from servers import Server

from flask_serverside import ConfigurationError
from flask_serverside import SerializationError
from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.testing import DAY
from flask_serverside.testing import IndexContract
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again
from flask_serverside.testing import StoreContract

pytestmark = pytest.mark.group("redis")


@pytest.fixture
def redis_server(server: Callable[[str], Server]) -> Redis:
    found = server("redis")
    assert isinstance(found, Redis)
    return found


@pytest.fixture
def client(redis_server: Redis) -> Any:
    import redis

    client = redis.Redis.from_url(redis_server.url)
    yield client
    client.close()


@pytest.fixture
def store(redis_server: Redis) -> Any:
    from flask_serverside.stores.redis import RedisStore

    store = RedisStore(redis_server.url)
    yield store
    store.close()


class TestGivenClientThatDecodes(StoreContract, IndexContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: Redis) -> Any:
        import redis

        self.client = redis.Redis.from_url(redis_server.url, decode_responses=True)
        yield
        self.client.close()

    def make_store(self, **options: Any) -> Any:
        from flask_serverside.stores.redis import RedisStore

        return RedisStore(self.client, **options)


def test_the_server_expires_the_record(store: Any, client: Any) -> None:
    record = new_record(store, lifetime=100_000)
    key = f"session:{record.handle}"
    store.create(record)
    assert 99_000 < client.pttl(key) <= 100_000
    store.replace(saved_again(record, b"2", expires=record.seen + DAY))
    assert DAY - 1000 < client.pttl(key) <= DAY
    store.touch(record._replace(version=2, expires=record.seen + 2 * DAY))
    assert 2 * DAY - 1000 < client.pttl(key) <= 2 * DAY


@contextlib.contextmanager
def sending(store: Any, client: Any) -> Iterator[list[str]]:
    """The commands that the server is sent meanwhile."""
    sent: list[str] = []
    with client.monitor() as monitor:
        yield sent
        store._call(store._line.send, "PING")
        for command in monitor.listen():
            if command["command"] == "PING":
                break
            if command["client_type"] != "lua":
                sent.append(command["command"].split()[0])


def test_one_key_a_session_and_one_command_an_operation(store: Any, client: Any) -> None:
    record = new_record(store)
    store.create(record)
    store.replace(saved_again(record, b"2"))
    store.touch(record)
    store.delete("f" * 64)
    client.ping()
    with sending(store, client) as sent:
        store.create(fresh := new_record(store))
        store.load(fresh.handle)
        store.replace(saved_again(fresh, b"2"))
        store.touch(fresh)
        store.delete(fresh.handle)
    assert sent == ["SET", "GET", "EVALSHA", "EVALSHA", "EVALSHA"]
    assert len(client.keys(f"*{record.handle}*")) == 1


def test_a_request_that_reads_is_one_get_and_one_that_saves_one_script_more(
    redis_server: Redis, client: Any, make_app: Callable[..., Flask]
) -> None:
    app = make_app(SESSION_TYPE="redis", SESSION_REDIS=redis_server.url)
    browser = app.test_client()
    browser.get("/write?_user_id=ada&a=1")
    browser.get("/write?a=2")
    with sending(app.extensions["flask_serverside"].store, client) as sent:
        browser.get("/read")
        browser.get("/write?a=3")
    assert sent == ["GET", "GET", "EVALSHA"]


def test_scripts_that_the_server_has_forgotten_are_sent_again(store: Any, client: Any) -> None:
    record = new_record(store)
    store.create(record)
    client.script_flush()
    changed = saved_again(record, b"changed")
    assert store.replace(changed) is changed
    client.script_flush()
    assert store.touch(changed)


def test_a_full_server_is_unavailable_and_keeps_the_session(
    redis_server: Redis,
) -> None:
    import redis

    from flask_serverside.stores.redis import RedisStore

    own = Redis()
    own.start()
    try:
        store = RedisStore(own.url)
        client = redis.Redis.from_url(own.url)
        record = new_record(store)
        store.create(record)
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        with pytest.raises(StoreUnavailable, match=r"OOM|memory"):
            store.create(new_record(store, b"x" * 100_000))
        with pytest.raises(StoreUnavailable, match=r"OOM|memory"):
            store.replace(saved_again(record, b"x" * 100_000))
        loaded = store.load(record.handle)
        assert loaded.payload == record.payload
        store.close()
        client.close()
    finally:
        own.stop()


def test_an_asynchronous_client_is_refused() -> None:
    import redis.asyncio

    from flask_serverside.stores.redis import RedisStore

    with pytest.raises(ConfigurationError, match="SESSION_REDIS"):
        RedisStore(redis.asyncio.Redis())


def test_a_given_client_is_used_and_left_open(redis_server: Redis, client: Any) -> None:
    from flask_serverside.stores.redis import RedisStore

    store = RedisStore(client)
    store.create(new_record(store))
    store.close()
    assert client.ping()
    assert store._line.client is client


def test_to_delete_what_is_not_there_is_no_damage(
    store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """As when the server was faster, since a tombstone expires at once."""
    assert not store.delete("f" * 64)
    assert caplog.text == ""


def test_a_worker_whose_clock_is_ahead_leaves_the_index_of_living_sessions(
    redis_server: Redis, client: Any
) -> None:
    from flask_serverside.stores.redis import RedisStore

    right = RedisStore(redis_server.url, prefix="clocks:")
    ahead = RedisStore(redis_server.url, prefix="clocks:", clock=lambda: time.time() + DAY)
    behind = RedisStore(redis_server.url, prefix="clocks:", clock=lambda: time.time() - DAY)
    record = new_record(right, subject="ada", lifetime=3_600_000)
    right.create(record)
    for store in (ahead, behind):
        other = new_record(store, subject="ada", lifetime=3_600_000)
        store.create(other)
        store.touch(other._replace(expires=other.expires + 1))
    assert record.handle in [entry.record.handle for entry in right.entries("ada")]
    assert record.handle in [ended.handle for ended in right.end_all("ada")]
    for store in (right, ahead, behind):
        store.close()


def test_what_is_long_past_is_removed_from_the_index_by_the_servers_clock(
    redis_server: Redis, client: Any
) -> None:
    from flask_serverside.stores.redis import RedisStore

    store = RedisStore(redis_server.url, prefix="past:")
    client.zadd("past:of:ada", {"0" * 64: (time.time() - DAY) * 1000})
    store.create(record := new_record(store, subject="ada"))
    assert client.zrange("past:of:ada", 0, -1) == [record.handle.encode()]
    store.close()


def test_a_list_and_a_revocation_fetch_no_payloads(redis_server: Redis, client: Any) -> None:
    """In bytes: the heads of 50 sessions of 300 kB each, and one trip for all."""
    from proxy import Proxy

    from flask_serverside.stores.redis import RedisStore

    proxy = Proxy(redis_server.port)
    store = RedisStore(f"redis://127.0.0.1:{proxy.port}", timeout=20, prefix="large:")
    for _ in range(50):
        store.create(new_record(store, bytes(300_000), subject="thief"))
    store.ping()
    before = client.info("stats")["total_net_output_bytes"]
    trips = proxy.trips
    found = list(store.entries("thief"))
    assert {entry.size for entry in found} == {300_000}
    assert all(len(entry.record.payload) < 2000 for entry in found)
    assert proxy.trips - trips <= 3
    assert len(list(store.end_all("thief"))) == 50
    assert client.info("stats")["total_net_output_bytes"] - before < 500_000
    assert client.keys("large:*") == []
    store.close()
    proxy.close()


def test_to_end_many_spares_tombstones_others_and_what_is_no_record(
    store: Any, client: Any
) -> None:
    mine, others = (new_record(store, subject=name) for name in ("ada", "grace"))
    nobodys = new_record(store)
    moved = new_record(store, subject="ada")
    for record in (mine, others, nobodys, moved):
        store.create(record)
    store.replace(moved.tombstone(store.now(), 100))
    client.set("session:" + "a" * 64, b"no record")
    client.rpush("session:" + "b" * 64, "a list")
    handles = [mine.handle, others.handle, nobodys.handle, moved.handle, "a" * 64, "b" * 64]
    assert store._call(store._end_many, handles, "ada") == [mine.handle]
    ended = store._call(store._end_many, handles, None)
    assert sorted(ended) == sorted([others.handle, nobodys.handle])
    assert store.load(moved.handle).ended
    client.delete("session:" + "a" * 64, "session:" + "b" * 64)


#: Forks as uWSGI does: no hook of Python's runs.
FORK = """
import ctypes, os, sys
import redis
from flask_serverside.testing import IndexContract
from flask_serverside.testing import new_record
from flask_serverside.stores.redis import RedisStore

kind, port = sys.argv[1], int(sys.argv[2])
client = {
    "made": lambda: f"redis://127.0.0.1:{port}",
    "given": lambda: redis.Redis(port=port),
    "made cluster": lambda: f"redis+cluster://127.0.0.1:{port}",
    "given cluster": lambda: redis.RedisCluster(host="127.0.0.1", port=port),
}[kind]()
store = RedisStore(client, timeout=20)
records = [new_record(store, str(number).encode()) for number in range(20)]
for record in records:
    assert store.create(record)
fork = ctypes.CDLL(None).fork
children = []
for number in range(4):
    child = fork()
    if child == 0:
        status = 1
        try:
            for _ in range(100):
                for record in records[number * 5 : number * 5 + 5]:
                    assert store.load(record.handle) == record
            status = 0
        finally:
            os._exit(status)
    children.append(child)
for _ in range(100):
    for record in records:
        assert store.load(record.handle) == record
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
"""


@pytest.mark.parametrize("kind", ["made", "given"])
def test_a_process_forked_without_hooks_has_connections_of_its_own(
    redis_server: Redis, kind: str
) -> None:
    fork(kind, redis_server.port)


def fork(kind: str, port: int) -> None:
    said = subprocess.run(
        [sys.executable, "-c", FORK, kind, str(port)], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr


class TestGivenClientOfValkey(StoreContract, IndexContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: Redis) -> Any:
        import valkey

        self.client = valkey.Valkey(port=redis_server.port)
        yield
        self.client.close()

    def make_store(self, **options: Any) -> Any:
        from flask_serverside.stores.redis import RedisStore

        return RedisStore(self.client, **options)


def test_errors_of_a_client_of_valkey_are_ours() -> None:
    import valkey

    from flask_serverside.stores.redis import RedisStore

    own = Redis()
    own.start()
    try:
        client = valkey.Valkey(port=own.port, socket_timeout=0.5)
        store = RedisStore(client)
        store.create(record := new_record(store))
        assert store.examine().driver.startswith("valkey-py")
        client.config_set("min-replicas-to-write", 1)
        with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
            store.create(new_record(store))
        client.config_set("min-replicas-to-write", 0)
        client.rpush("session:" + "a" * 64, "a list")
        with pytest.raises(SerializationError):
            store.load("a" * 64)
        client.config_set("requirepass", "secret")
        client.connection_pool.disconnect()
        with pytest.raises(StoreError, match="user and the password") as caught:
            store.ping()
        assert not isinstance(caught.value, StoreUnavailable)
        own.kill()
        with pytest.raises(StoreUnavailable):
            store.load(record.handle)
    finally:
        own.stop()


def test_a_pipeline_is_no_client(client: Any) -> None:
    import valkey

    from flask_serverside.stores.redis import RedisStore

    for pipeline in (client.pipeline(), valkey.Valkey().pipeline()):
        with pytest.raises(ConfigurationError, match="SESSION_REDIS"):
            RedisStore(pipeline)


@pytest.mark.parametrize("driver", ["url", "redis", "valkey"])
def test_a_key_of_others_that_is_no_text_stops_no_list(
    redis_server: Redis, client: Any, driver: str
) -> None:
    import redis
    import valkey

    from flask_serverside.stores.redis import RedisStore

    given: Any = {
        "url": f"{redis_server.url}?decode_responses=true",
        "redis": redis.Redis(port=redis_server.port, decode_responses=True),
        "valkey": valkey.Valkey(port=redis_server.port, decode_responses=True),
    }[driver]
    store = RedisStore(given, prefix="others:")
    store.create(record := new_record(store))
    client.set(b"others:\xff\xfe", "x")
    assert store.count() == 1
    assert [ended.handle for ended in store.end_all()] == [record.handle]
    if driver != "url":
        given.close()


@pytest.mark.parametrize("subject", [None, "ada"])
def test_what_has_expired_is_not_created_and_leaves_nothing(
    store: Any, client: Any, subject: str | None
) -> None:
    store.prefix = "expired:"
    record = new_record(store, subject=subject)
    assert not store.create(record._replace(expires=record.seen))
    assert not client.keys("expired:*")


def test_an_index_never_says_that_a_session_ends_earlier_than_it_said(
    store: Any, client: Any
) -> None:
    """Who saves may have loaded it before another has extended it."""
    from flask_serverside.stores.redis import scripts

    store.create(record := new_record(store, subject="late"))
    store._run(
        scripts.NOTE, [store._index("late")], record.handle, record.expires - 1, record.seen
    )
    assert client.zscore(store._index("late"), record.handle) == record.expires


def test_what_is_no_record_is_not_removed_with_those_of_others(store: Any, client: Any) -> None:
    handle = "e" * 64
    client.set(store._key(handle), b"x" * 200)
    assert store._end_many([handle], None) == []
    assert client.exists(store._key(handle))
    client.delete(store._key(handle))
