"""Real MongoDB servers in odd states: untrusted, frozen, demoted, with indexes of others."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from servers import MongoDB
from servers import Server
from tls import make_certificate

from flask_serverside import ConfigurationError
from flask_serverside import SerializationError
from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

pytestmark = [pytest.mark.group("mongo"), pytest.mark.alone]


@pytest.fixture
def url(server: Callable[[str], Server]) -> str:
    found = server("mongodb")
    assert isinstance(found, MongoDB)
    return found.url


MADE: list[Any] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def mongodb(url: Any, **options: Any) -> Any:
    from flask_serverside.stores.mongodb import MongoDBStore

    MADE.append(MongoDBStore(url, **options))
    return MADE[-1]


class Encrypted(MongoDB):
    """Speaks TLS only, and wants a certificate of each client."""

    name = "mongodb-tls"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.certificate = make_certificate(folder)
        both = self.certificate.read_bytes() + (folder / "server.key").read_bytes()
        self.pair = folder / "pair.pem"
        self.pair.write_bytes(both)

    def command(self, folder: Path) -> list[str]:
        files = [
            "--tlsCertificateKeyFile",
            str(self.pair),
            "--tlsCAFile",
            str(self.certificate),
        ]
        command = super().command(folder)
        command[command.index("--bind_ip") + 1] = "127.0.0.1,127.0.0.2"
        return [*command, "--tlsMode", "requireTLS", *files]


@pytest.fixture(scope="module")
def encrypted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Encrypted]:
    from conftest import get_server

    get_server(request, "mongodb")
    mongod = Encrypted(tmp_path_factory.mktemp("tls"))
    mongod.start()
    yield mongod
    mongod.stop()


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_certificate_that_is_not_trusted_is_no_outage(
    encrypted: Encrypted, wrong: str, given: bool
) -> None:
    import pymongo

    host = "127.0.0.2" if wrong == "name" else "127.0.0.1"
    where = f"mongodb://{host}:{encrypted.port}/?tls=true"
    where += f"&tlsCertificateKeyFile={encrypted.pair}"
    if wrong != "authority":
        where += f"&tlsCAFile={encrypted.certificate}"
    if given:
        MADE.append(pymongo.MongoClient(where))
    store = mongodb(MADE[-1] if given else where)
    began = time.monotonic()
    with pytest.raises(StoreError, match="tlsCAFile in SESSION_MONGODB") as told:
        store.ping()
    assert not isinstance(told.value, StoreUnavailable)
    assert time.monotonic() - began < 2.3


def test_a_certificate_that_is_trusted_works(encrypted: Encrypted) -> None:
    files = f"tlsCAFile={encrypted.certificate}&tlsCertificateKeyFile={encrypted.pair}"
    store = mongodb(f"mongodb://127.0.0.1:{encrypted.port}/?tls=true&{files}")
    assert store.create(new_record(store))


def test_nobody_waits_to_take_leave_of_a_server_that_is_frozen(url: str) -> None:
    line = Proxy(int(url.rpartition(":")[2].strip("/")))
    store = mongodb(f"mongodb://127.0.0.1:{line.port}/")
    connections = store._connections
    try:
        for _ in range(2):
            connections.client.admin.command("ping")
            connections._made_at -= 10
            left = connections.leave_demoted()
            assert left
        connections.client.admin.command("ping")
        line.freeze()
        connections._made_at -= 10
        began = time.monotonic()
        connections.leave_demoted()
        assert time.monotonic() - began < 0.3
        began = time.monotonic()
        store.close()
        assert time.monotonic() - began < 2.3
    finally:
        line.close()


@pytest.mark.parametrize("field", ["version", "lifetime"])
@pytest.mark.parametrize("value", ["12", True, 5.5])
def test_a_session_that_lists_cannot_see_is_not_used_either(
    url: str, field: str, value: object
) -> None:
    store = mongodb(url, collection="whole")
    record = new_record(store, subject="ada")
    assert store.create(record)
    store._collection.update_one({"_id": record.handle}, {"$set": {field: value}})
    with pytest.raises(SerializationError, match="not a record"):
        store.load(record.handle)
    assert store.end(record)
    standing = store.find(record.handle)
    assert standing is None or standing.ended


def test_what_was_ended_by_others_is_not_counted(url: str) -> None:
    store = mongodb(url, collection="both")
    records = [new_record(store, subject="ada") for _ in range(4)]
    for record in records:
        assert store.create(record)
    handles = [record.handle for record in records]
    assert store.delete(handles[0])
    assert sorted(store._call(store._end_many, handles, "ada")) == sorted(handles[1:])
    assert store._call(store._end_many, handles, "ada") == []


@pytest.mark.parametrize("zero", ["00", "%30", "-0"])
def test_no_way_to_write_w_0_is_overlooked(zero: str) -> None:
    with pytest.raises(ConfigurationError, match="w=0"):
        mongodb(f"mongodb://localhost/?w={zero}&journal=false")


@pytest.mark.parametrize(
    "where",
    [
        "ada:HIDDEN word@localhost/?w=0",
        "ada:it's HIDDEN@localhost/?w=0",
        "us/er:HIDDEN@localhost/",
        "localhost/?w=0&authMechanismProperties=AWS_SESSION_TOKEN:HIDDEN",
        "localhost/?w=0;tlsCertificateKeyFilePassword=HIDDEN",
    ],
)
def test_no_error_has_a_secret_of_the_url(where: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        mongodb(f"mongodb://{where}")
    assert "HIDDEN" not in str(told.value)


def test_a_save_that_another_has_saved_over_is_not_told_as_one_that_failed(url: str) -> None:
    """A is stored, its answer is lost, B saves on top of it. The second try finds B's version
    and calls it a conflict: A is merged, or its function called, once more, on top of itself.
    """
    from pymongo.errors import AutoReconnect

    store, other = mongodb(url, collection="twice"), mongodb(url, collection="twice")
    record = new_record(store, b"0")
    assert store.create(record)
    first = saved_again(record, b"1")
    apply = store._replace

    def interrupted(wanted: Any) -> Any:
        store._replace = apply
        assert apply(wanted) is wanted
        assert other.replace(saved_again(other.load(record.handle), b"2"))
        raise AutoReconnect("connection closed")

    store._replace = interrupted
    with pytest.raises(StoreUnavailable):  # it is not known whether it took effect
        store.replace(first)


def test_a_second_try_to_create_leaves_the_record_of_another_alone(url: str) -> None:
    from pymongo.errors import AutoReconnect

    store = mongodb(url, collection="taken")
    theirs = new_record(store, b"theirs")
    assert store.create(theirs)
    create = store._create

    def closed(wanted: Any) -> Any:
        store._create = create
        raise AutoReconnect("connection closed")

    store._create = closed
    mine = theirs._replace(payload=b"mine", expires=theirs.expires + 60_000)
    assert not store.create(mine)
    assert store.load(theirs.handle) == theirs


class Replicating(MongoDB):
    """A replica set with no other members, whose commands can be made to fail."""

    name = "mongodb-attacked"

    def command(self, folder: Path) -> list[str]:
        more = ["--replSet", "rs", "--setParameter", "enableTestCommands=1"]
        return [*super().command(folder), *more]


@pytest.fixture(scope="module")
def lone(request: pytest.FixtureRequest) -> Iterator[tuple[MongoDB, Any]]:
    import pymongo
    from conftest import get_server

    get_server(request, "mongodb")
    mongod = Replicating()
    mongod.start()
    with pymongo.MongoClient(mongod.url, directConnection=True) as client:
        members = [{"_id": 0, "host": f"127.0.0.1:{mongod.port}"}]
        client.admin.command("replSetInitiate", {"_id": "rs", "members": members})
        deadline = time.monotonic() + 20
        while not client.admin.command("hello")["isWritablePrimary"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield mongod, client
    mongod.stop()


def fail(client: Any, times: int, *commands: str, **how: Any) -> None:
    data = {"failCommands": [*commands], **how}
    client.admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=data)


def test_a_second_try_to_create_is_not_done_before_enough_members_have_it(
    lone: tuple[MongoDB, Any],
) -> None:
    mongod, client = lone
    asked = "replicaSet=rs&serverMonitoringMode=poll&heartbeatFrequencyMS=500"
    store = mongodb(f"{mongod.url}?{asked}", timeout=10.0)
    store.ping()
    wrong = {"code": 189, "errmsg": "stepped down", "codeName": "PrimarySteppedDown"}
    fail(client, 3, "insert", "update", writeConcernError=wrong)
    with pytest.raises(StoreUnavailable):
        store.create(new_record(store))


def test_one_address_whose_server_was_demoted_is_asked_for_anew(
    lone: tuple[MongoDB, Any],
) -> None:
    mongod, client = lone
    store = mongodb(f"{mongod.url}?directConnection=true", timeout=5.0)
    store.ping()
    store._connections._made_at -= 10
    former = store._connections.client
    fail(client, 1, "insert", errorCode=10107)
    assert store.create(new_record(store))
    assert store._connections.client is not former
    assert store._collection.database.client is store._connections.client


def test_sessions_are_read_from_the_primary_whatever_the_url_prefers(url: str) -> None:
    import pymongo

    store = mongodb(f"{url}?readPreference=secondaryPreferred")
    assert store._collection.read_preference == pymongo.ReadPreference.PRIMARY


@pytest.mark.parametrize(
    ("option", "value"),
    [("partialFilterExpression", {"x": 1}), ("collation", {"locale": "de"}), ("hidden", True)],
)
def test_an_index_that_does_not_serve_is_told(url: str, option: str, value: object) -> None:
    store = mongodb(url, collection=f"unserved{option}")
    keys = [("subject", 1), ("_id", 1), ("lifetime", 1)]
    store._collection.create_index(keys, **{option: value})
    assert store.create(new_record(store))
    told = [text for text in store.examine().warnings if "begins with subject" in text]
    assert len(told) == 1
    assert "Drop" in told[0]


def test_an_index_that_removes_only_some_is_told(url: str) -> None:
    store = mongodb(url, collection="some")
    options = {"expireAfterSeconds": 0, "partialFilterExpression": {"x": 1}}
    store._collection.create_index("expires", **options)
    assert store.create(new_record(store))
    assert ["TTL index" in text for text in store.examine().warnings] == [True]


def test_an_index_of_others_that_refuses_is_not_called_a_handle_that_is_taken(url: str) -> None:
    store = mongodb(url, collection="unique")
    store._collection.create_index("subject", unique=True)
    assert store.create(new_record(store, subject="ada"))
    with pytest.raises(StoreError, match="remove that index"):
        store.create(new_record(store, subject="ada"))
