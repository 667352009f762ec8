"""What is special about Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from servers import Redis
from servers import Server

from flask_serverside import ConfigurationError
from flask_serverside import StoreUnavailable
from flask_serverside.testing import DAY
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


class TestGivenClientThatDecodes(StoreContract):
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
