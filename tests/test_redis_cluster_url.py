"""A cluster by ``redis+cluster://``: how it finds its way when the servers change."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis_nodes import SLOTS
from test_redis_cluster import Node
from test_redis_cluster import nodes
from test_redis_cluster import url
from test_redis_sentinel import until

from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

__all__ = ["nodes", "url"]

pytestmark = [pytest.mark.group("redis"), pytest.mark.alone]

LIMIT = 1.5
MARGIN = 0.3


def make_store(url: Any, **options: Any) -> Any:
    from flask_serverside.stores.redis import RedisStore

    return RedisStore(url, **{"timeout": LIMIT, **options})


@contextlib.contextmanager
def six() -> Iterator[list[Node]]:
    """Three primaries, and a replica of each, which takes its place within a second or two."""
    import redis

    servers = [Node(1000) for _ in range(6)]
    try:
        for number, node in enumerate(servers):
            node.start()
            with redis.Redis(port=node.port) as client:
                client.config_set("repl-diskless-sync-delay", 0)
                if number < 3:
                    first, last = (SLOTS * n // 3 for n in (number, number + 1))
                    client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
                for other in servers[:number]:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, other.bus)
        for node, primary in zip(servers[3:], servers[:3], strict=True):
            with redis.Redis(port=primary.port) as client:
                name = client.execute_command("CLUSTER MYID").decode()
            with redis.Redis(port=node.port) as client:
                until(lambda c=client, n=name: replicates(c, n))
                until(lambda c=client: c.info("replication")["master_link_status"] == "up")
        for node in servers:
            with redis.Redis(port=node.port) as client:
                until(
                    lambda c=client: c.execute_command("CLUSTER INFO")["cluster_state"] == "ok"
                )
        yield servers
    finally:
        for node in servers:
            node.stop()


def replicates(client: Any, name: str) -> bool:
    import redis

    try:
        client.execute_command("CLUSTER REPLICATE", name)
    except redis.ResponseError:  # it has not heard of that one yet
        return False
    return True


def records_on_each(store: Any, number: int = 12) -> list[Any]:
    records = [new_record(store) for _ in range(number)]
    for record in records:
        store.create(record)
    return records


def served(store: Any, records: list[Any]) -> bool:
    for record in records:
        try:
            if not store.touch(record._replace(expires=record.expires + 1)):
                return False
        except StoreUnavailable:
            return False
    return True


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_a_replica_that_takes_over_is_found_and_each_wait_is_one_limit(fault: str) -> None:
    with six() as servers:
        store = make_store(f"redis+cluster://127.0.0.1:{servers[0].port}")
        records = records_on_each(store)
        servers[1].kill() if fault == "killed" else servers[1].freeze()
        longest = 0.0
        deadline = time.monotonic() + 30
        while True:
            began = time.monotonic()
            done = served(store, records)
            taken = time.monotonic() - began
            if done:
                break
            assert time.monotonic() < deadline
            longest = max(longest, taken)
        # Each pass ends at its first failure.
        assert longest < LIMIT + MARGIN + 0.3
        assert store.count() == len(records)


def test_a_whole_cluster_that_is_frozen_costs_one_limit(nodes: list[Node], url: str) -> None:
    used, new = make_store(url), make_store(url)
    record = new_record(used, subject="ada")
    used.create(record)
    for node in nodes:
        node.freeze()
    try:
        for store in (used, new):
            for operation in (
                lambda s=store: s.load(record.handle),
                lambda s=store: s.replace(saved_again(record, b"x")),
                lambda s=store: s.count("ada"),
                lambda s=store: s.count(),
            ):
                began = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    operation()
                assert time.monotonic() - began < LIMIT + MARGIN
    finally:
        for node in nodes:
            node.thaw()
    assert used.load(record.handle) == record


def test_many_threads_on_a_frozen_cluster_wait_one_limit_each(
    nodes: list[Node], url: str
) -> None:
    store = make_store(url)
    for node in nodes:
        node.freeze()
    took = []

    def work() -> None:
        began = time.monotonic()
        with contextlib.suppress(StoreUnavailable):
            store.ping()
        took.append(time.monotonic() - began)

    threads = [threading.Thread(target=work) for _ in range(20)]
    try:
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        for thread in threads:
            thread.join()
    finally:
        for node in nodes:
            node.thaw()
    assert max(took) < LIMIT + MARGIN


def test_no_server_reachable_is_unavailable_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = make_store("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                store.ping()
    assert "Traceback" not in caplog.text
    assert caplog.text.count("unavailable") == 1


def test_keys_that_are_being_moved_are_found(nodes: list[Node], url: str) -> None:
    """Each key of a slot is moved while it is used, and the slot after that."""
    import redis
    from redis.crc import key_slot

    store = make_store(url, timeout=10, prefix="moving:")
    records = records_on_each(store, 30)
    client = redis.RedisCluster(host="127.0.0.1", port=nodes[0].port)
    key = store._key(records[0].handle)
    slot = key_slot(key.encode())
    source = next(n for n in nodes if n.port == client.get_node_from_key(key).port)
    target = next(n for n in nodes if n is not source)
    ids = {}
    for node in nodes:
        with redis.Redis(port=node.port) as one:
            ids[node] = one.execute_command("CLUSTER MYID").decode()
    with redis.Redis(port=source.port) as old, redis.Redis(port=target.port) as new:
        new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        assert all(store.load(record.handle) == record for record in records)
        old.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        changed = saved_again(records[0], b"moved")
        assert store.load(records[0].handle) == records[0]  # ASK
        assert store.replace(changed) is changed
        assert store.count() == len(records)
        for one in (new, old):
            one.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    assert store.load(records[0].handle) == changed  # MOVED
    assert {r.handle for r in store.end_all()} == {r.handle for r in records}
    assert store.count() == 0
    client.close()


def create_many(store: Any, subject: str | None) -> None:
    for _ in range(50):
        store.create(new_record(store, subject=subject))


def test_a_plain_url_that_meets_a_cluster_names_the_right_one(
    nodes: list[Node], url: str
) -> None:
    for database in ("0", "1"):
        store = make_store(f"redis://127.0.0.1:{nodes[0].port}/{database}")
        for subject in (None, "ada"):
            with pytest.raises(
                StoreError, match=r"redis\+cluster://host:port|a cluster has one"
            ) as caught:
                create_many(store, subject)  # some keys are on this server
            assert not isinstance(caught.value, StoreUnavailable)


def test_a_cluster_url_that_meets_a_plain_server_says_so(server: Any) -> None:
    store = make_store(server("redis").url.replace("redis://", "redis+cluster://"))
    with pytest.raises(StoreError, match="part of no cluster") as caught:
        store.ping()
    assert not isinstance(caught.value, StoreUnavailable)


def test_a_given_client_of_a_cluster_that_is_away_is_unavailable(
    nodes: list[Node], url: str, caplog: pytest.LogCaptureFixture
) -> None:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = redis.RedisCluster(
        host="127.0.0.1", port=nodes[0].port, socket_timeout=0.3, retry=Retry(NoBackoff(), 1)
    )
    store = make_store(client)
    record = new_record(store)
    store.create(record)
    for node in nodes:
        node.freeze()
    try:
        with caplog.at_level(logging.INFO), pytest.raises(StoreUnavailable):
            store.load(record.handle)
    finally:
        for node in nodes:
            node.thaw()
    assert "Traceback" not in caplog.text
    assert store.load(record.handle) == record
    client.close()


def test_a_wrong_password_is_refused(nodes: list[Node], url: str) -> None:
    store = make_store(url.replace("://", "://:wrong@"))
    with pytest.raises(StoreError, match=r"(?i)password") as caught:
        store.ping()
    assert not isinstance(caught.value, StoreUnavailable)


def test_sessions_on_other_servers_end_and_are_told_of_while_one_is_frozen(
    nodes: list[Node], url: str
) -> None:
    import redis

    store = make_store(url, timeout=0.5)
    client = redis.RedisCluster(host="127.0.0.1", port=nodes[0].port)
    records = [new_record(store, subject="thief") for _ in range(20)]
    for record in records:
        store.create(record)
    where = client.get_node_from_key(store._index("thief")).port
    frozen = next(node for node in nodes if node.port != where)
    theirs = {
        record.handle
        for record in records
        if client.get_node_from_key(store._key(record.handle)).port == frozen.port
    }
    frozen.freeze()
    ended, told = [], []
    try:
        with pytest.raises(StoreUnavailable):
            ended.extend(store.end_all("thief", told=told.append))
    finally:
        frozen.thaw()
    others = {record.handle for record in records} - theirs
    assert {record.handle for record in ended} == {record.handle for record in told} == others
    assert {e.record.handle for e in store.entries("thief")} == theirs
    client.close()


def test_a_cluster_server_with_too_many_clients_is_unavailable(
    nodes: list[Node], url: str
) -> None:
    import redis

    with redis.Redis(port=nodes[0].port) as admin:
        most = admin.config_get("maxclients")["maxclients"]
        admin.config_set("maxclients", 5)
        try:
            with pytest.raises(StoreUnavailable, match="max number of clients"):
                make_store(f"redis+cluster://127.0.0.1:{nodes[0].port}").ping()
        finally:
            admin.config_set("maxclients", most)


def test_a_redirect_to_a_server_without_a_name_is_followed(nodes: list[Node], url: str) -> None:
    """As it is told by one that is to tell host names and knows none."""
    from deployments import ask

    from flask_serverside.stores.redis.cluster import Map

    store = make_store(url)
    records = records_on_each(store)
    for node in nodes:
        ask(node, "CONFIG SET", "cluster-preferred-endpoint-type", "hostname")
    try:
        primaries = store._line._map.primaries
        for record in records:
            store._line._map = Map([(0, SLOTS - 1, primaries[0])])
            store._line._doubted = False
            # Through the line: the store would try again, by the new map.
            store.limit.start(1)
            assert store._line.send("GET", store._key(record.handle)) == record.pack()
    finally:
        for node in nodes:
            ask(node, "CONFIG SET", "cluster-preferred-endpoint-type", "ip")


def test_connections_that_are_of_no_use_are_not_used_again(nodes: list[Node], url: str) -> None:
    store = make_store(url)
    records_on_each(store)
    before = set(store._line.clients().values())
    store._line.renew()
    store.ping()
    assert not before & set(store._line.clients().values())


def test_a_server_that_has_left_the_cluster_is_not_believed(
    nodes: list[Node], url: str
) -> None:
    """It still thinks that it has its slots, and knows of no other server."""
    from deployments import ask

    left = Node(15_000)
    left.start()
    try:
        ask(left, "CONFIG SET", "cluster-require-full-coverage", "no")
        ask(left, "CLUSTER ADDSLOTSRANGE", 0, SLOTS // 2)
        store = make_store(url.replace("://", f"://127.0.0.1:{left.port},"))
        records = records_on_each(store)
        assert store.count() >= len(records)
        with make_client(left) as client:
            assert not client.dbsize()
    finally:
        left.stop()


def make_client(node: Node) -> Any:
    import redis

    return redis.Redis(port=node.port)
