"""``flask session check``: what it tells of a configuration and of each server."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from backends import Running
from flask import Flask
from servers import Memcached
from servers import Redis
from servers import Server
from test_cli import json_of
from test_cli import Own
from test_cli import own  # noqa: F401
from test_cli import run
from test_cli import store_of

from flask_serverside import StoreUnavailable
from flask_serverside.cli.configuration import key_of
from flask_serverside.cli.configuration import STORE_KEYS
from flask_serverside.config import Settings
from flask_serverside.sealing.serializers import JSON
from flask_serverside.stores import Examination
from flask_serverside.stores import Record
from flask_serverside.stores.examination import together

MakeApp = Callable[..., Flask]

DOCS = Path(__file__).parent.parent / "docs"

#: With which nothing is wrong.
GOOD = {
    "TESTING": False,
    "SECRET_KEY": "0123456789abcdef" * 2,
    "SESSION_COOKIE_SECURE": True,
    "SESSION_ABSOLUTE_LIFETIME": 86400.0,
}


def checked(app: Flask) -> dict[str, Any]:
    (told,) = json_of(run(app, "check", "--json"))
    assert told["error"] is None
    return told


def warnings_of(make_app: MakeApp, **config: Any) -> list[str]:
    """Those of the configuration, on a store that itself has none."""

    class Store(stores_memory()):  # type: ignore[misc]
        one_process = False

    warnings: list[str] = checked(make_app(**{"SESSION_TYPE": Store, **GOOD, **config}))[
        "warnings"
    ]
    return warnings


def stores_memory() -> Any:
    from flask_serverside.stores.memory import MemoryStore

    return MemoryStore


def test_where_all_is_well_it_says_so(
    make_app: MakeApp,
    server_backend: Running,
    own: Own,
) -> None:
    app = make_app(server_backend, **GOOD, **own)
    result = run(app, "check")
    assert result.stdout.endswith("\n\nNo warnings.\n")
    assert result.exit_code == 0
    told = checked(app)
    assert told["warnings"] == []
    assert re.search(r"\d+\.\d+", told["store"]["driver"])
    assert re.search(r"\d+\.\d+", told["store"]["server"])
    assert told["store"]["clock"].endswith("this machine's")
    assert set(told["probe"]) == {"create", "load", "replace", "delete"}
    assert all(0 < took < 20_000 for took in told["probe"].values())


def test_the_probe_leaves_nothing_behind(
    make_app: MakeApp,
    real_backend: Running,
    own: Own,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = make_app(real_backend, **GOOD, **own)
    store = store_of(app)
    create, handles = store.create, []

    def watched(record: Record) -> bool:
        handles.append(record.handle)
        return create(record)

    monkeypatch.setattr(store, "create", watched)
    checked(app)
    assert [store.find(handle) for handle in handles] == [None]


@pytest.mark.group("memory")
def test_the_probe_cleans_up_when_it_fails(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(**GOOD)
    store = store_of(app)

    def fail(record: object) -> object:
        raise StoreUnavailable("MemoryStore: gone")

    monkeypatch.setattr(store, "replace", fail)
    result = run(app, "check")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (3, "Error: MemoryStore: gone")
    assert len(store) == 0  # type: ignore[arg-type]


@pytest.mark.group("memory")
def test_a_store_that_loses_what_it_was_given_is_told(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(**GOOD)
    monkeypatch.setattr(store_of(app), "load", lambda handle: None)
    result = run(app, "check", "--json")
    assert result.exit_code == 1
    assert any("probe's load" in warning for warning in json_of(result)[0]["warnings"])


# -- the configuration ----------------------------------------------------------------------


@pytest.mark.group("memory")
def test_every_setting_is_told_under_its_key(make_app: MakeApp) -> None:
    told = checked(make_app(**GOOD))["configuration"]
    documented = set(
        re.findall(r"(?m)^    \* - ``(\w+)``", (DOCS / "configuration.rst").read_text())
    )
    keys = {key_of(field.name) for field in fields(Settings)}
    assert keys <= told.keys()
    assert keys <= documented
    cookie = {key for key in documented if key.startswith("SESSION_COOKIE_")}
    assert documented - cookie == keys | STORE_KEYS | {"SECRET_KEY", "SECRET_KEY_FALLBACKS"}


@pytest.mark.group("memory")
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("PERMANENT_SESSION_LIFETIME", "5400", "90 min"),
        ("SESSION_ABSOLUTE_LIFETIME", 86400, "1 day"),
        ("SESSION_TOUCH_INTERVAL", 0.5, "0.5 s"),
        ("SESSION_REVOKE_ON_REUSE", "off", "no"),
        ("SESSION_ON_CONFLICT", "last", "last"),
        ("SESSION_ON_CONFLICT", "error", "error"),
        ("SESSION_ON_CONFLICT", checked, "test_checkup:checked"),
        ("SESSION_BINDING", checked, "test_checkup:checked"),
        ("SESSION_SERIALIZATION_FORMAT", JSON(), "json"),
        ("SESSION_COMPRESSION", "zlib", "zlib"),
        ("SESSION_MAX_SIZE", "5000", "5000 bytes"),
        ("SESSION_MAX_PER_SUBJECT", 3, "3"),
    ],
)
def test_a_key_is_told_as_it_is_understood(
    make_app: MakeApp, key: str, value: Any, words: str
) -> None:
    assert checked(make_app(**GOOD | {key: value}))["configuration"][key] == words


@pytest.mark.group("memory")
def test_no_secret_is_shown(make_app: MakeApp) -> None:
    keys = [secrets.token_hex(16) for _ in range(5)]
    app = make_app(
        **GOOD
        | {
            "SECRET_KEY": keys[0],
            "SECRET_KEY_FALLBACKS": [keys[1], keys[2]],
            "SESSION_ENCRYPTION_KEYS": "A" * 43,
            # These stand there, and are not used.
            "SESSION_REDIS": f"redis://:{keys[3]}/@a@host?ssl_password={keys[4]}&db=1",
            "SESSION_MONGODB": f"mongodb://user:{keys[3]}@a,b/x?tlsPassword={keys[4]}",
            "SESSION_SQLALCHEMY": f"mysql://user:{keys[3]}/x@host/db?ssl_secret={keys[4]}",
            "SESSION_MEMCACHED": object(),
        }
    )
    for result in (run(app, "check", columns=300), run(app, "check", "--json")):
        assert not any(key in result.output for key in [*keys, "A" * 43])
        assert "host" in result.output
    told = checked(app)["configuration"]
    assert told["SECRET_KEY"] == "set, 32 characters"
    assert told["SECRET_KEY_FALLBACKS"] == "2 keys"
    assert told["SESSION_ENCRYPTION_KEYS"] == "1 key"
    assert told["SESSION_MEMCACHED"] == "<object object>"


@pytest.mark.group("memory")
def test_the_cookie_is_told_as_it_will_be_sent(make_app: MakeApp) -> None:
    config = {"SESSION_COOKIE_NAME": "__Host-id", "SESSION_COOKIE_SAMESITE": "strict"}
    assert checked(make_app(**GOOD | config))["cookie"] == {
        "name": "__Host-id",
        "Domain": "none: this host only",
        "Path": "/",
        "Secure": "yes",
        "HttpOnly": "yes",
        "SameSite": "Strict",
        "Partitioned": "no",
    }
    auto = checked(make_app(**GOOD | {"SESSION_COOKIE_SECURE": "auto"}))["cookie"]
    assert auto["Secure"] == "as the request"
    assert checked(make_app(**GOOD | {"SESSION_HEADER": "X-Id"}))["cookie"] == {
        "header": "X-Id"
    }


@pytest.mark.group("memory")
@pytest.mark.parametrize(
    ("config", "warning"),
    [
        ({}, None),
        ({"SECRET_KEY": "dev"}, "SECRET_KEY is short"),
        ({"SECRET_KEY": b"0123456789abcde"}, "SECRET_KEY is short"),
        ({"SECRET_KEY": "your-secret-key-here"}, "SECRET_KEY is short"),
        ({"SECRET_KEY": None}, "SECRET_KEY is not set"),
        ({"SESSION_COOKIE_SECURE": False}, "SESSION_COOKIE_SECURE is off"),
        ({"SESSION_COOKIE_SECURE": "auto"}, None),
        ({"SESSION_COOKIE_SECURE": False, "SESSION_HEADER": "X-Id"}, None),
        ({"SESSION_COOKIE_HTTPONLY": False}, "SESSION_COOKIE_HTTPONLY is off"),
        ({"TESTING": True}, "TESTING is on"),
        ({"SESSION_ROTATION_INTERVALL": 1}, "SESSION_ROTATION_INTERVALL is no key"),
        ({"SESSION_OF_MY_OWN": 1}, None),
    ],
)
def test_what_is_unsafe_is_warned_of(
    make_app: MakeApp, config: dict[str, Any], warning: str | None
) -> None:
    found = warnings_of(make_app, **config)
    assert len(found) == (warning is not None)
    assert warning is None or found[0].startswith(warning)


@pytest.mark.group("memory")
def test_a_key_that_was_changed_into_one_that_cannot_work_is_exit_code_2(
    make_app: MakeApp,
) -> None:
    app = make_app(**GOOD)
    app.config.update(SESSION_COOKIE_SAMESITE="None", SESSION_COOKIE_SECURE=False)
    result = run(app, "check")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 2)
    assert "Error: SESSION_COOKIE_SECURE = False: expected true" in result.stderr


@pytest.mark.group("memory")
def test_memory_is_warned_of_in_production(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for testing, debug, warned in ((False, "0", True), (False, "1", False), (True, "0", False)):
        monkeypatch.setenv("FLASK_DEBUG", debug)
        found = checked(make_app(**GOOD | {"TESTING": testing}))["warnings"]
        assert any("kept in memory" in warning for warning in found) is warned
        assert any("DEBUG is on" in warning for warning in found) is (debug == "1")


@pytest.mark.group("memory")
def test_clocks_that_differ_are_warned_of(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(**GOOD | {"TESTING": True})
    for ahead, warned in ((0.3, False), (-300.0, True), (300.0, True)):
        monkeypatch.setattr(store_of(app), "_examine", lambda a=ahead: Examination(ahead=a))
        told = checked(app)
        assert any("clock" in warning for warning in told["warnings"]) is warned
        assert told["store"]["clock"].startswith(f"{abs(ahead):.1f} s ")


# -- servers --------------------------------------------------------------------------------


@pytest.mark.group("memory")
def test_several_servers_are_told_apart() -> None:
    one = Examination("d", "s 1", (("a", "1"),), ("w",), ahead=0.1)
    two = Examination("d", "s 1", (("a", "2"),), (), ("n",), ahead=-5.0)
    assert together({"x": one}) is one
    assert together({"x": one, "y": two}) == Examination(
        "d", "s 1", (("x a", "1"), ("y a", "2")), ("x: w",), ("y: n",), -5.0
    )


@pytest.fixture
def own_redis(server: Callable[[str], Server]) -> Iterator[Redis]:
    """One that may be told to lose sessions, or not to answer."""
    assert server("redis")
    started = Redis()
    started.start()
    yield started
    started.stop()


@pytest.mark.group("redis")
def test_redis_that_may_remove_sessions_is_warned_of(
    make_app: MakeApp, own_redis: Redis
) -> None:
    import redis

    url = own_redis.url
    app = make_app(**GOOD, SESSION_TYPE="redis", SESSION_REDIS=url)
    with redis.Redis.from_url(url) as client:
        client.set("more", bytes(600_000))
        try:
            for most, policy, warned in (
                ("1gb", "noeviction", None),
                ("0", "allkeys-lru", None),
                ("1gb", "allkeys-lru", "maxmemory-policy is allkeys-lru"),
                ("1gb", "volatile-ttl", "maxmemory-policy is volatile-ttl"),
                ("1mb", "noeviction", "More than 90 % of maxmemory"),
            ):
                client.config_set("maxmemory", most)
                client.config_set("maxmemory-policy", policy)
                result = run(app, "check", "--json")
                (told,) = json_of(result)
                assert told["store"]["maxmemory-policy"] == policy
                if most != "1mb":
                    assert len(told["warnings"]) == (warned is not None)
                    assert result.exit_code == len(told["warnings"])
                assert warned is None or warned in told["warnings"][-1]
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.group("redis")
def test_redis_that_forbids_to_ask_is_checked_all_the_same(
    make_app: MakeApp, own_redis: Redis
) -> None:
    import redis

    url = own_redis.url
    with redis.Redis.from_url(url) as client:
        for refused in ("-config", "-info", "-config -info -time"):
            rights = [*refused.split(), "+@all"][::-1]
            client.execute_command("ACL", "SETUSER", "op", "reset", "on", ">pw", "~*", *rights)
            secret = url.replace("redis://", "redis://op:pw@")
            app = make_app(**GOOD, SESSION_TYPE="redis", SESSION_REDIS=secret)
            result = run(app, "check")
            assert "not allowed to ask" in result.stdout
            assert (result.exit_code, result.stderr) == (0, ""), result.stdout[-600:]
            assert ":pw@" not in result.stdout
        client.execute_command("ACL", "DELUSER", "op")


@pytest.mark.group("redis")
def test_what_redis_says_of_itself_is_warned_of() -> None:
    from flask_serverside.stores.redis import examination as of_redis

    class Client:
        def __init__(self, **info: Any) -> None:
            self.said = {"redis_version": "7.0", "uptime_in_seconds": 10**6, **info}

        def info(self) -> dict[str, Any]:
            return self.said

        def time(self) -> tuple[int, int]:
            return 0, 0

        def config_get(self, name: str) -> dict[str, str]:
            return {"save": "3600 1"}

    for info, warning in (
        ({}, None),
        ({"evicted_keys": 7}, "has removed 7 keys"),
        ({"role": "slave"}, "is a replica"),
        ({"rdb_last_bgsave_status": "err"}, "snapshot has failed"),
        ({"maxmemory": 100, "used_memory": 95}, "More than 90 %"),
    ):
        examination = of_redis.examine({"": Client(**info)})
        assert len(examination.warnings) == (warning is not None), info
        assert warning is None or warning in examination.warnings[0]
        assert examination.notes == ()
    valkey = of_redis.examine({"": Client(valkey_version="9.0.1")})
    assert valkey.server == "Valkey 9.0.1"


@pytest.mark.group("memcached")
def test_memcached_that_has_removed_sessions_is_warned_of(
    make_app: MakeApp, server: Callable[[str], Server]
) -> None:
    server("memcached")  # that there is one
    full = Memcached()
    full.start()
    try:
        app = make_app(**GOOD, SESSION_TYPE="memcached", SESSION_MEMCACHED=full.url)
        assert checked(app)["warnings"] == []
        store: Any = store_of(app)
        for number in range(200):
            store._client("").set(f"x{number}", bytes(1_000_000), noreply=False)
        result = run(app, "check")
        assert result.exit_code == 1
        assert re.search(r"Memcached has removed \d+\s+items to make room", result.stdout)
        assert "Memcached was started" in result.stdout
        app = make_app(
            **GOOD,
            SESSION_TYPE="memcached",
            SESSION_MEMCACHED=full.url,
            SESSION_MAX_SIZE=2_000_000,
        )
        assert "SESSION_MAX_SIZE = 2000000" in checked(app)["warnings"][-1]
    finally:
        full.stop()


@pytest.mark.group("mongo")
def test_mongodb_without_its_ttl_index_is_warned_of(
    make_app: MakeApp,
    server: Callable[[str], Server],
    own: Own,
) -> None:
    url = server("mongodb").url  # type: ignore[attr-defined]
    app = make_app(**GOOD, **own, SESSION_TYPE="mongodb", SESSION_MONGODB=url)
    store: Any = store_of(app)
    store._collection.insert_one({"_id": "somebody else's"})
    assert "had no TTL index" in checked(app)["warnings"][0]
    assert checked(app)["warnings"] == []


@pytest.mark.group("mongo")
def test_mongodb_that_may_lose_what_it_has_confirmed_is_warned_of() -> None:
    from flask_serverside.stores.mongodb.examination import _durability_warnings as warnings

    assert list(warnings("standalone", {"w": 1, "j": True})) == []
    assert list(warnings("replica set rs0", {})) == []
    assert list(warnings("replica set rs0", {"w": "majority"})) == []
    assert "w=1" in next(warnings("replica set rs0", {"w": 1}))
    assert "w=1" in next(warnings("replica set rs0", {"j": True}))
    assert "the client with journal=True" in next(warnings("standalone", {}))
    assert "journal=false out" in next(warnings("standalone", {"j": False}))
    assert "journal=false" in next(warnings("replica set rs0", {"j": False}))


@pytest.mark.group("sql")
def test_a_table_that_is_not_as_it_should_be_is_warned_of(
    make_app: MakeApp, sql_url: str
) -> None:
    import sqlalchemy as sa

    name = f"cli{secrets.token_hex(4)}"
    app = make_app(
        **GOOD,
        SESSION_TYPE="sqlalchemy",
        SESSION_SQLALCHEMY=sql_url,
        SESSION_SQLALCHEMY_TABLE=name,
        SESSION_SQLALCHEMY_CREATE=False,
        SESSION_STORE_TIMEOUT=20,
    )
    result = run(app, "check")
    assert result.exit_code == 3
    assert f"There is no table {name}" in result.stdout
    store: Any = store_of(app)
    engine = sa.create_engine(sql_url)
    store.table.metadata.create_all(engine)
    assert checked(app)["warnings"] == []
    with engine.begin() as connection:
        for index in store.table.indexes:
            index.drop(connection)
    found = checked(app)["warnings"]
    assert [w.partition(":")[0] for w in found] == [
        f"Table {name} has no index on expires",
        f"Table {name} has no index on subject",
    ]
    if engine.dialect.name == "mysql":
        with engine.begin() as connection:
            connection.exec_driver_sql(
                f"ALTER TABLE {name} MODIFY subject VARCHAR(255) CHARACTER SET latin1"
            )
        assert f"of {name}.subject is latin1" in checked(app)["warnings"][-1]
    with engine.begin() as connection:
        store.table.drop(connection)
        connection.exec_driver_sql(f"CREATE TABLE {name} (handle VARCHAR(64) PRIMARY KEY)")
    result = run(app, "check")
    assert result.exit_code == 3
    assert re.search(rf"Table\s+{name}\s+lacks\s+columns:\s+version,", result.stdout)
    engine.dispose()


@pytest.mark.group("sql")
def test_rows_that_nobody_removes_are_told(make_app: MakeApp, sql_url: str) -> None:
    from test_cli import stored

    name = f"cli{secrets.token_hex(4)}"
    app = make_app(
        **GOOD,
        SESSION_TYPE="sqlalchemy",
        SESSION_SQLALCHEMY=sql_url,
        SESSION_SQLALCHEMY_TABLE=name,
    )
    for _ in range(3):
        stored(app, seen=7_200_000, lifetime=3_600_000)
    assert checked(app)["store"]["rows expired"] == "3"
    run(app, "purge")
    assert checked(app)["store"]["rows expired"] == "0"


@pytest.mark.group("sql")
def test_a_database_that_may_be_the_wrong_one_is_noted(make_app: MakeApp, sql_url: str) -> None:
    from test_cli import stored

    name = f"cli{secrets.token_hex(4)}"
    app = make_app(
        **GOOD,
        SESSION_TYPE="sqlalchemy",
        SESSION_SQLALCHEMY=sql_url,
        SESSION_SQLALCHEMY_TABLE=name,
    )
    found = checked(app)
    assert any(f"Table {name} is empty" in note for note in found["notes"])
    assert found["store"]["database"] in sql_url
    stored(app)
    assert not any("is empty" in note for note in checked(app)["notes"])


@pytest.mark.group("sql")
def test_a_pooler_that_prepared_statements_are_sent_through_is_warned_of() -> None:
    import types

    from flask_serverside.stores.sqlalchemy import examination

    def through(threshold: int | None, logged_in: int) -> Any:
        driver = types.SimpleNamespace(
            info=types.SimpleNamespace(backend_pid=logged_in), prepare_threshold=threshold
        )
        return types.SimpleNamespace(
            connection=types.SimpleNamespace(dbapi_connection=driver), scalar=lambda _: 7
        )

    assert not examination._pooled(through(5, 7))
    assert examination._pooled(through(None, 8))
    assert list(examination._prepares(through(None, 8))) == []
    assert "prepare_threshold" in next(examination._prepares(through(5, 8)))
