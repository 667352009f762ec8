"""What cannot work is refused at start-up, by name; what the package is given, it uses."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_serverside import ConfigurationError
from flask_serverside import Session
from flask_serverside.config import Settings
from flask_serverside.stores import Store
from flask_serverside.stores.memory import MemoryStore

MakeApp = Callable[..., Flask]

REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"SESSION_TYPE": "reddis"}, ["SESSION_TYPE", "'reddis'", "redis, memcached, mongodb"]),
    ({"SESSION_TYPE": None}, ["SESSION_TYPE", "None"]),
    ({"SESSION_TYPE": "no.such.module:Store"}, ["SESSION_TYPE", "no.such.module"]),
    ({"SESSION_TYPE": "json:loads"}, ["SESSION_TYPE", "json:loads", "Store"]),
    ({"SESSION_TYPE": object}, ["SESSION_TYPE", "object"]),
    ({"SESSION_ID_LENGTH": 8}, ["SESSION_ID_LENGTH", "8", "from 16"]),
    ({"SESSION_ID_LENGTH": "many"}, ["SESSION_ID_LENGTH", "'many'"]),
    ({"SESSION_ID_LENGTH": True}, ["SESSION_ID_LENGTH", "True"]),
    ({"SESSION_PERMANENT": "maybe"}, ["SESSION_PERMANENT", "'maybe'", "true or false"]),
    ({"SESSION_KEY_PREFIX": ""}, ["SESSION_KEY_PREFIX", "not empty"]),
    ({"SESSION_STORE_TIMEOUT": 0}, ["SESSION_STORE_TIMEOUT", "more than zero"]),
    ({"SESSION_STORE_TIMEOUT": "soon"}, ["SESSION_STORE_TIMEOUT", "'soon'"]),
    ({"SESSION_STORE_TIMEOUT": float("nan")}, ["SESSION_STORE_TIMEOUT", "nan"]),
    ({"SESSION_TOUCH_INTERVAL": -1}, ["SESSION_TOUCH_INTERVAL", "zero or more"]),
    ({"SESSION_ABSOLUTE_LIFETIME": timedelta(0)}, ["SESSION_ABSOLUTE_LIFETIME", "more than"]),
    ({"PERMANENT_SESSION_LIFETIME": "0"}, ["PERMANENT_SESSION_LIFETIME", "more than zero"]),
    ({"PERMANENT_SESSION_LIFETIME": 10**11}, ["PERMANENT_SESSION_LIFETIME", "36500 days"]),
    ({"SESSION_SERIALIZATION_FORMAT": "pickle"}, ["SERIALIZATION", "msgpack, json"]),
    ({"SESSION_SERIALIZATION_FORMAT": __import__("json")}, ["SERIALIZATION", "bytes"]),
    ({"SESSION_MAX_SIZE": 1}, ["SESSION_MAX_SIZE", "from 64"]),
    ({"SESSION_MEMORY_THRESHOLD": 0}, ["SESSION_MEMORY_THRESHOLD", "from 1"]),
    ({"SECRET_KEY": 12345}, ["SECRET_KEY", "str or bytes"]),
    ({"SECRET_KEY_FALLBACKS": [1]}, ["SECRET_KEY_FALLBACKS", "str or bytes"]),
]


@pytest.mark.parametrize(("config", "named"), REFUSED, ids=lambda v: str(v)[:50])
def test_what_cannot_work_is_refused_by_name(
    make_app: MakeApp, config: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        make_app(**config)
    for text in named:
        assert text in str(refusal.value)


REFUSED_BY_A_BACKEND: list[Any] = [
    pytest.param(config, named, marks=pytest.mark.group(group), id=f"{group} {named}")
    for group, config, named in [
        ("redis", {"SESSION_REDIS": None}, ["SESSION_REDIS = None", "leave the key out"]),
        ("redis", {"SESSION_REDIS": "http://host"}, ["SESSION_REDIS", "redis://"]),
        ("redis", {"SESSION_REDIS": "redis://u:pa@h:port"}, ["SESSION_REDIS", "://***@h"]),
        ("redis", {"SESSION_REDIS": 5}, ["SESSION_REDIS = 5"]),
        ("memcached", {"SESSION_MEMCACHED": None}, ["SESSION_MEMCACHED = None", "host:port"]),
        ("memcached", {"SESSION_MEMCACHED": ""}, ["SESSION_MEMCACHED", "host:port"]),
        ("memcached", {"SESSION_MEMCACHED": ["ok:1", 5]}, ["SESSION_MEMCACHED", "host:port"]),
        ("memcached", {"SESSION_KEY_PREFIX": "a b"}, ["SESSION_KEY_PREFIX", "'a b'"]),
        ("memcached", {"SESSION_KEY_PREFIX": "a" * 200}, ["SESSION_KEY_PREFIX", "180"]),
        ("mongo", {"SESSION_MONGODB": None}, ["SESSION_MONGODB = None", "leave the key out"]),
        ("mongo", {"SESSION_MONGODB": "redis://host"}, ["SESSION_MONGODB", "MongoDB URL"]),
        ("mongo", {"SESSION_MONGODB_DB": "a b/c"}, ["SESSION_MONGODB_DB", "valid names"]),
        ("sql", {"SESSION_SQLALCHEMY": None}, ["SESSION_SQLALCHEMY = None", "Engine"]),
        ("sql", {"SESSION_SQLALCHEMY": "no url"}, ["SESSION_SQLALCHEMY", "'no url'"]),
        ("sql", {"SESSION_SQLALCHEMY": "sqlite://"}, ["SESSION_SQLALCHEMY", "memory"]),
        ("sql", {"SESSION_SQLALCHEMY": "oracle://u:pa@h/d"}, ["pip install", "://***@h"]),
        (
            "sql",
            {"SESSION_SQLALCHEMY": "sqlite:///x", "SESSION_SQLALCHEMY_BIND_KEY": "a"},
            ["SESSION_SQLALCHEMY_BIND_KEY = 'a'", "Flask-SQLAlchemy"],
        ),
        (
            "sql",
            {"SESSION_SQLALCHEMY": "sqlite:///x", "SESSION_SQLALCHEMY_CREATE": "perhaps"},
            ["SESSION_SQLALCHEMY_CREATE", "true or false"],
        ),
    ]
]
TYPES = {"mongo": "mongodb", "sql": "sqlalchemy"}


@pytest.mark.parametrize(("config", "named"), REFUSED_BY_A_BACKEND)
def test_what_a_backend_cannot_use_is_refused_by_name(
    make_app: MakeApp, request: pytest.FixtureRequest, config: dict[str, Any], named: list[str]
) -> None:
    marker = request.node.get_closest_marker("group")
    with pytest.raises(ConfigurationError) as refusal:
        make_app(SESSION_TYPE=TYPES.get(marker.args[0], marker.args[0]), **config)
    for text in named:
        assert text in str(refusal.value)
    assert "pa@" not in str(refusal.value)


STRINGS: list[tuple[str, str, Any]] = [
    ("SESSION_PERMANENT", "false", False),
    ("SESSION_PERMANENT", "No", False),
    ("SESSION_PERMANENT", "1", True),
    ("SESSION_ID_LENGTH", "48", 48),
    ("SESSION_ABSOLUTE_LIFETIME", "86400", 86400),
    ("SESSION_TOUCH_INTERVAL", "0.5", 0.5),
    ("SESSION_STORE_TIMEOUT", "1.5", 1.5),
    ("SESSION_MAX_SIZE", "4096", 4096),
    ("PERMANENT_SESSION_LIFETIME", "600", 600),
]


@pytest.mark.parametrize(("key", "text", "expected"), STRINGS)
def test_the_environment_suffices(
    monkeypatch: pytest.MonkeyPatch, key: str, text: str, expected: object
) -> None:
    monkeypatch.setenv(f"FLASK_{key}", text)
    app = Flask("x")
    app.config.from_prefixed_env()
    Session(app)
    settings = Settings.from_config(app.config)
    names = {"PERMANENT_SESSION_LIFETIME": "lifetime", "SESSION_STORE_TIMEOUT": "store_timeout"}
    name = names.get(key, key.removeprefix("SESSION_").lower())
    assert getattr(settings, name) == expected


class OneDayStore(MemoryStore):
    """What somebody else might write."""


@pytest.mark.parametrize(
    "value", [OneDayStore, "test_configuration:OneDayStore"], ids=["a class", "a path"]
)
def test_a_store_of_ones_own_is_used(make_app: MakeApp, value: object) -> None:
    app = make_app(SESSION_TYPE=value, SESSION_KEY_PREFIX="mine:")
    store = app.extensions["flask_serverside"].store
    assert type(store).__name__ == "OneDayStore"
    assert store.prefix == "mine:"


def test_a_store_object_is_used_as_it_is(make_app: MakeApp) -> None:
    store = MemoryStore()
    app = make_app(SESSION_TYPE=store)
    assert app.extensions["flask_serverside"].store is store


def test_a_store_is_found_by_its_entry_point(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "one_day-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: one-day\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(
        "[flask_serverside.stores]\none-day = test_configuration:OneDayStore\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    app = make_app(SESSION_TYPE="one-day")
    assert type(app.extensions["flask_serverside"].store).__name__ == "OneDayStore"
    with pytest.raises(ConfigurationError, match="one-day"):
        make_app(SESSION_TYPE="two-days")


@pytest.mark.parametrize(
    ("session_type", "driver", "extra"),
    [
        ("redis", "redis", "redis"),
        ("memcached", "pymemcache", "memcached"),
        ("mongodb", "pymongo", "mongodb"),
        ("mongo", "pymongo", "mongodb"),
        ("sqlalchemy", "sqlalchemy", "sqlalchemy"),
        ("sql", "sqlalchemy", "sqlalchemy"),
    ],
)
def test_a_missing_driver_is_named_with_what_installs_it(
    session_type: str, driver: str, extra: str
) -> None:
    program = f"""
import sys
sys.modules[{driver!r}] = None
from flask import Flask
from flask_serverside import ConfigurationError, Session
app = Flask("x")
app.config["SESSION_TYPE"] = {session_type!r}
try:
    Session(app)
except ConfigurationError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"SESSION_TYPE = {session_type!r}" in said.stdout, said.stderr
    assert f"pip install 'flask-serverside[{extra}]'" in said.stdout


@pytest.mark.parametrize(
    ("session_type", "driver"),
    [
        pytest.param(session_type, driver, marks=pytest.mark.group(group))
        for session_type, driver, group in (
            ("redis", "redis", "redis"),
            ("memcached", "pymemcache", "memcached"),
            ("mongodb", "pymongo", "mongo"),
            ("sqlalchemy", "sqlalchemy", "sql"),
        )
    ],
)
def test_only_what_is_configured_is_imported(session_type: str, driver: str) -> None:
    program = f"""
import sys
from flask import Flask
from flask_serverside import Session
app = Flask("x")
app.config["SESSION_TYPE"] = {session_type!r}
Session(app)
print(*sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    drivers = {"redis", "pymemcache", "pymongo", "sqlalchemy"}
    assert "flask_serverside" in said.stdout, said.stderr
    assert drivers & set(said.stdout.split()) == {driver}


def test_memory_says_once_that_it_is_for_one_process(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_app(TESTING=False).test_client()
    client.get("/untouched")
    client.get("/read")
    assert caplog.text.count("this process's memory") == 1


@pytest.mark.parametrize("quiet", [{"TESTING": True}, {"TESTING": False, "DEBUG": True}])
def test_memory_is_fine_for_debugging_and_testing(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, quiet: dict[str, bool]
) -> None:
    make_app(**quiet).test_client().get("/read")
    assert not caplog.records


def test_the_factory_pattern_with_one_object_for_two_applications() -> None:
    session = Session()
    stores: list[Store] = []
    for name in "ab":
        app = Flask(name)
        session.init_app(app)
        with app.app_context():
            assert app.extensions["flask_serverside"] is session
            stores.append(session.store)
    assert stores[0] is not stores[1]


def test_lifetimes_and_keys_that_change_after_start_up_count(make_app: MakeApp) -> None:
    app = make_app()
    app.permanent_session_lifetime = timedelta(seconds=77)
    assert "Max-Age=77" in app.test_client().get("/write?a=1").headers["Set-Cookie"]


def test_a_store_is_closed_with_its_application_and_nobody_waits_for_it() -> None:
    closed, may_close = threading.Event(), threading.Event()

    class SlowlyClosing(MemoryStore):
        def close(self) -> None:
            may_close.wait(10)
            closed.set()

    app = Flask("x")
    app.config["SESSION_TYPE"] = SlowlyClosing
    Session(app)
    del app
    gc.collect()  # returns although the store waits
    assert not closed.is_set()
    may_close.set()
    assert closed.wait(10)


def test_a_store_that_was_given_is_left_open() -> None:
    closed = []

    class Noticing(MemoryStore):
        def close(self) -> None:
            closed.append(True)

    app = Flask("x")
    app.config["SESSION_TYPE"] = Noticing()
    Session(app)
    del app
    gc.collect()
    assert closed == []
