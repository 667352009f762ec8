"""What each error of a real Redis server means: 503 if it can pass by itself, otherwise 500
with what to do."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from proxy import Proxy
from servers import free_port
from servers import Redis
from servers import Server

from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

pytestmark = [pytest.mark.group("redis"), pytest.mark.alone]


@pytest.fixture
def own(server: Callable[[str], Server]) -> Iterator[Redis]:
    """A server that may be told to refuse."""
    assert server("redis")
    started = Redis()
    started.start()
    yield started
    started.stop()


@pytest.fixture
def client(own: Redis) -> Iterator[Any]:
    import redis

    client = redis.Redis(port=own.port)
    yield client
    client.close()


def make_store(url: Any, **options: Any) -> Any:
    from flask_serverside.stores.redis import RedisStore

    return RedisStore(url, **{"timeout": 5, **options})


def work(store: Any, record: Any) -> list[Callable[[], Any]]:
    return [
        lambda: store.create(new_record(store)),
        lambda: store.create(new_record(store, subject="ada")),
        lambda: store.replace(saved_again(record, b"x")),
        lambda: store.touch(record),
    ]


def assert_unavailable(store: Any, record: Any, words: str) -> None:
    for operation in work(store, record):
        with pytest.raises(StoreUnavailable, match=words):
            operation()


def assert_refused(store: Any, words: str, advice: str) -> None:
    for operation in (store.ping, lambda: store.create(new_record(store, subject="ada"))):
        with pytest.raises(StoreError, match=words) as caught:
            operation()
        assert not isinstance(caught.value, StoreUnavailable)
        assert advice in str(caught.value)


def test_a_server_that_cannot_write_to_its_disk_is_unavailable(own: Redis, client: Any) -> None:
    store = make_store(own.url)
    store.create(record := new_record(store))
    assert own._folder is not None
    shutil.rmtree(own._folder)  # where it would save
    client.config_set("save", "1 1")
    client.set("x", 1)
    deadline = time.monotonic() + 20
    while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert_unavailable(store, record, "MISCONF")
    assert store.load(record.handle) == record
    own.kill()  # it would not end without saving


def test_a_server_with_too_few_replicas_is_unavailable(own: Redis, client: Any) -> None:
    store = make_store(own.url)
    store.create(record := new_record(store))
    client.config_set("min-replicas-to-write", 1)
    assert_unavailable(store, record, "NOREPLICAS")


def test_a_server_whose_primary_is_down_is_unavailable(own: Redis, client: Any) -> None:
    store = make_store(own.url)
    store.create(record := new_record(store))
    client.config_set("replica-serve-stale-data", "no")
    client.replicaof("127.0.0.1", free_port())
    with pytest.raises(StoreUnavailable, match=r"(?i)link with master"):
        store.load(record.handle)


def test_a_server_busy_with_a_script_is_unavailable(own: Redis, client: Any) -> None:
    import redis

    store = make_store(own.url)
    store.create(record := new_record(store))
    client.config_set("busy-reply-threshold", 10)
    loop = threading.Thread(target=lambda: _ended(client, "while true do end"))
    loop.start()
    with redis.Redis(port=own.port) as other:
        deadline = time.monotonic() + 20
        while not _busy(other):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(StoreUnavailable, match="BUSY"):
            store.load(record.handle)
        assert_unavailable(store, record, "BUSY")
        other.script_kill()
    loop.join()
    assert store.load(record.handle) == record


def _ended(client: Any, script: str) -> None:
    import redis

    with pytest.raises(redis.ResponseError):
        client.eval(script, 0)


def _busy(client: Any) -> bool:
    import redis

    try:
        client.get("x")
    except redis.ResponseError:
        return True
    return False


def test_a_server_with_too_many_clients_is_unavailable(own: Redis, client: Any) -> None:
    client.ping()
    client.config_set("maxclients", 1)
    with pytest.raises(StoreUnavailable, match=r"max number of clients|not ready"):
        make_store(own.url).ping()


def test_a_wrong_password_is_refused_and_says_so(own: Redis, client: Any) -> None:
    client.execute_command("ACL", "SETUSER", "ada", "on", ">right", "~*", "+@all")
    port = own.port
    assert_refused(make_store(f"redis://ada:wrong@127.0.0.1:{port}"), "(?i)pass", "password")
    assert_refused(make_store(f"redis://:any@127.0.0.1:{port}"), "(?i)password", "take it out")
    client.config_set("requirepass", "secret")
    assert_refused(make_store(f"redis://:wrong@127.0.0.1:{port}"), "(?i)pass", "password")
    assert_refused(make_store(own.url), "(?i)auth", "user and the password")


def test_a_given_client_with_a_wrong_password_is_refused(own: Redis, client: Any) -> None:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client.config_set("requirepass", "secret")
    never = Retry(NoBackoff(), 0)
    for protocol in (2, 3):
        wrong = redis.Redis(port=own.port, password="wrong", protocol=protocol, retry=never)
        assert_refused(make_store(wrong), "(?i)pass", "password")
        wrong.close()


def test_a_database_that_the_server_has_not_is_refused(own: Redis) -> None:
    assert_refused(make_store(own.url[:-1] + "99"), "DB index", "fewer databases")


def refusal_of(operation: Callable[[], Any]) -> str | None:
    try:
        operation()
    except StoreUnavailable:
        raise
    except StoreError as error:
        return str(error)
    return None


@pytest.mark.parametrize("command", ["get", "set", "evalsha", "zadd", "zscore", "time"])
def test_a_command_that_is_not_permitted_is_refused_and_changes_nothing(
    own: Redis, client: Any, command: str
) -> None:
    """In scripts, too: "not permitted" is not taken for "of another type"."""
    admin = make_store(own.url)
    admin.create(record := new_record(admin, subject="ada"))
    rights = ["+@all", f"-{command}"]
    client.execute_command("ACL", "SETUSER", "op", "reset", "on", ">pw", "~*", *rights)
    store = make_store(own.url.replace("redis://", "redis://op:pw@"))
    refused = 0
    for operation in (
        lambda: store.load(record.handle),
        lambda: store.create(new_record(store, subject="ada")),
        lambda: store.create(new_record(store)),
        lambda: store.replace(saved_again(record, b"x", expires=record.expires + 1)),
        lambda: store.touch(record._replace(version=2, expires=record.expires + 2)),
    ):
        told = refusal_of(operation)
        assert told is None or "docs/backends.rst" in told
        refused += told is not None
    assert refused
    assert record.handle in {entry.record.handle for entry in admin.entries("ada")}


def test_a_record_whose_reading_is_not_permitted_is_not_deleted(
    own: Redis, client: Any
) -> None:
    admin = make_store(own.url)
    admin.create(record := new_record(admin, subject="ada"))
    rights = ["+@all", "-getrange"]
    client.execute_command("ACL", "SETUSER", "op", "reset", "on", ">pw", "~*", *rights)
    store = make_store(own.url.replace("redis://", "redis://op:pw@"))
    for operation in (
        lambda: store.delete(record.handle),
        lambda: list(store.end_all("ada")),
        lambda: store.count("ada"),
    ):
        with pytest.raises(StoreError, match=r"getrange|can't run"):
            operation()
    assert admin.load(record.handle) == record
    assert admin.count("ada") == 1


def test_a_server_that_turns_into_a_replica_behind_one_address_is_left(own: Redis) -> None:
    """The proxy is the address. The connections of before lead to the old server for ever."""
    import redis

    other = Redis()
    other.start()
    proxy = Proxy(own.port)
    given = redis.Redis(port=proxy.port)
    stores = [make_store(f"redis://127.0.0.1:{proxy.port}"), make_store(given)]
    try:
        for store in stores:
            store.create(new_record(store, subject="ada"))
        with redis.Redis(port=own.port) as old, redis.Redis(port=other.port) as new:
            old.config_set("repl-diskless-sync-delay", 0)
            new.replicaof("127.0.0.1", own.port)
            _until(lambda: new.info("replication")["master_link_status"] == "up")
            new.replicaof("NO", "ONE")
            old.replicaof("127.0.0.1", other.port)
        proxy._target = other.port  # new connections lead there
        for store in stores:
            for operation in work(store, new_record(store))[:2]:
                assert operation()
            assert store.count("ada") > 1
            store.close()
    finally:
        given.close()
        proxy.close()
        other.stop()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["made", "given"])
def test_a_connection_that_the_server_has_closed_is_not_noticed(
    own: Redis, client: Any, kind: str
) -> None:
    import redis

    given = redis.Redis(port=own.port)
    store = make_store(own.url if kind == "made" else given)
    store.create(record := new_record(store, subject="ada"))
    for operation in (
        lambda: store.touch(record._replace(expires=record.expires + 1)),
        lambda: store.replace(saved_again(record, b"x")).payload == b"x",
        lambda: store.count("ada") == 1,
        lambda: store.delete(record.handle),
        lambda: store.create(new_record(store, subject="ada")),
        lambda: len(list(store.end_all("ada"))) == 1,
        lambda: store.count() == 0,
    ):
        client.client_kill_filter(_type="normal", skipme=True)
        assert operation()
    given.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_connection_that_is_cut_while_a_command_is_on_its_way_is_tried_again(
    own: Redis, protocol: int
) -> None:
    proxy = Proxy(own.port)
    store = make_store(f"redis://127.0.0.1:{proxy.port}?protocol={protocol}")
    store.create(record := new_record(store))
    proxy.freeze()
    cut = threading.Timer(0.3, lambda: (proxy.mend(), proxy.drop()))
    cut.start()
    changed = saved_again(record, b"x")
    assert store.replace(changed) is changed
    cut.join()
    proxy.close()


#: As a script's error is worded by Redis 7, and by Redis 6 and before.
WORDED = {
    "READONLY You can't write against a read only replica.": True,
    "Error running script (call to f_0c): @user_script:16: @user_script: 16: -READONLY You "
    "can't write against a read only replica. ": True,
    "Error running script (call to f_0c): @user_script:60: @user_script: 60: -OOM command not "
    "allowed when used memory > 'maxmemory'. ": True,
    "Error running script (call to f_0c): @user_script:60: -MISCONF Redis is configured to "
    "save RDB snapshots, but ...": True,
    "Error running script (call to f_0c): @user_script:60: -NOREPLICAS Not enough good "
    "replicas to write. ": True,
    "Error running script (call to f_0c): @user_script:4: WRONGTYPE Operation against a key "
    "holding the wrong kind of value ": False,
    "Error running script (call to f_0c): @user_script:4: The user executing the script can't "
    "run this command or subcommand ": False,
    "UNKILLABLE Sorry the script already executed write commands against the dataset.": True,
    "CROSSSLOT Keys in request don't hash to the same slot": False,
    "DENIED Redis is running in protected mode": False,
}


@pytest.mark.parametrize("said", WORDED)
def test_errors_are_known_by_their_codes_however_they_are_worded(said: str) -> None:
    import redis

    from flask_serverside.stores import Fault
    from flask_serverside.stores.redis import faults

    told = faults.meaning(redis.ResponseError(said))
    assert (told is not Fault.REFUSED) is WORDED[said]
    assert (told is Fault.STALE) is ("READONLY" in said)


#: What a server says, and whether that can pass by itself.
SAID = {
    "LOADING Redis is loading the dataset in memory": True,
    "OOM command not allowed when used memory > 'maxmemory'.": True,
    "READONLY You can't write against a read only replica.": True,
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": True,
    "CLUSTERDOWN The cluster is down": True,
    "TRYAGAIN Multiple keys request during rehashing of slot": True,
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN.": True,
    "ERR max number of clients reached": True,
    "ERR max number of clients + cluster connections reached": True,
    "NOAUTH Authentication required.": False,
    "WRONGPASS invalid username-password pair or user is disabled.": False,
    "ERR invalid password": False,
    "ERR AUTH <password> called without any password configured for the default user.": False,
    "NOPERM this user has no permissions to run the 'get' command or its subcommand": False,
    "MOVED 3999 127.0.0.1:6381": False,
    "ERR unknown command 'GET', with args beginning with: 'x'": False,
    "ERR DB index is out of range": False,
}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("driver", ["redis", "valkey"])
def test_the_answers_of_a_server_mean_the_same_by_each_driver(driver: str, said: str) -> None:
    import importlib

    from flask_serverside.stores import Fault
    from flask_serverside.stores.redis import faults

    parsers = importlib.import_module(f"{driver}._parsers")
    error = parsers._RESP2Parser(0).parse_error(said)
    assert (faults.meaning(error) is not Fault.REFUSED) is SAID[said]
    assert bool(faults.advice(error)) is not SAID[said]


def test_a_tombstone_that_is_refused_leaves_the_session_in_the_index(
    own: Redis, client: Any
) -> None:
    admin = make_store(own.url)
    admin.create(record := new_record(admin, subject="ada"))
    client.execute_command("ACL SETUSER", "op", "on", ">pw", "~*", "+@all", "-set")
    with pytest.raises(StoreError, match=r"docs/backends.rst"):
        make_store(own.url.replace("://", "://op:pw@")).end(record)
    assert admin.load(record.handle) == record
    assert admin.count("ada") == 1
    assert len(list(admin.end_all("ada"))) == 1


@pytest.mark.parametrize("subject", [None, "ada"])
def test_who_signs_out_of_a_full_server_has_signed_out(
    own: Redis, client: Any, subject: str | None
) -> None:
    store = make_store(own.url)
    store.create(record := new_record(store, subject=subject))
    client.config_set("maxmemory", 1)
    assert store.end(record)
    standing = store.find(record.handle)
    assert standing is not None
    assert standing.ended
    with pytest.raises(StoreUnavailable, match="maxmemory"):
        store.create(new_record(store))
    client.config_set("maxmemory", 0)
    assert not list(store.entries(subject))
