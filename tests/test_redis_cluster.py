"""The store on a real Redis cluster of three servers, where keys are on different ones."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from redis_nodes import Cluster
from redis_nodes import Node
from servers import Server
from test_redis import fork

from flask_serverside import StoreUnavailable
from flask_serverside.testing import IndexContract
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again
from flask_serverside.testing import StoreContract

pytestmark = pytest.mark.group("redis")


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    cluster = Cluster()
    with cluster.running():
        yield cluster.nodes


@pytest.fixture
def cluster(server: Callable[[str], Server], nodes: list[Node]) -> Iterator[Any]:
    import redis

    client = redis.RedisCluster(host="127.0.0.1", port=nodes[0].port)
    yield client
    client.close()


@pytest.fixture
def url(server: Callable[[str], Server], nodes: list[Node]) -> str:
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes[1:])
    return f"redis+cluster://{hosts}"


class TestClusterByUrl(StoreContract, IndexContract):
    @pytest.fixture(autouse=True)
    def _cluster(self, url: str) -> None:
        self.url = url

    def make_store(self, **options: Any) -> Any:
        from flask_serverside.stores.redis import RedisStore

        return RedisStore(self.url, **{"timeout": 20, **options})


class TestCluster(StoreContract, IndexContract):
    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: Any) -> None:
        self.cluster = cluster

    def make_store(self, **options: Any) -> Any:
        from flask_serverside.stores.redis import RedisStore

        return RedisStore(self.cluster, **options)


@pytest.fixture(params=["given", "made"])
def store(request: pytest.FixtureRequest, cluster: Any, url: str) -> Iterator[Any]:
    from flask_serverside.stores.redis import RedisStore

    client = cluster if request.param == "given" else url
    store = RedisStore(client, timeout=20, prefix=f"{secrets.token_hex(8)}:")
    yield store
    store.close()


def test_the_keys_of_one_subject_are_on_several_servers(store: Any, cluster: Any) -> None:
    records = [new_record(store, subject="ada") for _ in range(20)]
    for record in records:
        store.create(record)
    keys = [store._key(record.handle) for record in records]
    assert len({cluster.get_node_from_key(key).port for key in keys}) > 1
    assert store.count("ada") == 20


def test_each_server_of_a_cluster_is_examined(store: Any, cluster: Any) -> None:
    examination = store.examine()
    named = {key.split()[0] for key, value in examination.facts}
    assert named == {node.name for node in cluster.get_primaries()}
    assert len(named) == len(examination.notes) == 3
    assert examination.warnings == ()
    assert abs(examination.ahead) < 60


@pytest.mark.parametrize("broken", ["create", "replace", "touch"])
def test_what_breaks_off_leaves_an_entry_too_many_and_never_one_too_few(
    store: Any, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Each write is cut off after each of the commands that it takes."""
    import redis

    send = store._line.send
    for after in range(3):
        record = new_record(store, subject=f"{broken} {after}")
        if broken != "create":
            store.create(record._replace(subject=None))
        left = after

        def sent(*command: Any) -> Any:
            nonlocal left
            if left == 0:
                raise redis.exceptions.ConnectionError
            left -= 1
            return send(*command)

        work = {
            "create": lambda record=record: store.create(record),
            "replace": lambda record=record: store.replace(saved_again(record, b"x")),
            "touch": lambda record=record: store.touch(record),
        }[broken]
        with monkeypatch.context() as patch:
            patch.setattr(store._line, "send", sent)
            try:
                work()
            except StoreUnavailable:
                assert after < 2
        standing = store.load(record.handle)
        listed = [e.record.handle for e in store.entries(record.subject)]
        assert listed == ([record.handle] if standing and standing.subject else [])
    if broken != "touch":
        assert standing is not None
        assert standing.subject == record.subject


@pytest.mark.parametrize("kind", ["made cluster", "given cluster"])
def test_a_process_forked_without_hooks_has_connections_of_its_own(
    nodes: list[Node], kind: str
) -> None:
    fork(kind, nodes[0].port)


class TestClusterByValkey(StoreContract, IndexContract):
    @pytest.fixture(autouse=True)
    def _cluster(self, nodes: list[Node]) -> Iterator[None]:
        import valkey

        self.cluster = valkey.ValkeyCluster(host="127.0.0.1", port=nodes[0].port)
        yield
        self.cluster.close()

    def make_store(self, **options: Any) -> Any:
        from flask_serverside.stores.redis import RedisStore

        return RedisStore(self.cluster, **options)


def test_a_plain_client_of_one_server_of_a_cluster_is_warned_of(nodes: list[Node]) -> None:
    import redis

    from flask_serverside.stores.redis import RedisStore

    with redis.Redis(port=nodes[0].port) as client:
        (warning,) = RedisStore(client).examine().warnings
    assert "redis+cluster://" in warning
