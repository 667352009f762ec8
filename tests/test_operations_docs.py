"""What docs/operations.md shows is what the commands say, run in that order on a real Redis.

``UPDATE_TRANSCRIPT=1`` writes their answers into the page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from collections.abc import Iterator

import pytest
from flask import Flask
from servers import Redis
from servers import Server
from test_example import ROOT

from flask_serverside import Session
from flask_serverside.cli import sessions
from flask_serverside.sealing.envelope import Contents
from flask_serverside.sealing.envelope import Device
from flask_serverside.sealing.envelope import Envelope
from flask_serverside.stores import Record
from flask_serverside.stores import Store
from flask_serverside.web.identity import handle_of

pytestmark = pytest.mark.group("redis")

PAGE = ROOT / "docs" / "operations.md"
BLOCK = re.compile(r"(?s)```console\n(.*?)```\n")

NOW = 1_795_575_600_000  # 25 November 2026, 3 in the morning
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Version/18.5 Safari/604.1"

#: What differs from run to run and machine to machine, and how the page shows it.
NORMAL = [
    (r"127\.0\.0\.1:\d{4,5}\b", "127.0.0.1:6379"),
    (r"\d+\.\d ms", "0.3 ms"),
    (r"redis-py [\d.]+", "redis-py 7.1.0"),
    (r"(server +)(Redis|Valkey|redis|valkey).*", r"\1Redis 7.2.4"),
    (r"(running for +).*", r"\g<1>22 minutes"),
    (r"was started \d+ \w+ ago", "was started 22 minutes ago"),
    (r"(memory used +).*", r"\g<1>1.2 MiB"),
    (r"\d+\.\d s (behind|ahead of) this machine's", "0.0 s ahead of this machine's"),
]


def normal(text: str) -> str:
    for pattern, shown in NORMAL:
        text = re.sub(pattern, shown, text)
    return text


def fill(store: Store) -> None:
    """The sessions of a small site at night."""

    def session(sid: str, subject: str | None, seen: int, age: int, device: Device) -> Record:
        now, lifetime = NOW - seen, 31 * DAY
        record = Record(handle_of(sid), b"", 3, NOW - age, now, now + lifetime, lifetime)
        record = record._replace(subject=subject, deadline=NOW - age + 90 * DAY)
        contents = Contents(b"x" * (200 + 10 * len(sid)), NOW - age, NOW - age, device=device)
        record = Envelope().close(sid, record, contents)
        assert store.create(record)
        return record

    laptop, phone = Device(FIREFOX, "198.51.100.7"), Device(SAFARI, "203.0.113.20")
    session("ada's laptop", "ada", 3 * MINUTE, 5 * HOUR, laptop)
    session("ada's phone", "ada", 2 * HOUR, 12 * DAY, phone)
    session("ada's tablet", "ada", 6 * DAY, 30 * DAY, Device(SAFARI, "198.51.100.7"))
    session("grace's laptop", "grace", 40_000, 20 * MINUTE, Device(FIREFOX, "192.0.2.44"))
    session("a visitor", None, 26 * HOUR, 26 * HOUR, phone)
    old = session("grace before", "grace", HOUR, HOUR, laptop)
    new = handle_of("grace's laptop")
    assert store.replace(old.tombstone(NOW - 20 * MINUTE, 3600 * 24, new))
    old = session("ada before", "ada", DAY, DAY, phone)
    assert store.replace(old.tombstone(NOW - 9_000, 3600, ""))


@pytest.fixture
def app(server: Callable[[str], Server]) -> Iterator[Flask]:
    assert server("redis")
    own = Redis()
    own.start()
    app = Flask("shop")
    app.config.update(
        SECRET_KEY="x" * 43,
        SESSION_TYPE="redis",
        SESSION_REDIS=own.url,
        SESSION_COOKIE_NAME="__Host-session",
        SESSION_COOKIE_SECURE=True,
        SESSION_RECORD_CLIENT=True,
    )
    Session(app)
    with app.app_context():
        store = app.extensions["flask_serverside"].store
    store.clock = lambda: NOW / 1000
    fill(store)
    yield app
    store.close()
    own.stop()


class Shell:
    """Runs the commands of a transcript, and what is typed when they ask."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._code = 0

    def answer(self, command: str, shown: str) -> str:
        if command == "echo $?":
            return f"{self._code}\n"
        program, group, *arguments = command.split()
        assert (program, group) == ("flask", "session"), command
        typed = "\n".join(re.findall(r"\[y/N\]: (\w*)$", shown, re.M))
        runner = self._app.test_cli_runner(env={"COLUMNS": "88"})
        result = runner.invoke(sessions, arguments, input=typed)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        self._code = result.exit_code
        return normal(result.output)

    def run(self, transcript: str) -> str:
        """The transcript as it is now."""
        done = ""
        for command, shown in re.findall(r"(?m)^\$ (.*)\n((?:(?!\$ ).*\n)*)", transcript):
            done += f"$ {command}\n{self.answer(command, shown)}"
        return done


def test_the_transcript_is_what_the_commands_say(app: Flask) -> None:
    shell, page = Shell(app), PAGE.read_text()
    now = BLOCK.sub(lambda block: f"```console\n{shell.run(block[1])}```\n", page)
    if os.environ.get("UPDATE_TRANSCRIPT") == "1":
        PAGE.write_text(now)
    assert now == page


def test_each_command_is_in_the_transcript() -> None:
    shown = set(re.findall(r"(?m)^\$ flask session (\w+)", PAGE.read_text()))
    assert shown == {*sessions.commands}
