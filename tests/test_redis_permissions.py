"""The permissions that docs/backends.rst lists suffice, and are those that the code needs."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from servers import Redis
from servers import Server
from test_cli import run
from test_redis_cluster import Node
from test_redis_cluster import nodes
from test_redis_cluster import url
from test_redis_sentinel import lasting
from test_redis_sentinel import Site

from flask_serverside import Session
from flask_serverside import StoreError
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

__all__ = ["lasting", "nodes", "url"]

pytestmark = pytest.mark.group("redis")

DOCS = Path(__file__).parent.parent / "docs" / "backends.rst"


@pytest.fixture
def own(server: Callable[[str], Server]) -> Iterator[Redis]:
    assert server("redis")
    started = Redis()
    started.start()
    yield started
    started.stop()


def permit(port: int, commands: Any) -> None:
    """Make the user ``app`` with exactly these commands, on the store's keys."""
    import redis

    rights = [f"+{command.lower()}" for command in commands]
    with redis.Redis(port=port) as client:
        client.execute_command(
            *("ACL", "SETUSER", "app", "reset", "on", ">pw", "~session:*", *rights)
        )


def as_user(url: str) -> str:
    return url.replace("://", "://app:pw@")


def everything(store: Any) -> None:
    """All that a store does."""
    record = new_record(store, subject="ada")
    assert store.create(record)
    assert not store.create(record)
    assert store.create(new_record(store))
    assert store.load(record.handle) == record
    assert store.replace(saved_again(record, b"x", expires=record.expires + 1)) is not None
    assert store.touch(record._replace(version=2, expires=record.expires + 2))
    assert store.count("ada") == 1
    assert store.count() >= 2
    assert store.end(store.load(record.handle))
    store.create(other := new_record(store, subject="ada"))
    assert store.delete(other.handle)
    store.create(new_record(store, subject="ada"))
    assert len(list(store.end_all("ada"))) == 1
    store.create(new_record(store, subject="grace"))
    assert list(store.end_all())
    store.purge()
    store.ping()
    store.examine()


def test_the_listed_commands_suffice(own: Redis) -> None:
    from flask_serverside.stores.redis import COMMANDS
    from flask_serverside.stores.redis import RedisStore

    permit(own.port, COMMANDS)
    store = RedisStore(as_user(own.url), timeout=20)
    everything(store)
    store.close()


def test_the_listed_commands_suffice_for_an_application(
    own: Redis, make_app: Callable[..., Flask]
) -> None:
    """Sign in, a new id, list, revoke, purge and ``flask session check``."""
    from flask_serverside.stores.redis import COMMANDS

    permit(own.port, COMMANDS)
    app = make_app(SESSION_TYPE="redis", SESSION_REDIS=as_user(own.url))
    sessions: Session = app.extensions["flask_serverside"]
    client = app.test_client()
    assert client.get("/write?_user_id=ada&a=1").status_code == 200
    assert client.get("/regenerate").status_code == 200
    assert client.get("/read").json["a"] == "1"
    with app.app_context():
        assert len(list(sessions.list("ada"))) == sessions.count() == 1
        sessions.purge()
        assert sessions.revoke_subject("ada") == 1
        assert sessions.revoke_all() == 0
    assert "not allowed to ask" in run(app, "check").output
    assert client.get("/read").json == {}


def test_each_listed_command_is_needed(own: Redis) -> None:
    from flask_serverside.stores.redis import COMMANDS
    from flask_serverside.stores.redis import RedisStore

    for command in COMMANDS - {"EVAL"}:
        permit(own.port, COMMANDS - {command})
        store = RedisStore(as_user(own.url), timeout=20)
        with pytest.raises((StoreError, AssertionError)):
            everything(store)
        store.close()


def test_a_cluster_needs_two_more(nodes: list[Node], url: str) -> None:
    from flask_serverside.stores.redis import CLUSTER_COMMANDS
    from flask_serverside.stores.redis import COMMANDS
    from flask_serverside.stores.redis import RedisStore

    for node in nodes:
        permit(node.port, COMMANDS | CLUSTER_COMMANDS)
    everything(RedisStore(as_user(url), timeout=20))


def test_sentinels_need_one_more_on_the_server(lasting: Site) -> None:
    from flask_serverside.stores.redis import COMMANDS
    from flask_serverside.stores.redis import RedisStore
    from flask_serverside.stores.redis import SENTINEL_COMMANDS

    permit(lasting.primary.port, COMMANDS | SENTINEL_COMMANDS)
    everything(RedisStore(as_user(lasting.url), timeout=20))


def test_the_docs_list_what_the_code_needs() -> None:
    from flask_serverside.stores.redis import CLUSTER_COMMANDS
    from flask_serverside.stores.redis import COMMANDS
    from flask_serverside.stores.redis import SENTINEL_COMMANDS

    text = DOCS.read_text()
    (user,) = re.findall(r"ACL SETUSER .*?(?=\n\n|\Z)", text, re.DOTALL)
    assert set(re.findall(r"\+(\S+)", user)) == {command.lower() for command in COMMANDS}
    for kind, commands in (("cluster", CLUSTER_COMMANDS), ("sentinels", SENTINEL_COMMANDS)):
        (line,) = re.findall(rf"(?s)(?<=\n)- for {kind}: (.*?)\n(?=-|\n)", text)
        assert set(re.findall(r"``\+(\S+)``", line)) == {name.lower() for name in commands}
