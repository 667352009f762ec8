"""One request with each kind of session: nothing, Flask's cookie, Flask-Session, and this.

.. code-block:: text

    pip install -e '.[all,bench]'
    python benchmarks/peers.py [--rounds NUMBER] [BACKEND ...]

All of a backend's calls take turns in one run, and are medians in microseconds over a bare
application's. ``raw`` is what the client alone takes to get, and to get and set, as many bytes.
The servers are started and stopped.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from backends import BACKENDS
from backends import run
from backends import Running
from contestants import bare
from contestants import cookie
from contestants import flask_session
from contestants import ours
from contestants import raw
from rounds import timed
from rounds import Timing
from servers import Servers

MEASURED = ("memory", "redis", "memcached", "mongodb", "postgresql", "mariadb")
PATHS = ("untouched", "read", "write")


def compare(running: Running, rounds: int) -> None:
    sites = [ours(running), flask_session(running), cookie()]
    client = raw(running)
    calls = {"bare": bare().request("/untouched")}
    calls |= {"get": client.request("/get"), "get and set": client.request("/get-and-set")}
    for site in sites:
        for path in PATHS:
            calls[f"{site.name} {path}"] = site.request(f"/{path}")
    taken = timed(calls, rounds)
    base = taken["bare"]
    print(f"\n{running.name}, over a bare request of {shown(base)}")
    print(f"  {'':18}{''.join(f'{path:>20}' for path in PATHS)}")
    print(f"  {'raw client':18}{'':>20}{shown(get_of := taken['get'], base):>20}", end="")
    print(f"{shown(set_of := taken['get and set'], base):>20}")
    for site in sites:
        over = [taken[f"{site.name} {path}"] for path in PATHS]
        cells = "".join(f"{shown(t, base):>20}" for t in over)
        print(f"  {site.name:18}{cells}")
    read, write = (taken[f"{sites[0].name} {path}"].over(base) for path in PATHS[1:])
    peer_read, peer_write = (taken[f"{sites[1].name} {p}"].over(base) for p in PATHS[1:])
    print(
        f"  read is {read / get_of.over(base):.2f} times a get, write {write / set_of.over(base):.2f} "
        f"times a get and a set; Flask-Session's read is {peer_read / read:.1f} times ours, "
        f"its write {peer_write / write:.1f} times"
    )


def shown(timing: Timing, base: Timing | None = None) -> str:
    """The median, and the quarters below and above it."""
    less = base.median if base else 0.0
    low, high = timing.quarter - less, timing.three_quarters - less
    return f"{timing.median - less:.1f} ({low:.0f}-{high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("backends", nargs="*", default=MEASURED, help=", ".join(MEASURED))
    chosen = parser.parse_args()
    names = ("flask", "werkzeug", "flask-session", "redis", "pymemcache", "pymongo", "psycopg")
    print(f"Python {platform.python_version()}, {platform.machine()}; ", end="")
    print(", ".join(f"{name} {version(name)}" for name in (*names, "sqlalchemy")))
    servers = Servers()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for backend in BACKENDS:
                if backend.name in chosen.backends:
                    server = servers.get(backend.server) if backend.server else None
                    compare(run(backend, server, Path(folder)), chosen.rounds)
    finally:
        servers.stop()


if __name__ == "__main__":
    main()
