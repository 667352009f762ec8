"""``flask session``, on every backend: what it tells, what it does, and how it ends."""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from datetime import datetime
from datetime import UTC
from importlib.metadata import entry_points
from typing import Any

import click
import pytest
from backends import Running
from click.testing import Result
from flask import Flask
from flask.cli import ScriptInfo
from proxy import Proxy
from test_damage import put_value

from flask_serverside import cli
from flask_serverside import Session
from flask_serverside.cli.exit_codes import Sessions
from flask_serverside.cli.terminal import watched
from flask_serverside.sealing.envelope import Contents
from flask_serverside.sealing.envelope import Device
from flask_serverside.sealing.envelope import Envelope
from flask_serverside.stores import Entry
from flask_serverside.stores import Record
from flask_serverside.stores import Store
from flask_serverside.testing import Clock

MakeApp = Callable[..., Flask]

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

#: What no other test has its sessions under, on a server that all tests share.
Own = dict[str, str]


@pytest.fixture
def own() -> Own:
    name = f"cli{secrets.token_hex(4)}"
    return {
        "SESSION_KEY_PREFIX": f"{name}:",
        "SESSION_MONGODB_COLLECT": name,
        "SESSION_SQLALCHEMY_TABLE": name,
    }


@pytest.fixture
def app(make_app: MakeApp, indexed_backend: Running, own: Own) -> Flask:
    return make_app(indexed_backend, **own)


def run(app: Flask, *arguments: str, typed: str = "", columns: int = 100) -> Result:
    runner = app.test_cli_runner(env={"COLUMNS": str(columns)})
    result = runner.invoke(cli.sessions, arguments, input=typed)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def json_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def store_of(app: Flask) -> Store:
    session: Session = app.extensions["flask_serverside"]
    with app.app_context():
        return session.store


def stored(
    app: Flask,
    handle: str = "",
    subject: str | None = None,
    seen: int = 0,
    age: int = 0,
    lifetime: int = 30 * DAY,
    device: Device = Device(),  # noqa: B008
    data: bytes = b"secret data",
) -> Record:
    """A session that was seen and created so many milliseconds ago."""
    store, sid = store_of(app), secrets.token_urlsafe(32)
    now = store.now()
    record = Record(
        handle.ljust(64, "0") if handle else hashlib.sha256(sid.encode()).hexdigest(),
        b"",
        1,
        now - max(age, seen),
        now - seen,
        now - seen + lifetime,
        lifetime,
        subject=subject,
    )
    record = Envelope().close(sid, record, Contents(data, now - age, device=device))
    assert store.create(record)
    return record


def exists(app: Flask, record: Record) -> bool:
    return store_of(app).load(record.handle) is not None


# -- list -----------------------------------------------------------------------------------


def test_a_list_shows_who_has_been_here_and_when_the_last_first(app: Flask) -> None:
    stored(app, "aaaa", "ada", seen=3 * HOUR, age=5 * DAY)
    stored(app, "bbbb", None, seen=3 * MINUTE, age=3 * MINUTE)
    result = run(app, "list")
    assert result.exit_code == 0
    assert result.stdout == (
        "handle    subject  last seen  expires     created\n"
        "bbbb0000  -        3 min ago  in 30 days  3 min ago\n"
        "aaaa0000  ada      3 h ago    in 30 days  5 days ago\n"
    )


def test_a_list_has_the_client_if_it_was_recorded(app: Flask) -> None:
    stored(app, "aaaa", device=Device("Firefox/140", "192.0.2.7"))
    stored(app, "bbbb")
    assert "192.0.2.7  Firefox/140" in run(app, "list").stdout
    assert run(app, "list").stdout.splitlines()[0].endswith("address    user agent")


def test_a_list_of_one_user_has_no_others(app: Flask) -> None:
    mine, other = stored(app, subject="ada"), stored(app, subject="bob")
    result = run(app, "list", "--subject", "ada", "--json")
    assert [row["handle"] for row in json_of(result)] == [mine.handle]
    assert other.handle not in result.stdout
    assert run(app, "list", "--subject", "nobody").stdout == "No sessions.\n"


def test_a_line_of_json_is_one_session(app: Flask) -> None:
    record = stored(app, subject="jürgen", seen=HOUR, device=Device("x", "::1"))
    (row,) = json_of(run(app, "list", "--json"))
    assert row == {
        "handle": record.handle,
        "subject": "jürgen",
        "created_at": iso(record.created),
        "last_seen_at": iso(record.seen),
        "expires_at": iso(record.expires),
        "user_agent": "x",
        "remote_addr": "::1",
    }


def iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_long_list_stops_and_says_so(app: Flask) -> None:
    for _ in range(105):
        stored(app)
    lines = run(app, "list").stdout.splitlines()
    assert len(lines) == 1 + 100 + 1
    assert lines[-1].startswith("There are more than these 100.")
    assert len(run(app, "list", "--limit", "0").stdout.splitlines()) == 106
    assert len(run(app, "list", "--limit", "105").stdout.splitlines()) == 106
    assert len(run(app, "list", "--limit", "3").stdout.splitlines()) == 5
    assert len(json_of(run(app, "list", "--json"))) == 105
    assert len(json_of(run(app, "list", "--json", "--limit", "7"))) == 7


def test_a_list_is_written_as_it_is_read(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        stored(app)
    store, written = store_of(app), io.StringIO()
    entries, at_third = store.entries, []  # type: ignore[attr-defined]

    def watched_entries(*arguments: Any) -> Iterator[Entry]:
        for number, entry in enumerate(entries(*arguments)):
            if number == 3:
                at_third.append(written.getvalue().count("\n"))
            yield entry

    monkeypatch.setattr(store, "entries", watched_entries)
    monkeypatch.setattr("click.echo", lambda line, **_: written.write(line + "\n"))
    run(app, "list", "--json")
    assert at_third == [3]


def test_handles_in_a_list_are_as_long_as_tells_them_apart(app: Flask) -> None:
    stored(app, "0123456789a")
    stored(app, "0123456789b")
    handles = [line.split()[0] for line in run(app, "list").stdout.splitlines()[1:]]
    assert sorted(handles) == ["0123456789a", "0123456789b"]


@pytest.mark.parametrize("columns", [40, 50, 60, 80, 200])
def test_a_table_fits_the_terminal_and_keeps_the_handle(app: Flask, columns: int) -> None:
    stored(
        app,
        "aaaa",
        "somebody with a name that goes on and on",
        device=Device("Mozilla/5.0 (X11; Linux x86_64) Gecko", "2001:db8:ffff:ffff:ffff::1"),
    )
    head, line, *more = run(app, "list", columns=columns).stdout.splitlines()
    assert max(map(len, (head, line))) <= columns
    assert line.startswith("aaaa0000  ")
    if columns == 40:
        assert more == ["Too narrow for: created, address, user agent."]
        assert "\N{HORIZONTAL ELLIPSIS}" in line
    if columns == 200:
        assert more == []
        assert "\N{HORIZONTAL ELLIPSIS}" not in line


EVIL = "\x1b]0;pwned\x07\x1b[2J\r\n\u202e\u200bname"


def test_nothing_that_is_stored_directs_the_terminal(app: Flask) -> None:
    record = stored(app, "aaaa", EVIL, device=Device(EVIL, EVIL))
    stored(app, "bbbb", "漢字 Jürgen e\u0301")
    for command in (["list"], ["show", record.handle], ["stats"]):
        for columns in (40, 100, 300):
            result = run(app, *command, columns=columns)
            assert result.exit_code == 0
            shown = result.output.replace("\n", "")
            assert shown.isprintable(), command
    assert "\\x1b]0;pwned\\x07" in run(app, "list", columns=300).stdout
    (row,) = (r for r in json_of(run(app, "list", "--json")) if r["handle"] == record.handle)
    assert row["subject"] == EVIL
    assert run(app, "list", "--json").stdout.replace("\n", "").isprintable()


def test_wide_characters_keep_the_columns_in_line(app: Flask) -> None:
    stored(app, "aaaa", "漢字", seen=HOUR, age=HOUR)
    stored(app, "bbbb", "abcdef", seen=HOUR, age=HOUR)
    stored(app, "cccc", "e\N{COMBINING ACUTE ACCENT}te", seen=HOUR, age=HOUR)
    lines = run(app, "list").stdout.splitlines()
    assert {line.partition("60 min ago")[0] for line in lines[1:]} == {
        "aaaa0000  漢字     ",
        "bbbb0000  abcdef   ",
        "cccc0000  e\N{COMBINING ACUTE ACCENT}te      ",
    }


def damage(store: Any, handle: str) -> bool:
    """:returns: whether a store can see that, without opening the data."""
    kind = type(store).__name__
    if kind == "MongoDBStore":
        store._collection.update_one({"_id": handle}, {"$set": {"head": "text"}})
    elif kind == "SQLAlchemyStore" and store._engine.dialect.name == "sqlite":
        update = f"UPDATE {store.table.name} SET payload = 'text', seen = 'x' WHERE handle = ?"
        with store._engine.connect() as connection:
            connection.exec_driver_sql(update, (handle,))
    else:
        put_value(store, handle, b"\x1b[2J")
        return kind == "RedisStore"
    return True


def test_damaged_records_are_left_out_with_a_warning(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = stored(app, subject="ada"), stored(app, subject="ada")
    seen = damage(store_of(app), bad.handle)
    for command in (["list"], ["list", "--subject", "ada"], ["stats"]):
        caplog.clear()
        result = run(app, *command)
        assert (result.exit_code, "\x1b" in result.output) == (0, False)
        assert ("Left out of the list" in caplog.text) is seen
    listed = {row["handle"] for row in json_of(run(app, "list", "--json"))}
    assert listed == ({good.handle} if seen else {good.handle, bad.handle})


# -- show -----------------------------------------------------------------------------------


def test_show_tells_all_but_the_data(app: Flask) -> None:
    device = Device("Firefox/140", "192.0.2.7")
    record = stored(app, "abcd", "ada", seen=3 * MINUTE, age=DAY * 3, device=device)
    result = run(app, "show", "abcd")
    assert result.exit_code == 0
    told = dict(re.split(" {2,}", line, maxsplit=1) for line in result.stdout.splitlines())
    assert told["handle"] == record.handle
    assert (told["state"], told["subject"]) == ("alive", "ada")
    assert told["last seen"].endswith(" UTC, 3 min ago")
    assert told["expires"].endswith(" UTC, in 30 days")
    assert (told["lifetime"], told["version"]) == ("30 days", "1")
    assert told["bytes"] == str(len(record.payload))
    assert (told["encrypted"], told["bound to client"]) == ("no", "no")
    assert (told["user agent"], told["address"]) == ("Firefox/140", "192.0.2.7")
    assert "secret" not in result.output
    assert "secret" not in run(app, "show", "abcd", "--json").output


def test_show_tells_how_the_data_is_sealed(make_app: MakeApp, app: Flask, own: Own) -> None:
    key = secrets.token_urlsafe(32)
    config = {k: v for k, v in app.config.items() if k.startswith("SESSION_")}
    config |= {"SESSION_ENCRYPTION_KEYS": key, "SESSION_COMPRESSION": "zlib"}
    config |= {"SESSION_ABSOLUTE_LIFETIME": 7200, "SESSION_BINDING": "user_agent"}
    sealed = make_app(**config)
    client = sealed.test_client()
    client.get("/write?a=" + "x" * 2000)
    cookie = client.get_cookie("session")
    assert cookie is not None
    sid = cookie.value.partition(".")[0]
    handle = hashlib.sha256(sid.encode()).hexdigest()
    result = run(sealed, "show", handle, "--json")
    (told,) = json_of(result)
    assert (told["encrypted"], told["compression"]) == (True, "zlib")
    assert told["bound_to_client"] is True
    assert told["deadline_at"] is not None
    assert sid not in result.output
    assert key not in result.output


def test_show_tells_where_a_session_has_gone(app: Flask) -> None:
    old, new = stored(app, "aaaa", "ada"), stored(app, "bbbb", "ada")
    store = store_of(app)
    assert store.replace(old.tombstone(store.now(), 60, new.handle, secrets.token_bytes(32)))
    (told,) = json_of(run(app, "show", old.handle, "--json"))
    assert (told["state"], told["goes_on_as"]) == ("moved", new.handle)
    assert "SESSION_ROTATION_INTERVAL" in told["meaning"]
    assert new.handle in run(app, "show", old.handle).stdout


def test_show_tells_that_a_session_was_signed_out(app: Flask) -> None:
    record = stored(app)
    assert store_of(app).end(record)
    (told,) = json_of(run(app, "show", record.handle, "--json"))
    assert (told["state"], told["goes_on_as"]) == ("ended", None)


@pytest.mark.group("memory")
def test_show_tells_that_a_session_has_expired(make_app: MakeApp) -> None:
    app = make_app()
    record = stored(app, seen=2 * HOUR, lifetime=HOUR)
    (told,) = json_of(run(app, "show", record.handle, "--json"))
    assert told["state"] == "expired"


def test_show_of_nothing_is_one_line_and_exit_code_1(app: Flask) -> None:
    for handle in ("f" * 64, "ffff"):
        result = run(app, "show", handle)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"Error: There is no session {handle}.")
        assert result.stderr.count("\n") == 1


def test_a_damaged_record_is_shown_as_damaged_and_can_be_revoked(app: Flask) -> None:
    record = stored(app)
    seen = damage(store_of(app), record.handle)
    result = run(app, "show", record.handle)
    assert result.exit_code == (1 if seen else 0)
    assert ("not a record" if seen else "damage ") in result.output
    assert "\x1b" not in result.output
    assert run(app, "revoke", record.handle).exit_code == 0
    assert run(app, "show", record.handle).stderr.startswith("Error: There is no session")


# -- shortened handles ----------------------------------------------------------------------


def test_a_shortened_handle_is_enough_if_it_is_the_only_one(app: Flask) -> None:
    one, two = stored(app, "abcd1"), stored(app, "abcd2")
    result = run(app, "show", "abcd")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[1:] == [f"  {one.handle}", f"  {two.handle}"]
    assert one.handle in run(app, "show", "ABCD1").stdout
    assert run(app, "revoke", "abcd").exit_code == 2
    assert exists(app, one)
    assert exists(app, two)
    assert run(app, "revoke", "abcd2").exit_code == 0
    assert exists(app, one)
    assert not exists(app, two)


def test_of_very_many_candidates_some_are_named(app: Flask) -> None:
    for number in range(15):
        stored(app, f"abcd{number:x}")
    assert run(app, "show", "abcd").stderr.splitlines()[11:] == ["  and more"]


@pytest.mark.parametrize("handle", ["abc", "abcg", "", "0x12", "a" * 65, "abcd*", "\x1b[2Jab"])
def test_what_is_no_handle_is_wrong_usage(app: Flask, handle: str) -> None:
    for command in ("show", "revoke"):
        result = run(app, command, handle)
        assert result.exit_code == 2
        assert "hexadecimal digits" in result.stderr
        assert "\x1b" not in result.stderr


# -- revoke ---------------------------------------------------------------------------------


def test_one_session_is_revoked_without_a_question(app: Flask) -> None:
    record, other = stored(app), stored(app)
    result = run(app, "revoke", record.handle)
    assert (result.exit_code, result.output) == (0, "1 session ended.\n")
    assert not exists(app, record)
    assert exists(app, other)


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_several_are_not_revoked_unless_that_is_confirmed(app: Flask, answer: str) -> None:
    records = [stored(app, subject="ada") for _ in range(3)]
    handles = [record.handle for record in records]
    for wanted in (["--subject", "ada"], ["--all"], handles):
        result = run(app, "revoke", *wanted, typed=answer)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith("End 3 sessions? [y/N]:")
    assert all(exists(app, record) for record in records)


def test_several_are_revoked_once_that_is_confirmed(app: Flask) -> None:
    stored(app, subject="bob")
    for more in ({"typed": "y\n"}, {}):
        records = [stored(app, subject="ada") for _ in range(3)]
        yes = [] if more else ["--yes"]
        result = run(app, "revoke", "--subject", "ada", *yes, **more)
        assert (result.exit_code, result.stdout) == (0, "3 sessions ended.\n")
        assert not any(exists(app, record) for record in records)
    assert len(json_of(run(app, "list", "--json"))) == 1
    assert run(app, "revoke", "--all").stdout == "1 session ended.\n"
    assert run(app, "list").stdout == "No sessions.\n"


def test_revoke_tells_a_program_each_session(app: Flask) -> None:
    records = [stored(app, subject="ada") for _ in range(2)]
    result = run(app, "revoke", "--subject", "ada", "--yes", "--json")
    assert sorted(row["handle"] for row in json_of(result)) == sorted(r.handle for r in records)
    assert all(row["revoked"] for row in json_of(result))
    result = run(app, "revoke", records[0].handle, "--json")
    assert json_of(result) == [{"handle": records[0].handle, "revoked": False}]
    assert result.exit_code == 1


def test_revoking_what_is_not_there_is_exit_code_1(app: Flask) -> None:
    record, gone = stored(app), "f" * 64
    result = run(app, "revoke", record.handle, gone, "--yes")
    assert result.exit_code == 1
    assert result.stdout == "1 session ended.\n"
    assert result.stderr.startswith(f"Error: There is no session {gone}.")
    result = run(app, "revoke", "--subject", "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: There is no session of nobody.\n"
    assert run(app, "revoke", "--all", "--yes").exit_code == 0


@pytest.mark.parametrize("wanted", [[], ["--all", "--subject", "ada"], ["abcd", "--all"]])
def test_revoke_wants_to_know_which_in_one_way(app: Flask, wanted: list[str]) -> None:
    record = stored(app, "abcd", subject="ada")
    assert run(app, "revoke", *wanted, "--yes").exit_code == 2
    assert exists(app, record)


@pytest.mark.parametrize("subject", ["", "x" * 256, "\x1b[2J"])
def test_a_subject_that_can_be_nobodys_is_not_taken_for_everybody(
    app: Flask, subject: str
) -> None:
    record = stored(app, subject="ada")
    for command in ("list", "revoke"):
        result = run(app, command, "--subject", subject)
        assert result.exit_code == 2
        assert "\x1b" not in result.stderr
    assert exists(app, record)


# -- purge and stats ------------------------------------------------------------------------


def test_purge_tells_how_many_it_has_removed(app: Flask) -> None:
    alive = stored(app)
    store = store_of(app)
    removes_itself = type(store).__name__ in ("RedisStore", "MongoDBStore")
    if not removes_itself:
        stored(app, seen=2 * HOUR, lifetime=HOUR)
    result = run(app, "purge")
    expected = "0 expired sessions removed." if removes_itself else "1 expired session removed."
    assert (result.exit_code, result.stdout) == (0, f"{expected}\n")
    assert json_of(run(app, "purge", "--json")) == [{"removed": 0}]
    assert exists(app, alive)


def test_stats_count_whose_how_large_and_how_old(app: Flask) -> None:
    sizes = [
        len(stored(app, subject=subject, seen=seen, age=age, data=bytes(size)).payload)
        for subject, seen, age, size in [
            ("ada", MINUTE, 9 * DAY, 10),
            ("ada", 30 * MINUTE, 3 * DAY, 20),
            ("bob", 2 * HOUR, 2 * DAY, 3000),
            (None, 3 * DAY, 3 * DAY, 1),
            (None, 10 * DAY, 11 * DAY, 1),
        ]
    ]
    result = run(app, "stats", "--json")
    (told,) = json_of(result)
    assert result.exit_code == 0
    assert [told[k] for k in ("sessions", "signed_in", "anonymous", "subjects")] == [5, 3, 2, 2]
    assert told["bytes"] == {
        "total": sum(sizes),
        "smallest": min(sizes),
        "median": sorted(sizes)[2],
        "largest": max(sizes),
    }
    assert told["seen_within"] == {"5 min": 1, "hour": 2, "day": 3, "week": 4}
    assert told["most_sessions"] == [
        {"subject": "ada", "sessions": 2},
        {"subject": "bob", "sessions": 1},
    ]
    text = run(app, "stats").stdout
    assert "youngest 2 days ago, median 3 days ago, oldest 11 days ago" in text
    assert "2         ada\n1         bob\n" in text


def test_stats_of_nothing(app: Flask) -> None:
    assert run(app, "stats").stdout == "sessions  0\n"
    (told,) = json_of(run(app, "stats", "--json"))
    assert (told["sessions"], told["bytes"]["median"]) == (0, None)


# -- how it ends ----------------------------------------------------------------------------

COMMANDS = [
    ["list"],
    ["list", "--json"],
    ["show", "f" * 64],
    ["show", "ffff"],
    ["revoke", "f" * 64],
    ["revoke", "--all", "--yes"],
    ["stats"],
    ["check"],
    ["check", "--json"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_store_that_is_down_is_one_line_and_exit_code_3(
    make_app: MakeApp, proxied: tuple[Running, Proxy], command: list[str]
) -> None:
    app = make_app(proxied[0], SESSION_STORE_TIMEOUT=1)
    proxied[1].cut()
    if proxied[0].name == "memcached" and command[-1] in ("list", "--json", "ffff", "--yes"):
        command = ["show", "f" * 64]  # it cannot do that anyway
    if proxied[0].name == "memcached" and command == ["stats"]:
        command = ["revoke", "f" * 64]
    result = run(app, *command)
    assert result.exit_code == 3
    assert re.fullmatch(r"Error: \w+Store: .*\n", result.stderr)
    if command == ["check", "--json"]:
        assert json_of(result)[0]["error"].startswith(result.stderr[7:20])
    elif command[0] != "check":
        assert result.stdout == ""


@pytest.mark.group("memcached")
@pytest.mark.parametrize(
    "command", [["list"], ["stats"], ["revoke", "--all"], ["revoke", "--subject", "ada"]]
)
def test_what_memcached_cannot_do_is_said(
    make_app: MakeApp, backend: Running, command: list[str]
) -> None:
    if backend.backend.group != "memcached":
        return
    app = make_app(backend)
    result = run(app, *command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: MemcachedStore cannot list sessions.")
    record = stored(app)
    assert run(app, "show", record.handle[:8]).exit_code == 2
    assert record.handle in run(app, "show", record.handle).stdout
    assert run(app, "revoke", record.handle).exit_code == 0
    assert run(app, "revoke", record.handle).exit_code == 1


@pytest.mark.group("memory")
def test_an_application_without_the_extension_is_told_so() -> None:
    result = run(Flask("plain"), "list")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: The application plain does not call Session(app).\n"


@pytest.mark.group("memory")
def test_a_configuration_that_cannot_work_is_one_line_without_its_password() -> None:
    def create_app() -> Flask:
        app = Flask("wrong")
        app.config["SESSION_TYPE"] = "redis://:pass@word@host"
        Session(app)
        return app

    result = (
        Flask("x")
        .test_cli_runner()
        .invoke(cli.sessions, ["check"], obj=ScriptInfo(create_app=create_app))
    )
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: SESSION_TYPE = 'redis://***@host'")
    assert result.stderr.count("\n") == 1


@pytest.mark.group("memory")
def test_help_names_the_exit_codes(make_app: MakeApp) -> None:
    for command in ([], ["list"], ["show"], ["revoke"], ["purge"], ["stats"], ["check"]):
        result = run(make_app(), *command, "--help")
        assert result.exit_code == 0
        assert re.search(r"(?m)^ +3  the store cannot be reached", result.stdout)
        assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.group("memory")
def test_in_memory_it_is_said_that_this_is_another_process(make_app: MakeApp) -> None:
    result = run(make_app(TESTING=False), "list", "--json")
    assert result.stdout == ""
    assert result.stderr.startswith("In memory, each process has its own sessions.")


@pytest.mark.group("memory")
def test_flask_finds_the_commands() -> None:
    (found,) = entry_points(group="flask.commands", name="session")
    assert found.value == "flask_serverside.cli:sessions"
    assert isinstance(found.load(), Sessions)


@pytest.mark.group("memory")
def test_the_package_does_not_load_its_commands() -> None:
    program = (
        "import sys, flask_serverside; "
        "print([m for m in sys.modules if m.startswith('flask_serverside.')])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    modules = set(re.findall(r"flask_serverside\.(\w+)", said.stdout))
    assert "extension" in modules
    assert "cli" not in modules


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.group("memory")
def test_a_bar_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, hidden, shown in (
        (Terminal(), False, True),
        (Terminal(), True, False),
        (io.StringIO(), False, False),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        assert list(watched([1, 2, 3], "Revoking", 3, hidden)) == [1, 2, 3]
        assert list(watched(iter([1, 2]), "Counting", None, hidden)) == [1, 2]
        assert ("Revoking" in stream.getvalue()) is shown


@pytest.mark.group("memory")
def test_a_terminal_without_the_ellipsis_gets_an_escape(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    stored(app, subject="漢" * 50)
    runner = app.test_cli_runner(env={"COLUMNS": "60"}, charset="latin-1")
    result = runner.invoke(cli.sessions, ["list"])
    assert result.exit_code == 0
    assert "\\u2026" in result.stdout


def test_the_commands_are_those_of_the_application_as_well(app: Flask) -> None:
    """``app.test_cli_runner()`` asks ``app.cli``, which knows no entry points."""
    stored(app, subject="ada")
    runner = app.test_cli_runner()
    assert "Look at the sessions" in runner.invoke(args=["--help"]).output
    listed = runner.invoke(args=["session", "list", "--json"])
    assert [row["subject"] for row in json_of(listed)] == ["ada"]
    missing = runner.invoke(args=["session", "show", "0" * 64])
    assert (missing.exit_code, "There is no session" in missing.stderr) == (1, True)


def test_a_command_of_the_applications_own_goes_first() -> None:
    app = Flask("own")
    app.config.update(SECRET_KEY="test", TESTING=True)

    @app.cli.command("session")
    def session() -> None:
        click.echo("mine")

    Session(app)
    assert app.test_cli_runner().invoke(args=["session"]).output == "mine\n"


def test_several_are_not_ended_unasked_where_the_clock_is_ahead(app: Flask) -> None:
    for _ in range(3):
        stored(app, subject="ada")
    clock = Clock()
    clock.advance(10**8)
    store_of(app).clock = clock
    for whose in (["--subject", "ada"], ["--all"]):
        asked = run(app, "revoke", *whose, typed="n\n")
        assert "End 3 sessions?" in asked.stderr
        assert asked.exit_code == 1
    assert run(app, "revoke", "--subject", "ada", "--yes").stdout == "3 sessions ended.\n"
