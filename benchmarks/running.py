"""What the benchmarks share: the backends with their real servers, and what is said of them."""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from backends import BACKENDS
from backends import run
from backends import Running
from servers import MariaDB
from servers import Memcached
from servers import MongoDB
from servers import Server
from servers import Servers

#: What the figures may depend on.
PACKAGES = (
    *("flask", "werkzeug", "flask-session", "cachelib", "flask-sqlalchemy", "ormsgpack"),
    *("redis", "hiredis", "pymemcache", "pymongo", "sqlalchemy", "psycopg", "pymysql"),
)


def each(names: Collection[str]) -> Iterator[Running]:
    """The backends with these names. The servers end with the iteration, also if the process is
    told to end. Each is told how much it may keep in memory; PostgreSQL does not wait for the
    disk.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    for kind in (Memcached, MongoDB, MariaDB):
        kind.megabytes = 4096
    servers = Servers()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for backend in BACKENDS:
                if backend.name in names:
                    server = servers.get(backend.server) if backend.server else None
                    if backend.server and server is None:
                        raise SystemExit(f"{backend.server} is not installed on this machine.")
                    yield run(backend, server, Path(folder))
    finally:
        servers.stop()


def add_backends(
    parser: argparse.ArgumentParser, names: Collection[str], default: Collection[str] = ()
) -> None:
    """Take the names of backends as arguments; none: the default, or all that there may be."""
    parser.add_argument(
        "backends", nargs="*", type=_one_of(names), default=default or names, metavar="BACKEND"
    )
    parser.epilog = f"BACKEND: {', '.join(names)}."


def _one_of(names: Collection[str]) -> Callable[[str], str]:
    def checked(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(f"{name!r}: expected one of {', '.join(names)}")
        return name

    return checked


def machine() -> str:
    """Of what the figures are."""
    with open("/proc/cpuinfo") as file:
        [processor, *_] = (line.split(": ")[1] for line in file if "model name" in line)
    facts = (
        f"Python {platform.python_version()}",
        f"Linux {platform.release()}",
        f"{os.cpu_count()} x {processor.strip()}",
        *(f"{name} {version(name)}" for name in PACKAGES),
    )
    return textwrap.fill(", ".join(facts), 90, break_on_hyphens=False)


def told(server: Server | None) -> str:
    """The server's version, if there is a server."""
    number = re.search(r"\d+(\.\d+)+", server.version) if server else None
    return f" {number[0]}" if number else ""


def redis_client(store: Any) -> Any:
    """A client of its own for the server that a RedisStore uses."""
    import redis

    address = store._line.client.connection_pool.connection_kwargs
    return redis.Redis(host=address["host"], port=address["port"])
