"""The same application with each kind of session, and what the client alone takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Iterator
from itertools import count
from itertools import cycle
from typing import Any

from flask import Flask
from flask import session
from flask_session import Session as FlaskSession
from running import Running
from werkzeug.test import create_environ

from flask_serverside import Session
from flask_serverside.web.identity import handle_of

Call = Callable[[], object]
Values = Iterator[bytes]

BARE, RAW, OURS, PEER = "bare", "raw client", "flask-serverside", "Flask-Session"
TOUCHING, UNREFRESHED = "  when a touch is due", "  without refreshing"

#: What the session holds before anything is measured: about 0.8 kB.
CART = {f"sku-{n}": {"name": "Darjeeling", "price": 1290 + n, "quantity": 1} for n in range(14)}
FILLED: dict[str, Any] = {"_user_id": "ada", "csrf": "a" * 40, "cart": CART, "n": 0}

SECRET = "benchmark " * 4


class Site:
    """An application, called as a WSGI server calls it, by a client with a cookie."""

    def __init__(
        self, name: str, prepare: Callable[[Flask], None], data: Any = None, fill: bool = True
    ) -> None:
        self.name = name
        self.app = app = Flask(name)
        app.config.update(SECRET_KEY=SECRET, TESTING=True)
        prepare(app)
        data = FILLED if data is None else data

        @app.get("/untouched")
        def untouched() -> str:
            return "x"

        @app.get("/read")
        def read() -> str:
            session["n"]
            return "x"

        @app.get("/write")
        def write() -> str:
            session["n"] += 1
            return "x"

        @app.get("/fill")
        def fill_it() -> str:
            session.update(data)
            return "x"

        self.cookie = self.fill() if fill else ""

    def fill(self) -> str:
        """Begin a session. Returns what a client then sends as its cookies."""
        client = self.app.test_client()
        client.get("/fill")
        cookie = client.get_cookie("session")
        assert cookie is not None
        return f"session={cookie.value}"

    def request(self, path: str) -> Call:
        environ = create_environ(path)
        if self.cookie:
            environ["HTTP_COOKIE"] = self.cookie
        wsgi_app = self.app.wsgi_app

        def call() -> None:
            chunks = wsgi_app(dict(environ), _start_response)
            b"".join(chunks)
            chunks.close()  # type: ignore[attr-defined]

        return call


def _start_response(status: str, headers: Any, info: Any = None) -> Callable[[bytes], object]:
    assert status == "200 OK", status
    return lambda _: None


def bare() -> Site:
    """No session at all, except that Flask opens its own for each request."""
    return Site(BARE, lambda app: None, fill=False)


def cookie() -> Site:
    """Flask's own session."""
    return Site("Flask's cookie", lambda app: None)


def stored_bytes(site: Site) -> int:
    """Of the session of one of our sites, as its store keeps it."""
    store = site.app.extensions["flask_serverside"].store
    record = store.load(handle_of(site.cookie.partition("=")[2].partition(".")[0]))
    assert record is not None
    return len(record.pack())


def ours(running: Running, data: Any = None) -> Site:
    def prepare(app: Flask) -> None:
        app.config.update(running.app_config())
        Session(app)

    return Site(OURS, prepare, data)


def touching(running: Running, data: Any = None) -> Site:
    """Ours, where each request that reads extends the session, as one in a minute does
    otherwise.
    """
    moments = count(time.time(), 0.001)

    def prepare(app: Flask) -> None:
        app.config.update(running.app_config(SESSION_TOUCH_INTERVAL=0))
        Session(app).store.clock = lambda: next(moments)

    return Site(TOUCHING, prepare, data)


def unrefreshed(running: Running) -> Site:
    """Flask-Session, where a request that only reads does not extend the session."""
    return flask_session(running, None, UNREFRESHED, SESSION_REFRESH_EACH_REQUEST=False)


def flask_session(
    running: Running, data: Any = None, name: str = PEER, **options: bool
) -> Site:
    """With its defaults and these options; the client is ours, and in memory the limit."""
    logging.getLogger("flask_session").setLevel(logging.ERROR)

    def prepare(app: Flask) -> None:
        app.config.update(_CONFIGS[running.name](running.config), **options)
        if running.backend.group == "sql":
            from flask_sqlalchemy import SQLAlchemy

            app.config["SQLALCHEMY_DATABASE_URI"] = running.config["SESSION_SQLALCHEMY"]
            app.config["SESSION_SQLALCHEMY"] = SQLAlchemy(app)
            app.config["SESSION_SQLALCHEMY_TABLE"] = "flask_session"
        FlaskSession(app)

    return Site(name, prepare, data)


def _memory(config: Any) -> dict[str, Any]:
    from cachelib import SimpleCache

    return {"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": SimpleCache(threshold=10**9)}


def _redis(config: Any) -> dict[str, Any]:
    import redis

    client = redis.Redis.from_url(config["SESSION_REDIS"])
    return {"SESSION_TYPE": "redis", "SESSION_REDIS": client, "SESSION_KEY_PREFIX": "peer:"}


def _memcached(config: Any) -> dict[str, Any]:
    from pymemcache.client.base import Client

    client = Client(config["SESSION_MEMCACHED"], no_delay=True)
    return {"SESSION_TYPE": "memcached", "SESSION_MEMCACHED": client}


def _mongodb(config: Any) -> dict[str, Any]:
    import pymongo

    client: Any = pymongo.MongoClient(config["SESSION_MONGODB"])
    return {"SESSION_TYPE": "mongodb", "SESSION_MONGODB": client, "SESSION_MONGODB_DB": "peer"}


_CONFIGS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "memory": _memory,
    "redis": _redis,
    "memcached": _memcached,
    "mongodb": _mongodb,
    "postgresql": lambda _: {"SESSION_TYPE": "sqlalchemy"},
    "mariadb": lambda _: {"SESSION_TYPE": "sqlalchemy"},
}


def raw(running: Running, size: int = 800) -> Site:
    """No session, but the client that the store uses gets, or gets and sets, as many bytes."""
    # Some servers write nothing if it is what stands there.
    values = cycle([b"x" * size, b"y" * size])
    get, get_and_set = _RAW[running.name](running.config, values)

    def prepare(app: Flask) -> None:
        @app.get("/get")
        def once() -> str:
            get()
            return "x"

        @app.get("/get-and-set")
        def twice() -> str:
            get_and_set()
            return "x"

    return Site(RAW, prepare, fill=False)


def _raw_memory(config: Any, values: Values) -> tuple[Call, Call]:
    store = {"raw": next(values)}

    def get_and_set() -> None:
        store.get("raw")
        store["raw"] = next(values)

    return lambda: store.get("raw"), get_and_set


def _raw_redis(config: Any, values: Values) -> tuple[Call, Call]:
    import redis

    client = redis.Redis.from_url(config["SESSION_REDIS"])
    client.set("raw", next(values))

    def get_and_set() -> None:
        client.get("raw")
        client.set("raw", next(values), px=1000_000)

    return lambda: client.get("raw"), get_and_set


def _raw_memcached(config: Any, values: Values) -> tuple[Call, Call]:
    from pymemcache.client.base import PooledClient

    client = PooledClient(config["SESSION_MEMCACHED"], no_delay=True, default_noreply=False)
    client.set("raw", next(values))

    def get_and_set() -> None:
        client.get("raw")
        client.set("raw", next(values), expire=1000)

    return lambda: client.get("raw"), get_and_set


def _raw_mongodb(config: Any, values: Values) -> tuple[Call, Call]:
    import pymongo

    client: Any = pymongo.MongoClient(config["SESSION_MONGODB"])
    documents = client["raw"]["raw"]
    documents.insert_one({"_id": "raw", "value": next(values)})

    def get_and_set() -> None:
        documents.find_one({"_id": "raw"})
        documents.update_one({"_id": "raw"}, {"$set": {"value": next(values)}})

    return lambda: documents.find_one({"_id": "raw"}), get_and_set


def _raw_sql(config: Any, values: Values) -> tuple[Call, Call]:
    """Through SQLAlchemy Core, on a pooled connection in autocommit."""
    import sqlalchemy as sa

    engine = sa.create_engine(
        config["SESSION_SQLALCHEMY"],
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        pool_reset_on_return=None,
    )
    table = sa.Table(
        "raw",
        sa.MetaData(),
        sa.Column("handle", sa.String(64), primary_key=True),
        sa.Column("value", sa.LargeBinary),
    )
    table.metadata.create_all(engine)
    read = sa.select(table).where(table.c.handle == "raw")
    write = table.update().where(table.c.handle == "raw")

    def get() -> None:
        with engine.connect() as connection:
            connection.execute(read).one_or_none()

    def get_and_set() -> None:
        get()
        with engine.connect() as connection:
            connection.execute(write, {"value": next(values)})

    with engine.connect() as connection:
        connection.execute(table.insert(), {"handle": "raw", "value": next(values)})
    return get, get_and_set


_RAW: dict[str, Callable[[Any, Values], tuple[Call, Call]]] = {
    "memory": _raw_memory,
    "redis": _raw_redis,
    "memcached": _raw_memcached,
    "mongodb": _raw_mongodb,
    "postgresql": _raw_sql,
    "mariadb": _raw_sql,
}
