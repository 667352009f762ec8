"""How much longer a process takes to start that imports the package as well as Flask.

.. code-block:: text

    python benchmarks/start_up.py [--rounds NUMBER]

Milliseconds of a whole process over one that imports Flask alone, in random order: the
difference in each round, its median, and the quarters below and above. Python compiles a
package when it is installed or first imported; what that takes is not in here.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from rounds import over
from rounds import Spread
from running import machine

STORES = ("memory", "redis", "memcached", "mongodb", "sqlalchemy")
PROGRAMS = {
    "Flask": "import flask",
    "flask-serverside": "import flask, flask_serverside",
    **{
        f"and its {name} store": f"import flask, flask_serverside.stores.{name}"
        for name in STORES
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def start(program: str) -> None:
            subprocess.run([sys.executable, "-c", program], env=environment, check=True)

        for program in PROGRAMS.values():
            start(program)
        for _ in range(rounds):
            for name in random.sample(list(PROGRAMS), len(PROGRAMS)):
                times[name].append(_milliseconds(start, PROGRAMS[name]))
    print(machine())
    flask = times.pop("Flask")
    print(f"\n{'Flask':24}{Spread.of(flask):22.1}")
    for name, taken in times.items():
        print(f"{name:24}{Spread.of(over(taken, flask)):22.1}")


def _milliseconds(function: Callable[..., object], *arguments: Any) -> float:
    began = time.perf_counter()
    function(*arguments)
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
