"""How much longer a process takes to start that imports the package as well as Flask.

.. code-block:: text

    python benchmarks/start_up.py [ROUNDS]

Milliseconds of a whole process, the kinds in turn. Python compiles a package when it is
installed or first imported; what that takes is not in here.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

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
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def start(program: str) -> None:
            subprocess.run([sys.executable, "-c", program], env=environment, check=True)

        for program in PROGRAMS.values():
            start(program)
        for _ in range(rounds):
            for name, program in PROGRAMS.items():
                times[name].append(_milliseconds(start, program))
    bare = statistics.median(times["Flask"])
    print(f"{'Flask':24} {bare:6.1f}")
    for name, taken in list(times.items())[1:]:
        print(f"{name:24} {statistics.median(taken) - bare:+6.1f}")


def _milliseconds(function: Callable[..., object], *arguments: Any) -> float:
    began = time.perf_counter()
    function(*arguments)
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
