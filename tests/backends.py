"""The table that drives every test: each backend with its real server, and its stand-in."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from servers import Server

from flask_serverside import stores
from flask_serverside.stores import Store

Config = dict[str, Any]

#: Seconds; a busy machine is no fault, except where the time limit itself is tested.
PATIENCE = 20.0


@dataclass(frozen=True)
class Backend:
    name: str
    #: What tox calls the environment that tests it, with this backend's extra alone.
    group: str
    session_type: str
    #: The real server it needs, by its name in ``servers``.
    server: str | None = None
    #: The keys that lead there. ``where`` is the server's URL, or a folder if there is none.
    config: Callable[[str], Config] = lambda where: {}
    #: Whether it takes the place of the real thing.
    stand_in: bool = False


BACKENDS = [
    Backend("memory", "memory", "memory"),
    Backend("redis", "redis", "redis", "redis", lambda url: {"SESSION_REDIS": url}),
    Backend("fakeredis", "redis", "redis", None, lambda _: fake_redis(), stand_in=True),
    Backend(
        "memcached",
        "memcached",
        "memcached",
        "memcached",
        lambda url: {"SESSION_MEMCACHED": url},
    ),
    Backend(
        "mockmemcached",
        "memcached",
        "memcached",
        None,
        lambda _: mock_memcached(),
        stand_in=True,
    ),
    Backend("mongodb", "mongo", "mongodb", "mongodb", lambda url: {"SESSION_MONGODB": url}),
    Backend("mongomock", "mongo", "mongodb", None, lambda _: mock_mongo(), stand_in=True),
    Backend(
        "postgresql", "sql", "sqlalchemy", "postgresql", lambda url: {"SESSION_SQLALCHEMY": url}
    ),
    Backend("mariadb", "sql", "sqlalchemy", "mariadb", lambda url: {"SESSION_SQLALCHEMY": url}),
    Backend("sqlite", "sql", "sqlalchemy", None, lambda folder: sqlite(folder)),
]
if "MYSQLD" in os.environ:  # which few machines have beside MariaDB
    BACKENDS.append(
        Backend("mysql", "sql", "sqlalchemy", "mysql", lambda url: {"SESSION_SQLALCHEMY": url})
    )
GROUPS = sorted({backend.group for backend in BACKENDS})


@dataclass(frozen=True)
class Running:
    """A backend that can be used now."""

    backend: Backend
    config: Config
    server: Server | None = None

    @property
    def name(self) -> str:
        return self.backend.name

    def app_config(self, **more: Any) -> Config:
        return {"SESSION_TYPE": self.backend.session_type} | self.config | more

    def make_store(self, **options: Any) -> Store:
        return make_store(self.app_config(), **options)


def make_store(config: Mapping[str, Any], **options: Any) -> Store:
    app = Flask("tests")
    app.config.update(config)
    found = stores.find(config["SESSION_TYPE"])
    assert isinstance(found, type)
    return found.from_app(app, **{"timeout": PATIENCE, **options})


def with_client(config: Config) -> Config:
    """The same with a client, or an engine, of the application's own in place of the URL."""
    key, url = next((k, v) for k, v in config.items() if k in _CLIENTS)
    return config | {key: _CLIENTS[key](url)}


def _redis_client(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url)


def _memcached_client(url: str) -> Any:
    from pymemcache.client.base import PooledClient

    return PooledClient(url, no_delay=True)


def _mongodb_client(url: str) -> Any:
    import pymongo

    return pymongo.MongoClient(url)


def _engine(url: str) -> Any:
    import sqlalchemy

    return sqlalchemy.create_engine(url)


_CLIENTS: dict[str, Callable[[str], Any]] = {
    "SESSION_REDIS": _redis_client,
    "SESSION_MEMCACHED": _memcached_client,
    "SESSION_MONGODB": _mongodb_client,
    "SESSION_SQLALCHEMY": _engine,
}


def run(backend: Backend, server: Server | None, folder: Path) -> Running:
    where = server.url if server else str(folder)  # type: ignore[attr-defined]
    return Running(backend, backend.config(where), server)


def sqlite(folder: str) -> Config:
    return {"SESSION_SQLALCHEMY": f"sqlite:///{folder}/{secrets.token_hex(4)}.sqlite"}


def fake_redis() -> Config:
    import fakeredis

    return {"SESSION_REDIS": fakeredis.FakeRedis()}


def mock_mongo() -> Config:
    from serial_mongomock import MongoClient

    return {"SESSION_MONGODB": MongoClient()}


def mock_memcached() -> Config:
    from stand_ins import CasMemcacheClient

    return {"SESSION_MEMCACHED": CasMemcacheClient()}
