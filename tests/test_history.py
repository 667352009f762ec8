"""What many workers were told about the same sessions is consistent, on every real server, from
threads and from the processes of a real WSGI server; and a missing compare is found out."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import faults
import pytest
from backends import Running
from flask import Flask
from history import Connect
from history import Reply
from history import run
from history import Send
from history_app import create_app
from servers import free_port
from test_life_of_a_request import store_of
from violations import violations
from werkzeug.test import create_environ
from werkzeug.test import run_wsgi_app

from flask_serverside import session_regenerated

#: Operations of each seed. CI sets more.
OPERATIONS = int(os.environ.get("HISTORY_OPERATIONS", 1600))
#: Set this to a seed that has failed, to replay it.
SEEDS = [int(seed) for seed in os.environ.get("HISTORY_SEEDS", "1,2,3").split(",")]


def in_threads(app: Flask) -> Connect:
    """Calls it as a server does: a test client takes half of the time for itself."""

    @contextmanager
    def connect() -> Iterator[Send]:
        root = create_environ()

        def send(arguments: dict[str, str], cookie: str | None) -> Reply:
            environ = root | {"QUERY_STRING": urlencode(arguments)}
            if cookie is not None:
                environ["HTTP_COOKIE"] = f"session={cookie}"
            body, status, headers = run_wsgi_app(app, environ, buffered=True)
            given = value_in(headers.get("Set-Cookie"))
            return Reply(int(status[:3]), json.loads(b"".join(body)), given)

        yield send

    return connect


def over_http(port: int) -> Connect:
    @contextmanager
    def connect() -> Iterator[Send]:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:

            def send(arguments: dict[str, str], cookie: str | None) -> Reply:
                headers = {} if cookie is None else {"Cookie": f"session={cookie}"}
                connection.request("GET", f"/?{urlencode(arguments)}", headers=headers)
                response = connection.getresponse()
                body = json.loads(response.read())
                return Reply(response.status, body, value_in(response.headers["Set-Cookie"]))

            yield send

    return connect


def value_in(header: str | None) -> str | None:
    return None if header is None else header.partition(";")[0].partition("=")[2]


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads take turns a hundred times as often as usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 100)
    yield
    sys.setswitchinterval(interval)


THREADS = ("--workers", "4", "--worker-class", "gthread", "--threads", "2")
GREENLETS = ("--workers", "2", "--worker-class", "gevent")


@contextmanager
def serving(running: Running, tmp_path: Path, *options: str) -> Iterator[int]:
    """The port on which gunicorn serves the application."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *options]
    command += ["--chdir", str(Path(__file__).parent), "history_app:create_app()"]
    environment = {**os.environ, "HISTORY_APP": json.dumps(running.app_config())}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for(port, process, tmp_path / "log")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert b"Traceback" not in (tmp_path / "log").read_bytes()


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with over_http(port)() as send:
                send({"op": "read"}, None)
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.usefixtures("often_switched")
def test_threads_are_told_the_truth(real_backend: Running, seed: int) -> None:
    app = create_app(real_backend.app_config())
    assert_consistent(seed, in_threads(app))


@pytest.mark.parametrize("seed", SEEDS)
def test_processes_are_told_the_truth(
    shared_backend: Running, tmp_path: Path, seed: int
) -> None:
    with serving(shared_backend, tmp_path, *THREADS) as port:
        assert_consistent(seed, over_http(port))


def test_greenlets_are_told_the_truth(shared_backend: Running, tmp_path: Path) -> None:
    with serving(shared_backend, tmp_path, *GREENLETS) as port:
        assert_consistent(SEEDS[0], over_http(port), min(OPERATIONS, 1600))


@pytest.mark.usefixtures("often_switched")
def test_they_are_while_ids_are_exchanged_all_the_time(real_backend: Running) -> None:
    app = create_app(
        real_backend.app_config()
        | {
            "SESSION_ROTATION_INTERVAL": 0.3,
            "SESSION_ROTATION_GRACE": 0.25,
            # What is seen in the end is looked at with all ids that there ever were.
            "SESSION_REVOKE_ON_REUSE": False,
        }
    )
    rotated = []

    def hear(sender: Flask, reason: str, **more: object) -> None:
        if reason == "rotation":
            rotated.append(1)

    with session_regenerated.connected_to(hear):
        assert_consistent(SEEDS[0], in_threads(app), min(OPERATIONS, 5000))
    assert rotated


def assert_consistent(seed: int, connect: Connect, operations: int = OPERATIONS) -> None:
    found = violations(run(seed, operations, connect))
    assert not found, f"seed {seed}: {len(found)} violations, {found[:10]}"


@pytest.mark.usefixtures("often_switched")
def test_a_missing_compare_is_found(
    real_backend: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(real_backend.app_config())
    faults.take_the_compare_out(monkeypatch, store_of(app))
    assert_found(app, "acknowledged write is gone")


@pytest.mark.group("memory")
@pytest.mark.usefixtures("often_switched")
@pytest.mark.parametrize("plant", faults.OTHERS, ids=lambda plant: plant.__name__)
def test_a_broken_promise_is_found(
    plant: faults.Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app({"SESSION_TYPE": "memory"})
    plant(monkeypatch, store_of(app))
    assert_found(app, faults.OTHERS[plant])


def assert_found(app: Flask, problem: str) -> None:
    """Sooner or later: with one seed or another."""
    for seed in range(20):
        found = violations(run(seed, 1600, in_threads(app)))
        assert not [line for line in found if "was answered" in line]
        if any(problem in line for line in found):
            return
    pytest.fail("the fault was not found")
