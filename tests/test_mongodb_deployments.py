"""MongoDB as real sites run it: crashes, users with few permissions, forks, slow servers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from deployments import ReplicaSet
from flask import Flask
from servers import MongoDB
from servers import Server
from slow import SlowLine
from test_life_of_a_request import store_of
from test_listing import sessions_of

from flask_serverside import ConfigurationError
from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.stores import Fault
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

pytestmark = [pytest.mark.group("mongo"), pytest.mark.alone]

#: What the documentation says that a user needs.
ACTIONS = ("find", "insert", "update", "remove")


@pytest.fixture
def url(server: Callable[[str], Server]) -> str:
    found = server("mongodb")
    assert isinstance(found, MongoDB)
    return found.url


@pytest.fixture
def own_server(url: str) -> Iterator[MongoDB]:
    mongod = MongoDB()
    mongod.start()
    yield mongod
    mongod.stop()


#: The stores that a test has made.
MADE: list[Any] = []


def make(url: Any, **options: Any) -> Any:
    from flask_serverside.stores.mongodb import MongoDBStore

    MADE.append(MongoDBStore(url, **options))
    return MADE[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def test_what_was_confirmed_is_there_after_a_crash(own_server: MongoDB) -> None:
    for _ in range(2):
        store = make(own_server.url)
        saved = [new_record(store, b"saved") for _ in range(20)]
        ended = [new_record(store, b"ended") for _ in range(20)]
        for record in saved + ended:
            assert store.create(record)
        changed = [saved_again(record, b"changed") for record in saved]
        for record, old in zip(changed, ended, strict=True):
            assert store.replace(record) is record
            assert store.end(old)
        own_server.kill()
        own_server.start()
        store = make(own_server.url, timeout=20.0)
        assert [store.load(r.handle).payload for r in changed] == [b"changed"] * 20
        standing = [store.find(record.handle) for record in ended]
        assert [r for r in standing if r is not None and not r.ended] == []


@pytest.fixture(scope="module")
def replica_set(request: pytest.FixtureRequest) -> Iterator[ReplicaSet]:
    from conftest import get_server

    get_server(request, "mongodb")
    members = ReplicaSet()
    with members.running():
        yield members


@contextmanager
def only_the_primary_answers(members: ReplicaSet) -> Iterator[None]:
    """Until it notices, which takes a second."""
    members.settle()
    primary = members.primary
    others = [member for member in members.members if member is not primary]
    for member in others:
        member.freeze()
    try:
        yield
    finally:
        for member in others:
            member.thaw()
        members.settle()


@pytest.mark.parametrize("option", ["", "&journal=true"])
def test_what_one_member_of_a_replica_set_has_is_not_confirmed(
    replica_set: ReplicaSet, option: str
) -> None:
    make(replica_set.url, timeout=20.0).count()  # the collection and its indexes
    store = make(replica_set.url + option, timeout=0.5)
    with only_the_primary_answers(replica_set), pytest.raises(StoreUnavailable):
        store.create(new_record(store))


@pytest.mark.parametrize("level", ["local", "majority", "available"])
def test_what_is_compared_with_is_what_is_read(replica_set: ReplicaSet, level: str) -> None:
    store = make(f"{replica_set.url}&w=1&readConcernLevel={level}", timeout=5.0)
    record = new_record(store)
    store.create(record)
    theirs = saved_again(record, b"theirs")
    with only_the_primary_answers(replica_set):
        store.replace(theirs)
        assert store.replace(saved_again(record, b"mine")) == theirs
        assert store.load(record.handle) == theirs


@pytest.mark.parametrize(
    ("option", "journal"), [("", True), ("?journal=true", True), ("?journal=false", False)]
)
def test_a_client_from_a_url_asks_for_the_journal(url: str, option: str, journal: bool) -> None:
    store = make(url + option)
    assert store._collection.write_concern.document["j"] is journal
    told = [text for text in store.examine().warnings if "journal" in text]
    assert len(told) == (not journal)


def test_a_client_without_the_journal_is_warned_of(url: str) -> None:
    import pymongo

    with pymongo.MongoClient(url) as client:
        told = [text for text in make(client).examine().warnings if "journal" in text]
    assert len(told) == 1


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("sokketTimeoutMS=5", "sokketTimeoutMS"),
        ("tls=maybe", "tls"),
        ("w=0", "w=0"),
        ("readPreference=nearby", "readPreference"),
    ],
)
def test_an_option_that_cannot_work_is_named_at_start_up(option: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"SESSION_MONGODB.*{name}") as told:
        make(f"mongodb://ada:hidden@localhost/shop?{option}&w=majority")
    assert "hidden" not in str(told.value)


# -- permissions


class Guarded(MongoDB):
    """With users."""

    name = "mongodb-auth"

    def command(self, folder: Path) -> list[str]:
        return [*super().command(folder), "--auth"]


@pytest.fixture(scope="module")
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    from conftest import get_server

    get_server(request, "mongodb")
    mongod = Guarded()
    mongod.start()
    yield mongod
    mongod.stop()


@pytest.fixture(scope="module")
def admin(guarded: Guarded) -> Iterator[Any]:
    import pymongo

    with pymongo.MongoClient(guarded.url) as first:
        first.admin.command("createUser", "root", pwd="pw", roles=["root"])
    with pymongo.MongoClient(guarded.url, username="root", password="pw") as client:
        yield client


def user(admin: Any, guarded: Guarded, name: str, *actions: str) -> str:
    """The URL of one who may do this on the collection, and nothing else."""
    resource = {"db": "shop", "collection": name}
    privileges = [{"resource": resource, "actions": [*actions]}]
    admin.shop.command("createRole", f"{name}Role", privileges=privileges, roles=[])
    admin.shop.command("createUser", name, pwd="pw", roles=[f"{name}Role"])
    return f"mongodb://{name}:pw@127.0.0.1:{guarded.port}/shop"


def use_all(app: Flask) -> None:
    """What sites do with sessions, each once."""
    session = sessions_of(app)
    client = app.test_client()
    assert client.get("/write?_user_id=ada").status_code == 200
    assert client.get("/write?a=1").status_code == 200
    assert client.get("/regenerate").status_code == 200
    assert client.get("/read").json["_user_id"] == "ada"
    assert len(list(session.list("ada"))) == session.count() == 1
    assert session.revoke_subject("ada") == 1
    assert client.get("/write?_user_id=ada").status_code == 200
    assert client.get("/clear").status_code == 200
    session.purge()
    store_of(app).ping()
    assert session.revoke_all() == 0
    told = store_of(app).examine()
    assert [text for text in told.warnings if "journal" in text] == []


@pytest.mark.parametrize("create", [True, False])
def test_the_actions_in_the_documentation_suffice(
    admin: Any, guarded: Guarded, make_app: Callable[..., Flask], create: bool
) -> None:
    name = f"sessions{create}"
    more = ["createIndex"] if create else []
    app = make_app(
        SESSION_TYPE="mongodb",
        SESSION_MONGODB=user(admin, guarded, name, *ACTIONS, *more),
        SESSION_MONGODB_COLLECT=name,
        SESSION_MONGODB_CREATE=create,
    )
    use_all(app)
    indexes = admin.shop[name].index_information()
    assert [*indexes] == ["_id_"] + ["expires_1", "subject_1__id_1_lifetime_1"] * create


@pytest.mark.parametrize("missing", [*ACTIONS, "createIndex"])
def test_who_lacks_an_action_is_told_which(admin: Any, guarded: Guarded, missing: str) -> None:
    name = f"no{missing}"
    actions = {*ACTIONS, "createIndex"} - {missing}
    store = make(user(admin, guarded, name, *actions), collection=name)
    record = new_record(store)

    def use() -> None:
        store.create(record)
        store.load(record.handle)
        store.touch(record)
        store.delete(record.handle)

    with pytest.raises(StoreError, match=f"action {missing} on") as told:
        use()
    assert not isinstance(told.value, StoreUnavailable)
    assert ("SESSION_MONGODB_CREATE" in str(told.value)) == (missing == "createIndex")


def test_a_wrong_password_is_no_outage(admin: Any, guarded: Guarded) -> None:
    store = make(f"mongodb://root:hidden@127.0.0.1:{guarded.port}/shop?authSource=admin")
    with pytest.raises(StoreError, match="Correct the user, the password") as told:
        store.ping()
    assert not isinstance(told.value, StoreUnavailable)
    assert "hidden" not in str(told.value)
    store = make(guarded.url)
    with pytest.raises(StoreError, match="Put a user and a password"):
        store.ping()


def test_an_index_of_the_administrators_own_is_accepted(url: str) -> None:
    import pymongo

    with pymongo.MongoClient(url) as client:
        collection = client.flask_session.administered
        collection.create_index("expires", name="mine", expireAfterSeconds=3600)
        collection.create_index(
            [("subject", 1), ("_id", 1), ("lifetime", 1)], name="subjects", sparse=True
        )
        store = make(url, collection="administered")
        record = new_record(store, subject="ada")
        assert store.create(record)
        assert [entry.record.handle for entry in store.entries("ada")] == [record.handle]
        assert "mine" in collection.index_information()
        assert store.examine().warnings == ()


# -- what an error means


def faults_of() -> list[tuple[Any, Fault]]:
    from pymongo import errors

    def label(error: Any, name: str) -> Any:
        error._add_error_label(name)
        return error

    full = errors.OperationFailure
    return [
        (errors.AutoReconnect("connection closed"), Fault.STALE),
        (errors.NotPrimaryError("not primary", {"code": 10107}), Fault.STALE),
        (full("stepped down", 189), Fault.STALE),
        (errors.NetworkTimeout("timed out"), Fault.UNAVAILABLE),
        (errors.ServerSelectionTimeoutError("no primary"), Fault.UNAVAILABLE),
        (errors.WaitQueueTimeoutError("no connection"), Fault.UNAVAILABLE),
        (errors.ExecutionTimeout("time", 50), Fault.UNAVAILABLE),
        (errors.WTimeoutError("too few", 64), Fault.UNAVAILABLE),
        (errors.WriteConcernError("stepped down", 189), Fault.STALE),
        (errors.WriteConcernError("only two members", 100), Fault.REFUSED),
        (errors.WriteConcernError("who knows", 4711), Fault.UNAVAILABLE),
        (full("time", 262), Fault.UNAVAILABLE),
        (full("disk", 14031), Fault.UNAVAILABLE),
        (label(full("who knows", 4711), "RetryableWriteError"), Fault.UNAVAILABLE),
        (label(full("who knows", 4711), "TransientTransactionError"), Fault.UNAVAILABLE),
        (full("permission", 13), Fault.REFUSED),
        (full("password", 18), Fault.REFUSED),
        (full("atlas", 8000), Fault.REFUSED),
        (full("name", 73), Fault.REFUSED),
        (full("value", 2), Fault.REFUSED),
        (errors.InvalidName("no name"), Fault.REFUSED),
    ]


def test_what_can_pass_by_itself_is_told_from_what_cannot() -> None:
    from flask_serverside.stores.mongodb.faults import fault

    for error, meaning in faults_of():
        assert fault(error) is meaning, repr(error)


class Member(MongoDB):
    """A replica set with no other members."""

    name = "mongodb-set"

    def command(self, folder: Path) -> list[str]:
        more = ["--replSet", "rs", "--setParameter", "enableTestCommands=1"]
        return [*super().command(folder), *more]

    def initiate(self) -> Any:
        import pymongo

        client: Any = pymongo.MongoClient(self.url, directConnection=True)
        members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
        client.admin.command("replSetInitiate", {"_id": "rs", "members": members})
        deadline = time.monotonic() + 20
        while not client.admin.command("hello")["isWritablePrimary"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return client


@pytest.fixture(scope="module")
def member(request: pytest.FixtureRequest) -> Iterator[tuple[Member, Any]]:
    from conftest import get_server

    get_server(request, "mongodb")
    mongod = Member()
    mongod.start()
    client = mongod.initiate()
    yield mongod, client
    client.close()
    mongod.stop()


def fail(client: Any, mode: Any, **data: Any) -> None:
    client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)


def test_a_write_that_too_few_have_confirmed_is_not_reported_as_done(
    member: tuple[Member, Any],
) -> None:
    mongod, client = member
    store = make(f"{mongod.url}?replicaSet=rs", timeout=5.0)
    record = new_record(store, b"first")
    assert store.create(record)
    for code, expected in ((64, StoreUnavailable), (100, StoreError)):
        changed = saved_again(store.load(record.handle), b"changed")
        wrong = {"code": code, "errmsg": "too few", "codeName": "x"}
        fail(client, {"times": 1}, failCommands=["update"], writeConcernError=wrong)
        with pytest.raises(expected):
            store.replace(changed)
        # It was applied all the same; whoever saves next finds that.
        standing = store.replace(changed)
        assert standing is not changed
        assert standing.payload == b"changed"


def test_a_write_on_which_the_primary_steps_down_is_done_once(
    member: tuple[Member, Any],
) -> None:
    mongod, client = member
    # It has not really stepped down, and so does not tell that it is primary again.
    asked = "replicaSet=rs&serverMonitoringMode=poll&heartbeatFrequencyMS=500"
    store = make(f"{mongod.url}?{asked}", timeout=10.0)
    store.ping()
    wrong = {"code": 189, "errmsg": "stepped down", "codeName": "PrimarySteppedDown"}
    record = new_record(store, b"first")
    fail(client, {"times": 1}, failCommands=["insert"], writeConcernError=wrong)
    assert store.create(record)
    changed = saved_again(record, b"changed")
    fail(client, {"times": 1}, failCommands=["update"], writeConcernError=wrong)
    assert store.replace(changed) is changed
    fail(client, {"times": 1}, failCommands=["update"], errorCode=10107)
    changed = saved_again(changed, b"again")
    assert store.replace(changed) is changed
    fail(client, {"times": 1}, failCommands=["delete"], closeConnection=True)
    assert store.delete(record.handle)
    assert store.load(record.handle) is None


# -- time


@pytest.mark.parametrize("first", [True, False])
def test_a_server_that_takes_its_time_for_each_answer_has_one_limit(
    url: str, first: bool
) -> None:
    line = SlowLine(int(url.rpartition(":")[2].strip("/")), 1.5)
    store = make(f"mongodb://127.0.0.1:{line.port}/", create=first)
    record = new_record(store)
    try:
        for operation in (
            lambda: store.load(record.handle),
            lambda: store.replace(saved_again(record, b"x")),
            lambda: store.delete(record.handle),
            lambda: store.count("ada"),
        ):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                operation()
            assert time.monotonic() - began < 2.0 + 0.3
    finally:
        line.close()


# -- forks

FORKING = """
import ctypes, os, sys, threading, time, traceback
import pymongo
from flask_serverside.stores.mongodb import MongoDBStore
from flask_serverside.testing import new_record, saved_again

url, given = sys.argv[1], sys.argv[2] == "given"
store = MongoDBStore(pymongo.MongoClient(url) if given else url, timeout=10.0)

def work(name, turns):
    record = new_record(store, b"0")
    assert store.create(record)
    for turn in range(turns):
        loaded = store.load(record.handle)
        assert loaded.payload == str(turn).encode()
        changed = saved_again(loaded, str(turn + 1).encode())
        assert store.replace(changed) is changed

def several(name, turns):
    failed = []
    threading.excepthook = lambda e: failed.append(e.exc_value)
    threads = [threading.Thread(target=work, args=(name, turns)) for _ in range(3)]
    [t.start() for t in threads]
    return threads, failed

# None of them is at work at the moment of the fork: Python itself does not survive that.
threads, failed = several("before", 10)
[t.join() for t in threads]
assert not failed, failed
children = []
fork = ctypes.PyDLL(None).fork  # as uWSGI does: Python's hooks do not run
for number in range(4):
    child = fork()
    if not child:
        status = 1
        try:
            threads, wrong = several("child", 30)
            [t.join(30) for t in threads]
            status = 1 if wrong or any(t.is_alive() for t in threads) else 0
            [traceback.print_exception(e) for e in wrong]
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    children.append(child)
threads, failed = several("parent", 100)
[t.join() for t in threads]
assert not failed, failed
assert [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children] == [0] * 4
"""


@pytest.mark.parametrize("client", ["made", "given"])
def test_a_fork_without_hooks_leaves_the_parents_connections_alone(
    url: str, client: str
) -> None:
    said = subprocess.run(
        [sys.executable, "-c", FORKING, url, client],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert said.returncode == 0, said.stderr


def test_connections_that_another_thread_has_just_closed_are_left(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymongo.errors import PyMongoError

    class _PoolClosedError(PyMongoError):
        """PyMongo's own, which it keeps to itself."""

    store = make(url)
    record = new_record(store)
    store.create(record)

    def close(*arguments: Any, **options: Any) -> None:
        monkeypatch.undo()
        raise _PoolClosedError("closed")

    monkeypatch.setattr(type(store._collection), "update_one", close)
    changed = saved_again(record, b"changed")
    assert store.replace(changed) is changed


# -- size


def test_lists_do_not_fetch_what_is_large(url: str) -> None:
    import pymongo
    from pymongo import monitoring

    class Heard(monitoring.CommandListener):
        largest = 0

        def started(self, event: Any) -> None: ...

        def succeeded(self, event: Any) -> None:
            for document in event.reply.get("cursor", {}).get("firstBatch", []):
                size = sum(
                    len(value) for value in document.values() if isinstance(value, bytes)
                )
                self.largest = max(self.largest, size)

        def failed(self, event: Any) -> None: ...

    heard = Heard()
    with pymongo.MongoClient(url, event_listeners=[heard]) as client:
        store = make(client, collection="large")
        records = [new_record(store, b"x" * 300_000, subject="thief") for _ in range(20)]
        for record in records:
            store.create(record)
        assert [entry.size for entry in store.entries("thief")] == [300_000] * 20
        assert store.count("thief") == 20
        assert len(list(store.end_all("thief"))) == 20
        assert store.count("thief") == 0
        assert 0 < heard.largest < 2000


def test_a_session_whose_rest_is_gone_is_not_taken_for_a_smaller_one(url: str) -> None:
    store = make(url, collection="cut")
    record = new_record(store, b"x" * 5000)
    store.create(record)
    store._collection.update_one({"_id": record.handle}, {"$set": {"rest": b""}})
    from flask_serverside import SerializationError

    with pytest.raises(SerializationError, match="cut off"):
        store.load(record.handle)
