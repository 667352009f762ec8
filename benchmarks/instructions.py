"""Instructions of the processor a request, counted by callgrind: what a clock cannot settle.

.. code-block:: text

    apt-get install valgrind
    python benchmarks/instructions.py [BACKEND ...]

Two runs of each kind, one with more requests: the difference is what these take, without
starting up. Only this process is counted, neither the kernel nor the server.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys

from contestants import bare
from contestants import flask_session
from contestants import ours
from contestants import raw
from peers import MEASURED
from running import add_backends
from running import each
from running import machine

FEW, MANY = 150, 450
SITES = {"bare": lambda _: bare(), "raw": raw, "ours": ours, "flask-session": flask_session}
KINDS = (
    ("bare", "/untouched"),
    ("raw", "/get"),
    ("raw", "/get-and-set"),
    ("ours", "/untouched"),
    ("ours", "/read"),
    ("ours", "/write"),
    ("flask-session", "/read"),
    ("flask-session", "/write"),
)


def requests(backend: str, site: str, path: str, number: int) -> None:
    """What callgrind watches."""
    for running in each([backend]):
        call = SITES[site](running).request(path)
        for _ in range(number):
            call()


def counted(backend: str, site: str, path: str, number: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, __file__, backend, "--child", site, path, str(number)]
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    told = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    found = re.search(r"Collected : (\d+)", told.stderr)
    assert found is not None, told.stderr
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_backends(parser, MEASURED, ["memory"])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--only", help="a site, such as ours")
    chosen = parser.parse_args()
    if chosen.child:
        site, path, number = chosen.child
        return requests(chosen.backends[0], site, path, int(number))
    print(machine())
    for backend in chosen.backends:
        print(f"\n{backend}")
        for site, path in KINDS:
            if chosen.only not in (None, site):
                continue
            few, many = (counted(backend, site, path, n) for n in (FEW, MANY))
            print(f"  {site:14}{path:14}{(many - few) / (MANY - FEW):12,.0f}", flush=True)
    return None


if __name__ == "__main__":
    main()
