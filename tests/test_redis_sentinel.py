"""One primary of several servers, that sentinels know: ``redis+sentinel://``."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import free_port
from servers import Redis
from servers import Server

from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.testing import IndexContract
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again
from flask_serverside.testing import StoreContract

pytestmark = [pytest.mark.group("redis"), pytest.mark.alone]

SERVICE = "shop"
LIMIT = 2.0
MARGIN = 0.3


class Sentinel(Redis):
    name = "sentinel"
    primary = 0
    quorum = 2

    def command(self, folder: Path) -> list[str]:
        settings = folder / "sentinel.conf"  # which it writes itself, too
        if not settings.exists():
            settings.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary} {self.quorum}\n"
                f"sentinel down-after-milliseconds {SERVICE} 500\n"
                f"sentinel failover-timeout {SERVICE} 2000\n"
            )
        return [str(self.program), str(settings), "--sentinel"]


class Site:
    """A primary, a replica and three sentinels."""

    def __init__(self) -> None:
        self.servers = [Redis(), Redis()]
        self.sentinels = [Sentinel() for _ in range(3)]

    def start(self) -> None:
        import redis

        for server in self.servers:
            server.start()
        with redis.Redis(port=self.servers[0].port) as client:
            client.config_set("repl-diskless-sync-delay", 0)
        with redis.Redis(port=self.servers[1].port) as client:
            client.replicaof("127.0.0.1", self.servers[0].port)
        for sentinel in self.sentinels:
            sentinel.primary = self.servers[0].port
            sentinel.start()
        until(lambda: all(self.knows_all(sentinel) for sentinel in self.sentinels))

    def knows_all(self, sentinel: Sentinel) -> bool:
        import redis

        with redis.Redis(port=sentinel.port) as client:
            state = client.sentinel_master(SERVICE)
        return state["num-slaves"] == 1 and state["num-other-sentinels"] == 2

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.stop()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def primary(self) -> Redis:
        import redis

        with redis.Redis(port=self.sentinels[0].port) as client:
            _, port = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if server.port == int(port))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def lasting(request: pytest.FixtureRequest) -> Iterator[Site]:
    """For tests that leave it as it is."""
    site = Site()
    try:
        site.start()
        yield site
    finally:
        site.stop()


@pytest.fixture
def site(server: Callable[[str], Server]) -> Iterator[Site]:
    assert server("redis")
    site = Site()
    try:
        site.start()
        yield site
    finally:
        site.stop()


def make_store(url: str, **options: Any) -> Any:
    from flask_serverside.stores.redis import RedisStore

    return RedisStore(url, **{"timeout": LIMIT, **options})


class TestSentinel(StoreContract, IndexContract):
    @pytest.fixture(autouse=True)
    def _site(self, server: Callable[[str], Server], lasting: Site) -> None:
        self.url = lasting.url

    def make_store(self, **options: Any) -> Any:
        return make_store(self.url, **{"timeout": 20, **options})


def served(store: Any, record: Any) -> bool:
    try:
        return bool(store.touch(record))
    except StoreUnavailable:
        return False


def test_a_primary_that_dies_is_followed(site: Site) -> None:
    store = make_store(site.url)
    store.create(record := new_record(store))
    _replicated(site)
    site.primary.kill()
    until(lambda: served(store, record._replace(expires=record.expires + 1)))
    assert store.load(record.handle) is not None


def test_a_primary_that_freezes_is_followed_and_never_used_again(site: Site) -> None:
    store = make_store(site.url)
    store.create(record := new_record(store))
    _replicated(site)
    old = site.primary
    old.freeze()
    until(lambda: served(store, record._replace(expires=record.expires + 1)))
    old.thaw()
    assert site.primary is not old
    changed = saved_again(store.load(record.handle), b"x")
    assert store.replace(changed) is changed
    assert make_store(site.url).load(record.handle) == changed


def _replicated(site: Site) -> None:
    import redis

    with redis.Redis(port=site.servers[0].port) as client:
        assert client.wait(1, 5000) == 1


def test_a_primary_that_is_known_serves_on_while_all_sentinels_are_away(site: Site) -> None:
    store = make_store(site.url)
    store.create(record := new_record(store))
    for away in (lambda s: s.freeze(), lambda s: s.kill()):
        for sentinel in site.sentinels:
            away(sentinel)
        store._line._sentinels.doubt()
        for number in range(3):
            store._line.client.connection_pool.disconnect()  # it takes a new connection
            began = time.monotonic()
            assert store.load(record.handle) is not None
            assert time.monotonic() - began < (LIMIT if number == 0 else 0.2)


@pytest.mark.parametrize("away", ["frozen", "down"])
def test_sentinels_that_are_away_cost_one_limit_in_all(site: Site, away: str) -> None:
    store = make_store(site.url)
    for sentinel in site.sentinels:
        sentinel.freeze() if away == "frozen" else sentinel.kill()
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=SERVICE):
            store.ping()
        assert time.monotonic() - began < LIMIT + MARGIN


def test_two_frozen_sentinels_of_three_are_passed_over(site: Site) -> None:
    for sentinel in site.sentinels[:2]:
        sentinel.freeze()
    store = make_store(site.url)
    began = time.monotonic()
    assert store.create(new_record(store))
    assert time.monotonic() - began < LIMIT * 3 / 4
    store._line.renew()
    began = time.monotonic()
    assert store.create(new_record(store))
    assert time.monotonic() - began < 0.2  # the one that has answered is asked first now


def test_a_primary_that_was_demoted_is_left_for_the_new_one(site: Site) -> None:
    """As an administrator does it: ``SENTINEL FAILOVER``."""
    import redis

    store = make_store(site.url)
    store.create(record := new_record(store))
    _replicated(site)
    old = site.primary
    with redis.Redis(port=site.sentinels[0].port) as client:
        client.execute_command("SENTINEL FAILOVER", SERVICE)
    until(lambda: site.primary is not old)
    until(lambda: served(store, record._replace(expires=record.expires + 1)))
    with redis.Redis(port=site.primary.port) as client:
        assert client.pttl(f"session:{record.handle}") > 0


def test_a_service_that_no_sentinel_knows_is_refused(lasting: Site) -> None:
    store = make_store(lasting.url.replace(SERVICE, "another"))
    with pytest.raises(StoreError, match=r"another.*Correct the service") as caught:
        store.ping()
    assert not isinstance(caught.value, StoreUnavailable)


def test_a_plain_url_that_meets_a_sentinel_names_the_right_one(lasting: Site) -> None:
    for database in ("0", "1"):
        store = make_store(f"redis://127.0.0.1:{lasting.sentinels[0].port}/{database}")
        for operation in (store.ping, lambda s=store: s.create(new_record(s, subject="ada"))):
            with pytest.raises(
                StoreError, match=r"redis\+sentinel://host:port/SERVICE"
            ) as told:
                operation()
            assert not isinstance(told.value, StoreUnavailable)


def test_a_sentinel_url_that_meets_a_plain_server_says_so(lasting: Site) -> None:
    store = make_store(f"redis+sentinel://127.0.0.1:{lasting.servers[0].port}/{SERVICE}")
    with pytest.raises(StoreError, match="no sentinel") as caught:
        store.ping()
    assert not isinstance(caught.value, StoreUnavailable)


def test_a_given_client_of_sentinel_is_unavailable_while_nobody_knows_the_primary(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import redis.sentinel

    from flask_serverside.stores.redis import RedisStore

    client = redis.sentinel.Sentinel([("127.0.0.1", 1)]).master_for(SERVICE)
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreUnavailable):
        RedisStore(client).ping()
    assert "Traceback" not in caplog.text


def test_the_server_is_examined(lasting: Site) -> None:
    store = make_store(lasting.url)
    assert dict(store.examine().facts)["role"] == "master"


def test_a_replica_is_told_of(lasting: Site) -> None:
    replica = next(server for server in lasting.servers if server is not lasting.primary)
    (warning,) = make_store(replica.url).examine().warnings
    assert "is a replica" in warning


@pytest.mark.parametrize("named", ["a dead server", "a replica"])
def test_a_sentinel_that_is_behind_is_passed_over_for_one_that_is_right(
    lasting: Site, named: str
) -> None:
    replica = next(server for server in lasting.servers if server is not lasting.primary)
    behind = StandIn(replica.port if named == "a replica" else free_port())
    try:
        for _ in range(2):
            store = make_store(lasting.url.replace("://", f"://127.0.0.1:{behind.port},"))
            store.ping()
            store._line.renew()
            store.ping()
    finally:
        behind.close()


class StandIn:
    """A sentinel that knows one thing only."""

    def __init__(self, primary: int) -> None:
        number = str(primary).encode()
        self._answer = b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(number), number)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client:
                    while client.recv(4096):
                        client.sendall(self._answer)

    def close(self) -> None:
        self._listener.close()


def test_many_threads_that_ask_at_once_find_all_sentinels() -> None:
    from flask_serverside.stores.redis.sentinel import Sentinels
    from flask_serverside.stores.redis.urls import parse
    from flask_serverside.stores.time_limit import TimeLimit

    sentinels: Any = Sentinels(parse("redis+sentinel://a,b,c/shop"), TimeLimit())
    sentinels._ask = lambda address, seconds: (sys.setswitchinterval(1e-6), ("h", 1))[1]
    sentinels._known = ("h", 1)
    silent = []
    before = sys.getswitchinterval()

    def work() -> None:
        silent.extend([1 for _ in range(2000) if sentinels._asked(60) is None])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)
    assert not silent


def test_who_only_reads_learns_of_a_new_primary(site: Site) -> None:
    """The old one, cut off from the sentinels, goes on answering as a primary."""
    import redis

    reader, writer = make_store(site.url), make_store(site.url)
    reader.create(record := new_record(reader))
    assert reader.load(record.handle) is not None
    _replicated(site)
    old = site.primary
    with redis.Redis(port=old.port) as client:  # nobody can tell it that it is one no more
        client.execute_command("ACL SETUSER", "default", "-replicaof", "-slaveof", "-client")
    old.freeze()
    until(lambda: site.primary is not old)
    until(lambda: ended(writer, record))
    old.thaw()
    began = time.monotonic()
    until(lambda: (found := reader.load(record.handle)) is None or found.ended)
    assert time.monotonic() - began < 5


def ended(store: Any, record: Any) -> bool:
    try:
        return bool(store.end(record))
    except StoreUnavailable:
        return False


def test_a_primary_that_is_known_serves_on_while_a_sentinel_has_lost_its_memory(
    site: Site,
) -> None:
    """The others are down."""
    store = make_store(site.url)
    store.ping()
    for sentinel in site.sentinels:
        sentinel.kill()
    forgetful = Forgetful(site.sentinels[0].port)
    forgetful.start()
    try:
        store._line._sentinels.doubt()
        store._line.client.connection_pool.disconnect()  # it takes a new connection
        store.ping()
    finally:
        forgetful.stop()


class Forgetful(Sentinel):
    """In another's place."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._place = port

    def prepare(self, folder: Path) -> None:
        self.port = self._place

    def command(self, folder: Path) -> list[str]:
        command = super().command(folder)
        (folder / "sentinel.conf").write_text(f"port {self.port}\nbind 127.0.0.1\n")
        return command
