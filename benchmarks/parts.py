"""Of what a request consists: where the time goes, seen by looking at it a thousand times a second.

.. code-block:: text

    pip install -e '.[all,bench]'
    python benchmarks/parts.py [--seconds NUMBER] [BACKEND ...]

Microseconds of the processor's, or of waiting, a request. py-spy stops the process for a moment
to look where it is, so the whole is measured before that, and only shared out by what it sees.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from contestants import bare
from contestants import ours
from contestants import raw
from rounds import timed
from running import each

KINDS = {
    "bare": (lambda _: bare(), "/untouched"),
    "raw get": (raw, "/get"),
    "raw get and set": (raw, "/get-and-set"),
    "read": (ours, "/read"),
    "write": (ours, "/write"),
}
_DRIVERS = ("redis", "hiredis", "pymemcache", "pymongo", "bson", "sqlalchemy", "psycopg", "pymysql")
#: The first whose mark is in any frame of the stack.
PARTS = {
    "the driver and the server": tuple(f"site-packages/{name}/" for name in _DRIVERS),
    "our store": ("flask_serverside/stores/",),
    "the cookie: found, verified": ("_presented (", "flask_serverside/identity.py"),
    "the data: MessagePack": ("flask_serverside/codec.py",),
    "its payload: opened, closed": ("flask_serverside/payload.py",),
    "Vary": ("_vary_on (",),
    "the session: opened": ("open_session (",),
    "the session: the rest": ("flask_serverside/",),
    "Flask, Werkzeug, the view": ("",),
}


def sampled(backend: str, kind: str, seconds: int) -> Counter[str]:
    """Microseconds of each part."""
    command = [sys.executable, __file__, backend, "--child", kind]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        tempfile.NamedTemporaryFile() as file,
        subprocess.Popen(command, text=True, **pipes) as child,
    ):
        assert child.stdout is not None
        whole = float(child.stdout.readline())
        spy = ["py-spy", "record", "--pid", str(child.pid), "--idle", "--full-filenames"]
        spy += ["--duration", str(seconds), "--rate", "1000", "--format", "raw"]
        subprocess.run([*spy, "--output", file.name], check=True, capture_output=True)
        child.terminate()
        stacks = Path(file.name).read_text().splitlines()
    seen: Counter[str] = Counter()
    for line in stacks:
        stack, _, number = line.rpartition(" ")
        if "wsgi_app (" in stack:
            seen[_part(stack)] += int(number)
    return Counter({part: number * whole / seen.total() for part, number in seen.items()})


def _part(stack: str) -> str:
    return next(part for part, marks in PARTS.items() if any(mark in stack for mark in marks))


def requests(backend: str, kind: str) -> None:
    """What py-spy watches, until it is ended."""
    make, path = KINDS[kind]
    for running in each([backend]):
        call = make(running).request(path)
        while True:
            print(timed({kind: call}, 40)[kind].median, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--child", choices=KINDS)
    parser.add_argument("backends", nargs="*", default=["memory", "redis", "postgresql"])
    chosen = parser.parse_args()
    if chosen.child:
        requests(chosen.backends[0], chosen.child)
    for backend in chosen.backends:
        kinds = [k for k in KINDS if backend != "memory" or not k.startswith("raw")]
        columns = {kind: sampled(backend, kind, chosen.seconds) for kind in kinds}
        print(f"\n{backend:28}" + "".join(f"{kind:>16}" for kind in kinds))
        for part in PARTS:
            row = [found[part] for found in columns.values()]
            if any(row):
                print(f"{part:28}" + "".join(f"{value:16.1f}" for value in row))
        print(f"{'all':28}" + "".join(f"{c.total():16.1f}" for c in columns.values()))


if __name__ == "__main__":
    main()
