"""A request with sessions of 100 bytes to 100 kB.

.. code-block:: text

    pip install -e '.[all,bench,dev]'
    python benchmarks/sizes.py [--rounds NUMBER] [BACKEND ...]

As in peers.py; Flask's cookie does not hold that much.
"""

from __future__ import annotations

import argparse

from peers import compare
from peers import described
from peers import MEASURED
from running import add_backends
from running import each
from running import machine

SIZES = (100, 1000, 10_000, 100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    add_backends(parser, MEASURED, ["memory", "redis"])
    chosen = parser.parse_args()
    print(machine())
    for running in each(chosen.backends):
        for size in SIZES:
            # Several values, as a session has them: a tenth of it each.
            data = {"n": 0} | {f"key-{n}": "x" * (size // 10 - 8) for n in range(10)}
            found = compare(running, chosen.rounds, data)
            print(f"\n{described(f'{running.name}, {size} bytes', found)}", flush=True)


if __name__ == "__main__":
    main()
