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
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from backends import Running
from flask import Flask
from history import Reply
from history import run
from history import Send
from history import violations
from history_app import create_app
from servers import free_port

#: Operations of each seed. CI sets more.
OPERATIONS = int(os.environ.get("HISTORY_OPERATIONS", 1600))
#: Set this to a seed that has failed, to replay it.
SEEDS = [int(seed) for seed in os.environ.get("HISTORY_SEEDS", "1,2,3").split(",")]


def in_threads(app: Flask) -> Callable[[], Send]:
    def connect() -> Send:
        def send(arguments: dict[str, str], cookie: str | None) -> Reply:
            client = app.test_client(use_cookies=False)
            headers = {} if cookie is None else {"Cookie": f"session={cookie}"}
            response = client.get("/", query_string=arguments, headers=headers)
            cookie_header = response.headers.get("Set-Cookie")
            return Reply(response.status_code, response.json, value_in(cookie_header))

        return send

    return connect


def over_http(port: int) -> Callable[[], Send]:
    def connect() -> Send:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

        def send(arguments: dict[str, str], cookie: str | None) -> Reply:
            headers = {} if cookie is None else {"Cookie": f"session={cookie}"}
            connection.request("GET", f"/?{urlencode(arguments)}", headers=headers)
            response = connection.getresponse()
            body = response.read()
            cookie_header = response.headers.get("Set-Cookie")
            return Reply(response.status, json.loads(body), value_in(cookie_header))

        return send

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


@pytest.fixture
def served(real_backend: Running, tmp_path: Path) -> Iterator[int]:
    """The port on which four processes of gunicorn serve the application."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "4", "--worker-class", "gthread", "--threads", "2"]
    command += ["--chdir", str(Path(__file__).parent), "history_app:create_app()"]
    environment = {**os.environ, "HISTORY_APP": json.dumps(real_backend.app_config())}
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
            over_http(port)()({"op": "read"}, None)
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
def test_processes_are_told_the_truth(real_backend: Running, served: int, seed: int) -> None:
    assert_consistent(seed, over_http(served))


def assert_consistent(seed: int, connect: Callable[[], Send]) -> None:
    found = violations(run(seed, OPERATIONS, connect))
    assert not found, f"seed {seed}: {len(found)} violations, {found[:10]}"
