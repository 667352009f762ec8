"""What many workers are told stays consistent while servers fail over, restart, or close their
connections: no acknowledged write is lost but by the servers themselves, nothing that was ended
is alive again, no request is answered 500, and all is well again soon.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from contextlib import AbstractContextManager

import faults
import pytest
from disturbances import ALL
from disturbances import alone
from disturbances import close_all_of_redis
from disturbances import cluster
from disturbances import Config
from disturbances import Disturbance
from disturbances import kill_and_start
from disturbances import one_address
from disturbances import REDIS
from disturbances import Scene
from disturbances import sentinels
from disturbances import SQL
from failovers import MariaDBPair
from failovers import Pair
from failovers import PostgreSQLPair
from failovers import RedisPair
from flask import Flask
from history_app import create_app
from outcomes import disturbed
from outcomes import go_through
from outcomes import row
from servers import Redis
from servers import Server
from test_history import OPERATIONS
from test_life_of_a_request import store_of

pytestmark = pytest.mark.alone

GetServer = Callable[[str], Server]

EACH = [pytest.param(one, id=one.name, marks=pytest.mark.group(one.group)) for one in ALL]


@pytest.mark.parametrize("disturbance", EACH)
def test_no_acknowledged_write_is_lost_and_nothing_ended_is_alive(
    disturbance: Disturbance, server: GetServer, record_property: Callable[[str, str], None]
) -> None:
    server(disturbance.server)
    assert_survived(disturbance, record_property)


@pytest.mark.group("redis")
@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(lambda: sentinels("fail_over", client=True), id="sentinels"),
        pytest.param(lambda: cluster("fail_over", client=True), id="cluster"),
    ],
)
def test_none_is_with_a_client_of_the_applications_own(
    scene: Callable[[], AbstractContextManager[Scene]],
    server: GetServer,
    record_property: Callable[[str, str], None],
) -> None:
    server("redis")
    assert_survived(
        Disturbance("own client", "redis", "redis", scene, times=1), record_property
    )


def assert_survived(
    disturbance: Disturbance, record_property: Callable[[str, str], None]
) -> None:
    outcome = go_through(disturbance, min(OPERATIONS, 4000) // 2)
    gc.collect()  # a connection that was dropped and not closed is an error of this test
    record_property("disturbance", row(disturbance, outcome))
    assert outcome.error is None
    assert outcome.broken[:10] == []
    if not disturbance.loses:
        assert outcome.lost[:10] == []


PAIRS = [
    pytest.param(RedisPair, REDIS, "redis", id="redis", marks=pytest.mark.group("redis")),
    pytest.param(
        PostgreSQLPair, SQL, "postgresql", id="postgresql", marks=pytest.mark.group("sql")
    ),
    pytest.param(MariaDBPair, SQL, "mariadb", id="mariadb", marks=pytest.mark.group("sql")),
]


@pytest.mark.parametrize(("kind", "config", "program"), PAIRS)
def test_no_connection_stays_on_a_server_that_takes_no_more_writes(
    kind: Callable[[], Pair],
    config: Config,
    program: str,
    server: GetServer,
    make_app: Callable[..., Flask],
) -> None:
    server(program)
    with one_address(kind, **config) as scene:
        app = make_app(**scene.config)
        with contextlib.closing(store_of(app)):
            client = app.test_client()
            assert client.get("/write?a=1").status_code == 200
            for number in "23":
                scene.disturb()
                client.get(f"/write?a={number}")  # it may have to be told that it must go
                assert client.get(f"/write?a={number}").status_code == 200
                assert client.get("/read").json == {"a": number}


# -- what is not so is found


@pytest.mark.group("redis")
def test_a_missing_compare_is_found_while_connections_are_closed(
    server: GetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server("redis")
    with alone(Redis(), close_all_of_redis, **REDIS) as scene:
        app = create_app(scene.config)
        with contextlib.closing(store_of(app)) as store:
            faults.take_the_compare_out(monkeypatch, store)
            for seed in range(20):
                outcome = disturbed(app, scene.disturb, 3, 1600, seed)
                if any("acknowledged write is gone" in line for line in outcome.lost):
                    return
    pytest.fail("the fault was not found")


@pytest.mark.group("redis")
def test_a_server_that_forgets_everything_is_found(server: GetServer) -> None:
    server("redis")
    killed = Disturbance(
        "killed", "redis", "redis", lambda: alone(Redis(), kill_and_start, **REDIS), times=1
    )
    outcome = go_through(killed, 800)
    assert any("nobody has ended it" in line for line in outcome.lost)
