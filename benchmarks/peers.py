"""One request with each kind of session: nothing, Flask's cookie, Flask-Session, and this.

.. code-block:: text

    pip install -e '.[all,bench]'
    python benchmarks/peers.py [--rounds NUMBER] [--figures FOLDER] [BACKEND ...]

All of a backend's calls take turns in one run, and are medians in microseconds over a bare
application's, with the quarters below and above. The raw client's are those of a request
without a session that gets, or gets and sets, as many bytes. The servers are started and
stopped.
"""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contestants import BARE
from contestants import bare
from contestants import cookie
from contestants import flask_session
from contestants import OURS
from contestants import ours
from contestants import PEER
from contestants import RAW
from contestants import raw
from contestants import stored_bytes
from rounds import timed
from rounds import Timing
from running import each
from running import Running

MEASURED = ("memory", "redis", "memcached", "mongodb", "postgresql", "mariadb")
PATHS = ("untouched", "read", "write")

#: Of each site, how long each kind of request takes.
Table = dict[str, dict[str, Timing]]


def compare(running: Running, rounds: int, data: Any = None) -> Table:
    sites = [ours(running, data), flask_session(running, data)]
    if data is None:
        sites.append(cookie())
    client = raw(running, stored_bytes(sites[0]))
    calls = {(BARE, "untouched"): bare().request("/untouched")}
    calls |= {
        (RAW, "read"): client.request("/get"),
        (RAW, "write"): client.request("/get-and-set"),
    }
    calls |= {(s.name, path): s.request(f"/{path}") for s in sites for path in PATHS}
    table: Table = {}
    for (name, path), timing in timed(calls, rounds).items():
        table.setdefault(name, {})[path] = timing
    return table


def over_bare(table: Table) -> Table:
    base = table[BARE]["untouched"].median
    return {
        name: {path: timing.less(base) for path, timing in row.items()}
        for name, row in table.items()
        if name != BARE
    }


def described(name: str, table: Table) -> str:
    over = over_bare(table)
    lines = [
        f"{name}, over a bare request of {table[BARE]['untouched']}",
        f"  {'':18}{''.join(f'{path:>22}' for path in PATHS)}",
    ]
    for site, row in over.items():
        cells = "".join(f"{row.get(path, ''):>22}" for path in PATHS)
        lines.append(f"  {site:18}{cells}")
    mine, client, peer = (over[site] for site in (OURS, RAW, PEER))
    ratios = [mine[path].median / client[path].median for path in PATHS[1:]]
    peers = [peer[path].median / mine[path].median for path in PATHS[1:]]
    if not name.startswith("memory"):  # where a get takes next to nothing
        lines.append("  a read is {:.2f} gets, a write {:.2f} gets and sets".format(*ratios))
    lines.append("  Flask-Session's read is {:.1f} of ours, its write {:.1f}".format(*peers))
    return "\n".join(lines)


def machine() -> str:
    packages = ("flask", "werkzeug", "flask-session", "redis", "pymemcache", "pymongo")
    versions = (f"{name} {version(name)}" for name in (*packages, "psycopg", "sqlalchemy"))
    with open("/proc/cpuinfo") as file:
        [processor, *_] = (line.split(": ")[1] for line in file if "model name" in line)
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} x {processor.strip()}\n"
        f"{', '.join(versions)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--figures", type=Path, help="a folder to draw the plot in")
    parser.add_argument("backends", nargs="*", default=MEASURED, help=", ".join(MEASURED))
    chosen = parser.parse_args()
    tables = {}
    print(machine())
    for running in each(chosen.backends):
        tables[running.name] = compare(running, chosen.rounds)
        print(f"\n{described(running.name, tables[running.name])}", flush=True)
    if chosen.figures:
        chosen.figures.mkdir(exist_ok=True)
        draw({name: over_bare(t) for name, t in tables.items()}, chosen.figures)


def draw(tables: dict[str, Table], folder: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "the same figures, the same file"
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    sites = (RAW, OURS, PEER)
    for axis, path in zip(axes, PATHS[1:], strict=True):
        for number, site in enumerate(sites):
            places = [place + (number - 1) * 0.27 for place in range(len(tables))]
            axis.bar(places, [t[site][path].median for t in tables.values()], 0.25, label=site)
        axis.set_xticks(range(len(tables)), tables, rotation=20)
        axis.set_title(path)
    axes[0].set_ylabel("microseconds over a request without a session")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(folder / "requests.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
