"""Through gunicorn, under wrk: requests a second with 1, 8 and 32 connections.

.. code-block:: text

    apt-get install wrk
    pip install -e '.[all,bench,dev]'
    python benchmarks/served.py [--seconds NUMBER] [--rounds NUMBER] [BACKEND ...]

One worker with eight threads, and everything on one machine: what wrk and the server of the
sessions take, the worker has not. Each request is of one of 64 sessions in turn. Kinds take
turns in each round; medians and the extremes of the rounds are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from contestants import BARE
from contestants import bare
from contestants import flask_session
from contestants import OURS
from contestants import ours
from contestants import PEER
from contestants import Site
from peers import MEASURED
from running import add_backends
from running import BACKENDS
from running import each
from running import machine
from running import Running
from running import told

SESSIONS, THREADS = 64, 8
CONNECTIONS = (1, 8, 32)
KINDS = ((BARE, "untouched"), (OURS, "untouched"), (OURS, "read"), (OURS, "write"))
KINDS += ((PEER, "read"), (PEER, "write"))
_ENVIRONMENT = "BENCHMARK_SITE"

_SCRIPT = """
local cookies, turn = {%s}, 0
request = function()
    turn = turn + 1
    return wrk.format("GET", "/%s", {Cookie = cookies[turn %% #cookies + 1]})
end
"""


class Load(NamedTuple):
    """What wrk says; times in milliseconds."""

    a_second: float
    median: float
    most: float


def site(name: str, running: Running | None) -> Site:
    if running is None:
        return bare()
    return ours(running) if name == OURS else flask_session(running)


def application() -> object:
    """What gunicorn calls to make the worker's application."""
    name, backend, config = json.loads(os.environ[_ENVIRONMENT])
    if name == BARE:
        return site(name, None).app
    [chosen] = [b for b in BACKENDS if b.name == backend]
    return site(name, Running(chosen, config)).app


@contextmanager
def gunicorn(name: str, running: Running) -> Iterator[int]:
    """Its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "served:application()", "--log-level", "error"]
    command += ["--bind", f"127.0.0.1:{port}", "--threads", str(THREADS), "--keep-alive", "60"]
    told = json.dumps([name, running.name, running.config])
    process = subprocess.Popen(
        command, cwd=Path(__file__).parent, env={**os.environ, _ENVIRONMENT: told}
    )
    try:
        deadline = time.monotonic() + 20
        while not _answers(port):
            assert process.poll() is None, "gunicorn does not start"
            assert time.monotonic() < deadline, "gunicorn does not answer"
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def load(port: int, path: str, cookies: list[str], connections: int, seconds: int) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % (", ".join(f'"{cookie}"' for cookie in cookies), path))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency"]
        command += ["-s", script.name, f"http://127.0.0.1:{port}/"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in told, told
    assert "Socket errors" not in told, told
    found = re.search(r"^ +50% +(\S+).*^ +99% +(\S+).*Requests/sec:\s+(\S+)", told, re.S | re.M)
    assert found is not None, told
    return Load(float(found[3]), _milliseconds(found[1]), _milliseconds(found[2]))


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\D+)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def measure(running: Running, seconds: int, rounds: int) -> None:
    cookies = {BARE: ["theme=dark"]}
    for name in (OURS, PEER):
        made = site(name, running)
        cookies[name] = [made.fill() for _ in range(SESSIONS)]
    print(f"\n{running.name}{told(running.server)}")
    print("requests a second (the least and the most); ms, median and 99 %")
    for connections in CONNECTIONS:
        print(f"  connections: {connections}")
        loads: dict[tuple[str, str], list[Load]] = {kind: [] for kind in KINDS}
        for _ in range(rounds):
            for name, path in KINDS:
                with gunicorn(name, running) as port:
                    load(port, path, cookies[name], connections, 1)  # it is warm then
                    taken = load(port, path, cookies[name], connections, seconds)
                    loads[name, path].append(taken)
        for (name, path), found in loads.items():
            each_second = [one.a_second for one in found]
            print(
                f"    {name:17}{path:10}{statistics.median(each_second):7.0f} "
                f"({min(each_second):.0f} to {max(each_second):.0f})"
                f"{statistics.median(one.median for one in found):9.2f}"
                f"{statistics.median(one.most for one in found):9.2f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    add_backends(parser, MEASURED[1:], ["redis"])
    chosen = parser.parse_args()
    print(f"{machine()}; gunicorn with one worker and {THREADS} threads")
    for running in each(chosen.backends):
        measure(running, chosen.seconds, chosen.rounds)


if __name__ == "__main__":
    main()
