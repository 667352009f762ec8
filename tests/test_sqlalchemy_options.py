"""What a URL and ``SESSION_SQLALCHEMY_OPTIONS`` say reaches the driver, each value as the kind
that the driver wants.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from servers import PostgreSQL
from servers import Server
from test_life_of_a_request import store_of

from flask_serverside.testing import at_once
from flask_serverside.testing import new_record

pytestmark = pytest.mark.group("sql")

MakeApp = Callable[..., Flask]


@pytest.fixture
def with_url(make_app: MakeApp) -> Iterator[MakeApp]:
    apps = []

    def make(url: str, **config: Any) -> Flask:
        apps.append(make_app(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=url, **config))
        return apps[-1]

    yield make
    for app in apps:
        store_of(app).close()


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("postgresql", "connect_timeout=3"),
        ("postgresql", "prepare_threshold=2"),
        ("postgresql", "prepare_threshold=None"),
        ("postgresql", "connect_timeout=3&keepalives_idle=10&application_name=3"),
        ("mariadb", "connect_timeout=3"),
        ("mariadb", "read_timeout=3"),
        ("mariadb", "write_timeout=3"),
        ("mariadb", "read_timeout=2.5&write_timeout=2.5&connect_timeout=3"),
        ("mariadb", "charset=utf8mb4&read_timeout=3"),
    ],
)
def test_numbers_in_a_urls_query_are_numbers(
    server: Callable[[str], Server], with_url: MakeApp, name: str, query: str
) -> None:
    where = server(name).url  # type: ignore[attr-defined]
    store = store_of(with_url(f"{where}?{query}"))
    record = new_record(store)
    assert store.create(record)
    for _ in range(8):  # psycopg prepares what it has executed a few times
        assert store.load(record.handle) == record


def named(postgresql: Server, name: str) -> int:
    """How many connections there are with this name."""
    import sqlalchemy as sa

    assert isinstance(postgresql, PostgreSQL)
    engine = sa.create_engine(postgresql.url, poolclass=sa.NullPool)
    query = sa.text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
    with engine.connect() as connection:
        return int(connection.scalar(query, {"name": name}) or 0)


def test_options_reach_the_engine_and_the_driver(
    server: Callable[[str], Server], with_url: MakeApp
) -> None:
    postgresql = server("postgresql")
    options = {
        "connect_args": {"application_name": "shop"},
        "pool_size": 3,
        "max_overflow": 0,
    }
    given = {**options, "connect_args": {**options["connect_args"]}}  # type: ignore[dict-item]
    app = with_url(
        postgresql.url,  # type: ignore[attr-defined]
        SESSION_SQLALCHEMY_OPTIONS=options,
    )
    store = store_of(app)
    begun = threading.Barrier(8)

    def work(_: int) -> None:
        record = new_record(store)
        begun.wait()
        for _ in range(10):
            store.create(record)
            assert store.load(record.handle) == record

    at_once(8, work)
    assert named(postgresql, "shop") == 3
    assert options == given


def test_options_are_for_each_engine_of_its_own(
    server: Callable[[str], Server], with_url: MakeApp
) -> None:
    postgresql = server("postgresql")
    url = postgresql.url  # type: ignore[attr-defined]
    for name in ("till", "stock"):
        options = {"connect_args": {"application_name": name}}
        store_of(with_url(url, SESSION_SQLALCHEMY_OPTIONS=options)).load("0" * 64)
    assert (named(postgresql, "till"), named(postgresql, "stock")) == (1, 1)


def test_prepared_statements_can_be_asked_for(
    server: Callable[[str], Server], with_url: MakeApp
) -> None:
    """Where there is no pooler in between, they save the server some work."""
    postgresql = server("postgresql")
    for name, asked, prepared in (("plain", {}, 0), ("preparing", {"prepare_threshold": 2}, 1)):
        options = {"connect_args": {"application_name": name, **asked}, "pool_size": 1}
        store = store_of(
            with_url(
                postgresql.url,  # type: ignore[attr-defined]
                SESSION_SQLALCHEMY_OPTIONS=options,
            )
        )
        for _ in range(10):
            store.load("0" * 64)
        assert (statements_of(store) > 0) == bool(prepared), name


def statements_of(store: Any) -> int:
    """What is prepared on the connection that the store uses."""
    import sqlalchemy as sa

    with store._connection() as connection:
        query = sa.text("SELECT count(*) FROM pg_prepared_statements")
        return int(connection.scalar(query))


@pytest.mark.parametrize("wrong", ["pool_size=3", ["pool_size"], 3])
def test_options_that_are_no_dict_are_refused(make_app: MakeApp, wrong: Any) -> None:
    from flask_serverside import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"SESSION_SQLALCHEMY_OPTIONS.*dict"):
        make_app(
            SESSION_TYPE="sqlalchemy",
            SESSION_SQLALCHEMY="sqlite:///sessions.sqlite",
            SESSION_SQLALCHEMY_OPTIONS=wrong,
        )


def test_an_option_that_there_is_not_is_named(make_app: MakeApp) -> None:
    from flask_serverside import ConfigurationError

    with pytest.raises(ConfigurationError, match="pool_sice"):
        make_app(
            SESSION_TYPE="sqlalchemy",
            SESSION_SQLALCHEMY="sqlite:///sessions.sqlite",
            SESSION_SQLALCHEMY_OPTIONS={"pool_sice": 3},
        )
