"""SQL servers that close connections, turn read-only, refuse, or answer slowly."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backends import PATIENCE
from backends import Running
from deployments import wait_until
from proxy import Proxy
from servers import MariaDB
from servers import PostgreSQL
from servers import Server

from flask_serverside import StoreError
from flask_serverside import StoreUnavailable
from flask_serverside.testing import new_record
from flask_serverside.testing import saved_again

pytestmark = [pytest.mark.group("sql"), pytest.mark.alone]

USER, PASSWORD = "shop", "s3cret-pass"


def make_store(url: Any, **options: Any) -> Any:
    from flask_serverside.stores.sqlalchemy import SQLAlchemyStore

    return SQLAlchemyStore(url, **{"timeout": PATIENCE, **options})


def refused(store: Any, work: Callable[[], Any]) -> str:
    """What the store says of an error that cannot pass by itself."""
    with contextlib.closing(store), pytest.raises(StoreError) as raised:
        work()
    assert not isinstance(raised.value, StoreUnavailable), raised.value
    assert PASSWORD not in str(raised.value)
    return str(raised.value)


class StrictMariaDB(MariaDB):
    """With users, passwords and grants."""

    def prepare(self, folder: Path) -> None:
        assert self.program is not None
        scripts = Path("/usr/share/mysql")
        tables = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
        first = "CREATE DATABASE mysql;\nUSE mysql;\n"
        first += "SET @auth_root_socket = NULL, @current_hostname = 'localhost';\n"
        command = [self.program, "--no-defaults", "--bootstrap", f"--datadir={folder}"]
        subprocess.run(
            [*command, *(["--user=root"] if os.geteuid() == 0 else [])],
            input=first + "".join((scripts / name).read_text() for name in tables),
            check=True,
            capture_output=True,
            text=True,
        )

    def command(self, folder: Path) -> list[str]:
        return [part for part in super().command(folder) if part != "--skip-grant-tables"]


class StrictPostgreSQL(PostgreSQL):
    """Where all but the superuser have passwords."""

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        rules = (
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        (folder / "data" / "pg_hba.conf").write_text(rules)


def sent(server: Server, *statements: str) -> list[Any]:
    """What the server's own administrator is answered to the last statement."""
    import sqlalchemy as sa

    engine = sa.create_engine(server.url, isolation_level="AUTOCOMMIT")  # type: ignore[attr-defined]
    with engine.connect() as connection:
        for statement in statements:
            answer = connection.exec_driver_sql(statement)
        rows = [*answer] if answer.returns_rows else []
    engine.dispose()
    return rows


@pytest.fixture(scope="module", params=[StrictPostgreSQL, StrictMariaDB], ids=lambda k: k.name)
def strict(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = request.param()
    server.start()
    if isinstance(server, PostgreSQL):
        sent(server, f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
    else:
        sent(server, f"CREATE USER {USER}@'%%' IDENTIFIED BY '{PASSWORD}'")
    yield server
    server.stop()


def url_of(server: Any, **changes: Any) -> Any:
    import sqlalchemy as sa

    return sa.make_url(server.url).set(**{"username": USER, "password": PASSWORD, **changes})


# -- what cannot pass by itself ------------------------------------------------------------


def test_a_wrong_password_is_no_outage(strict: Server) -> None:
    store = make_store(url_of(strict, password="wrong-one"))
    said = refused(store, lambda: store.load("0" * 64))
    assert "Check the user, the password" in said
    assert "wrong-one" not in said


def test_an_unknown_database_is_no_outage(strict: Server) -> None:
    for user in ({}, {"username": "root" if strict.name == "mariadb" else "postgres"}):
        store = make_store(url_of(strict, database="nowhere", **user, password=None))
        said = refused(store, lambda store=store: store.load("0" * 64))
        assert "Check the user" in said or "no such database" in said or "rights" in said


def granted(server: Server, table: str) -> Any:
    """A URL of a user who has the rights to a table that docs/backends.rst lists."""
    text = (Path(__file__).parents[1] / "docs" / "backends.rst").read_text()
    rights = next(
        line.strip() for line in text.splitlines() if line.strip().startswith("GRANT SELECT")
    )
    grantee = f"{USER}@'%%'" if server.name == "mariadb" else USER
    sent(server, re.sub(r"ON \S+ TO .*", f"ON {table} TO {grantee}", rights))
    return url_of(server)


def everything(store: Any) -> None:
    """All that a store sends."""
    mine = [new_record(store, subject="ada") for _ in range(3)]
    for record in mine:
        assert store.create(record)
    later = saved_again(mine[0], b"more")
    assert store.replace(later) is later
    assert store.touch(later._replace(seen=later.seen + 1, expires=later.expires + 1))
    assert store.load(mine[1].handle) == mine[1]
    assert store.count("ada") == 3
    assert len([*store.entries("ada")]) == len([*store.entries()]) == 3
    assert store.end(mine[1])
    assert store.delete(mine[2].handle)
    assert len([*store.end_all("ada")]) == 1
    store.purge()
    store.ping()
    assert not store.examine().warnings


def test_the_documented_grants_suffice_for_all_that_is_sent(strict: Server) -> None:
    table = f"granted_{secrets.token_hex(4)}"
    owner = make_store(strict.url, table=table)  # type: ignore[attr-defined]
    owner.ping()
    owner.close()
    store = make_store(granted(strict, table), table=table, create=False)
    everything(store)
    store.close()


def test_a_right_that_is_missing_is_named(strict: Server) -> None:
    table = f"refused_{secrets.token_hex(4)}"
    owner = make_store(strict.url, table=table)  # type: ignore[attr-defined]
    owner.ping()
    owner.close()
    grantee = f"{USER}@'%%'" if strict.name == "mariadb" else USER
    sent(strict, f"GRANT SELECT ON {table} TO {grantee}")
    store = make_store(url_of(strict), table=table, create=False)
    assert store.load("0" * 64) is None
    assert "Grants" in refused(store, lambda: store.create(new_record(store)))


def test_a_table_or_a_column_that_is_missing_is_named(sql_url: str) -> None:
    import sqlalchemy as sa

    table = f"missing_{secrets.token_hex(4)}"
    store = make_store(sql_url, table=table, create=False)
    assert "Create the table" in refused(store, lambda: store.load("0" * 64))
    engine = sa.create_engine(sql_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {table} (handle VARCHAR(64) PRIMARY KEY)")
    store = make_store(sql_url, table=table)
    assert "Compare the table" in refused(store, lambda: store.load("0" * 64))
    engine.dispose()


def test_a_sqlite_file_that_cannot_be_written_is_no_outage(tmp_path: Path) -> None:
    store = make_store(f"sqlite:///{tmp_path}/fine.sqlite")
    record = new_record(store)
    store.create(record)
    store.close()
    store = make_store(f"sqlite:///file:{tmp_path}/fine.sqlite?mode=ro&uri=true")
    assert store.load(record.handle) == record
    assert "cannot be written" in refused(store, lambda: store.create(new_record(store)))
    store = make_store(f"sqlite:///{tmp_path}/no/such/folder.sqlite")
    assert "owner" in refused(store, lambda: store.load("0" * 64))


def test_a_sqlite_file_that_others_write_to_is_an_outage(tmp_path: Path) -> None:
    import sqlite3

    store = make_store(f"sqlite:///{tmp_path}/busy.sqlite", timeout=5.0)
    store.ping()
    store.timeout = 0.5
    other = sqlite3.connect(tmp_path / "busy.sqlite")
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="locked"):
        store.create(new_record(store))
    assert 0.4 < time.monotonic() - began < 0.8
    other.close()
    store.close()


# -- servers that turn read-only -----------------------------------------------------------

READ_ONLY = "default_transaction_read_only"


def test_after_a_failover_behind_one_address_the_old_server_is_left(
    strict: Server, server: Callable[[str], Server]
) -> None:
    new: Any = server(strict.name)
    proxy = Proxy(strict.port)
    table = f"failover_{secrets.token_hex(4)}"
    for each in (strict, new):
        with contextlib.closing(make_store(each.url, table=table)) as store:  # type: ignore[attr-defined]
            store.ping()
    if strict.name == "mariadb":
        with contextlib.suppress(Exception):
            sent(strict, f"GRANT ALL ON test.* TO {USER}@'%%'")
        url, off = url_of(strict, port=proxy.port), "SET GLOBAL read_only = 0"
        demote = ["SET GLOBAL read_only = 1"]
    else:
        url, off = (
            url_of(strict, port=proxy.port, username="postgres", password=None),
            f"ALTER SYSTEM RESET {READ_ONLY}",
        )
        demote = [f"ALTER SYSTEM SET {READ_ONLY} = on"]
        demote.append("SELECT pg_reload_conf()")
    store = make_store(url, table=table)
    record = new_record(store)
    try:
        assert store.create(record)
        with contextlib.closing(make_store(new.url, table=table)) as replica:
            replica.create(record)
        sent(strict, *demote)
        if strict.name == "postgresql":  # it tells its processes, and then makes one that knows
            wait_until(lambda: [*sent(strict, f"SHOW {READ_ONLY}")[0]] == ["on"])
        proxy._target = new.port
        later = saved_again(record, b"after the failover")
        assert store.replace(later) is later
        assert store.load(record.handle) == later
        with contextlib.closing(make_store(new.url, table=table)) as replica:
            assert replica.load(record.handle) == later
    finally:
        store.close()
        proxy.close()
        sent(strict, off, *demote[1:])


def test_a_server_that_stays_read_only_is_an_outage(strict: Server) -> None:
    table = f"standby_{secrets.token_hex(4)}"
    with contextlib.closing(make_store(strict.url, table=table)) as owner:  # type: ignore[attr-defined]
        owner.ping()
    if strict.name == "mariadb":
        sent(strict, f"GRANT ALL ON test.* TO {USER}@'%%'")
        store = make_store(url_of(strict), table=table)
        demote, promote = "SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"
    else:
        options = {"options": "-c default_transaction_read_only=on"}
        url = url_of(strict, username="postgres", password=None).update_query_dict(options)
        store = make_store(url, table=table)
        demote = promote = "SELECT 1"
    sent(strict, demote)
    with contextlib.closing(store), pytest.raises(StoreUnavailable):
        store.create(new_record(store))
    sent(strict, promote)


# -- connections that are closed -----------------------------------------------------------


def close_idle(server: Any) -> None:
    """End all connections but this one, as an administrator or an idle timeout does."""
    if server.name == "postgresql":
        sent(
            server,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        return
    for (number,) in sent(
        server, "SELECT id FROM information_schema.processlist WHERE id <> connection_id()"
    ):
        with contextlib.suppress(Exception):
            sent(server, f"KILL {number}")


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "create": lambda store, record: store.create(new_record(store)),
    "load": lambda store, record: store.load(record.handle) == record,
    "replace": lambda store, record: (
        (later := saved_again(record, b"2")) is store.replace(later)
    ),
    "touch": lambda store, record: store.touch(
        record._replace(seen=record.seen + 1, expires=record.expires + 1)
    ),
    "delete": lambda store, record: store.delete(record.handle),
    "list": lambda store, record: [e.record.handle for e in store.entries(record.subject)],
    "count": lambda store, record: store.count(record.subject) == 1,
    "end_all": lambda store, record: [*store.end_all(record.subject)],
    "purge": lambda store, record: store.purge() is not None,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_connection_that_was_killed_is_not_noticed(strict: Any, operation: str) -> None:
    store = make_store(strict.url)
    record = new_record(store, subject=secrets.token_hex(8))
    store.create(record)
    close_idle(strict)
    assert OPERATIONS[operation](store, record)
    store.close()


@pytest.mark.parametrize("operation", ["replace", "end_all"])
def test_a_connection_that_was_idle_for_too_long_is_not_noticed(
    strict: Any, operation: str
) -> None:
    idle = (
        {"options": "-c idle_session_timeout=300ms"}
        if strict.name == "postgresql"
        else {"init_command": "SET wait_timeout = 1"}
    )
    store = make_store(strict.url, engine_options={"connect_args": idle})
    record = new_record(store, subject=secrets.token_hex(8))
    store.create(record)
    time.sleep(1.5)
    assert OPERATIONS[operation](store, record)
    store.close()


# -- one time limit ------------------------------------------------------------------------


class Slow(Proxy):
    """Passes on what the server says, late or a byte at a time."""

    delay = 0.0
    bytewise = False

    def _pass_on(self, source: Any, sink: Any, asks: bool, heard: list[bool]) -> None:
        if asks:
            return super()._pass_on(source, sink, asks, heard)
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.delay)
                parts = [data[n : n + 1] for n in range(len(data))] if self.bytewise else [data]
                for part in parts:
                    sink.sendall(part)
                    time.sleep(0.05 if self.bytewise else 0)
        with contextlib.suppress(OSError):
            sink.close()


@pytest.mark.parametrize("bytewise", [False, True], ids=["late answers", "byte by byte"])
@pytest.mark.parametrize("connected", [False, True], ids=["connecting", "connected"])
def test_a_slow_server_makes_no_operation_last_longer_than_the_limit(
    server_backend: Running, bytewise: bool, connected: bool
) -> None:
    assert server_backend.server is not None
    if server_backend.backend.group != "sql":
        return
    proxy = Slow(server_backend.server.port)
    url = server_backend.config["SESSION_SQLALCHEMY"]
    store = make_store(url.replace(str(server_backend.server.port), str(proxy.port)))
    record = new_record(store)
    if connected:
        store.create(record)
    store.timeout = 1.0
    proxy.delay, proxy.bytewise = (0.0, True) if bytewise else (0.7, False)
    for work in (
        lambda: store.load(record.handle),
        lambda: store.create(new_record(store)),
        lambda: store.replace(saved_again(record, b"2")),
        # Which takes a second trip, to see what stands there now.
        lambda: store.replace(saved_again(record, b"3")),
    ):
        began = time.monotonic()
        with contextlib.suppress(StoreUnavailable):
            work()
        assert time.monotonic() - began < 1.3
    store.close()
    proxy.close()


def test_a_host_that_does_not_answer_leaves_time_for_the_next(
    server: Callable[[str], Server],
) -> None:
    """As libpq takes several hosts in a URL."""
    real, frozen = server("postgresql"), Proxy(1)
    frozen.freeze()
    url = f"postgresql+psycopg://postgres@/postgres?host=127.0.0.1:{frozen.port}&host=127.0.0.1:{real.port}"
    store = make_store(url, timeout=2.0)
    began = time.monotonic()
    assert store.load("0" * 64) is None
    assert time.monotonic() - began < 2
    store.close()
    frozen.close()


def test_all_wait_for_a_frozen_server_no_longer_than_the_limit(
    server: Callable[[str], Server],
) -> None:
    from flask_serverside.testing import at_once

    real = server("postgresql")
    proxy = Proxy(real.port)
    proxy.freeze()
    store = make_store(
        f"postgresql+psycopg://postgres@127.0.0.1:{proxy.port}/postgres", timeout=1.0
    )

    def load(_: int) -> float:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.load("0" * 64)
        return time.monotonic() - began

    assert max(at_once(10, load)) < 1.5
    store.close()
    proxy.close()


# -- many ----------------------------------------------------------------------------------

HEAVY = """
import json, resource, sys, time
from flask_serverside.stores.sqlalchemy import SQLAlchemyStore
from flask_serverside.testing import new_record

url, count, size = json.loads(sys.argv[1])
store = SQLAlchemyStore(url, table="heavy", timeout=20.0)
payload = bytes(range(256)) * (size // 256)
for _ in range(count):
    store.create(new_record(store, payload, subject="thief"))
[*store.entries("nobody")]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.timeout = 2.0
began = time.monotonic()
assert store.count("thief") == count
assert len([*store.entries("thief")]) == count
assert len([*store.end_all("thief")]) == count
seconds = time.monotonic() - began
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, (after - before) / 1024]))
"""


@pytest.mark.parametrize(("count", "size"), [(300, 300_000), (500, 480_000)])
def test_to_list_and_end_large_sessions_takes_no_memory(
    strict: Any, count: int, size: int
) -> None:
    import sys

    arguments = json.dumps([strict.url, count, size])
    said = subprocess.run(
        [sys.executable, "-c", HEAVY, arguments], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    seconds, megabytes = json.loads(said.stdout)
    print(f"{strict.name}: {count} of {size} bytes: {seconds:.2f} s, {megabytes:.1f} MB")
    assert megabytes < 50


@pytest.mark.parametrize("returning", [True, False])
def test_ending_many_spares_tombstones_and_other_subjects(
    sql_url: str, returning: bool
) -> None:
    """MySQL has no ``DELETE ... RETURNING``."""
    store = make_store(sql_url)
    store.ping()
    store._engine.dialect.delete_returning &= returning
    subject = secrets.token_hex(8)
    mine = [new_record(store, subject=subject) for _ in range(3)]
    others = [new_record(store, subject=unlike) for unlike in (subject.upper(), None)]
    for record in mine + others:
        store.create(record)
    tombstone = mine[0].tombstone(store.now(), 30)
    assert store.replace(tombstone) is tombstone
    asked = [record.handle for record in mine + others]
    ended = store._call(store._end_many, asked, subject)
    assert {*ended} == {mine[1].handle, mine[2].handle}
    assert store.find(mine[0].handle) == tombstone
    assert all(store.load(record.handle) for record in others)
    assert {*store._call(store._end_many, asked, None)} == {r.handle for r in others}
    store.close()


@pytest.mark.parametrize("returning", [True, False])
def test_ending_many_at_once_by_several_ends_each_once(sql_url: str, returning: bool) -> None:
    from flask_serverside.testing import at_once

    store = make_store(sql_url)
    store.ping()
    store._engine.dialect.delete_returning &= returning
    subject = secrets.token_hex(8)
    records = [new_record(store, subject=subject) for _ in range(200)]
    for record in records:
        store.create(record)
    ended = at_once(4, lambda _: [record.handle for record in store.end_all(subject)])
    told = [handle for some in ended for handle in some]
    assert sorted(told) == sorted(record.handle for record in records)
    assert store.count(subject) == 0
    store.close()


def test_an_operation_that_fails_leaves_no_transaction_behind(
    server: Callable[[str], Server],
) -> None:
    """Where ending many takes more than one statement."""
    maria: Any = server("mariadb")
    store = make_store(maria.url, engine_options={"pool_size": 1, "max_overflow": 0})
    record = new_record(store, subject=secrets.token_hex(8))
    store.create(record)
    store._engine.dialect.delete_returning = False
    removal = store._statements.ending
    store._statements.ending = lambda *given: (removal(*given)[0], None)
    with pytest.raises(Exception, match="executable"):
        [*store.end_all(record.subject)]
    store._statements.ending = removal
    with contextlib.closing(make_store(maria.url)) as other:
        assert other.delete(record.handle)
    store.close()
