"""One request with each kind of session: nothing, Flask's cookie, Flask-Session, and this.

.. code-block:: text

    pip install -e '.[all,bench,dev]'
    python benchmarks/peers.py [--rounds NUMBER] [--figures FOLDER] [BACKEND ...]

All of a backend's calls take turns in one run. Figures are microseconds over a request to a
bare application, and ratios, each taken in every round: medians, and the quarters below and
above. The raw client's are those of a request without a session that gets, or gets and sets,
as many bytes. The servers are started and stopped.
"""

from __future__ import annotations

import argparse
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
from contestants import TOUCHING
from contestants import touching
from contestants import UNREFRESHED
from contestants import unrefreshed
from rounds import over
from rounds import ratio
from rounds import Spread
from rounds import timed
from running import add_backends
from running import each
from running import machine
from running import Running
from running import told

MEASURED = ("memory", "redis", "memcached", "mongodb", "postgresql", "mariadb")
PATHS = ("untouched", "read", "write")

#: Of each site and kind of request, how long it takes in each round.
Table = dict[tuple[str, str], list[float]]


def compare(running: Running, rounds: int, data: Any = None) -> Table:
    ours_, peer = ours(running, data), flask_session(running, data)
    others = [cookie(), unrefreshed(running)] if data is None else []
    client = raw(running, stored_bytes(ours_))
    calls = {
        (BARE, "untouched"): bare().request("/untouched"),
        (RAW, "read"): client.request("/get"),
        (RAW, "write"): client.request("/get-and-set"),
        (TOUCHING, "read"): touching(running, data).request("/read"),
    }
    calls |= {
        (site.name, path): site.request(f"/{path}")
        for site in (ours_, peer, *others)
        for path in PATHS
    }
    return timed(calls, rounds)


def over_bare(table: Table) -> Table:
    bare_ = table[BARE, "untouched"]
    return {kind: over(rows, bare_) for kind, rows in table.items() if kind[0] != BARE}


def described(name: str, table: Table) -> str:
    found = over_bare(table)
    lines = [
        f"{name}, over a bare request of {Spread.of(table[BARE, 'untouched']):.1}",
        f"  {'':28}{''.join(f'{path:>22}' for path in PATHS)}",
    ]
    for site in (RAW, OURS, TOUCHING, PEER, UNREFRESHED, "Flask's cookie"):
        cells = "".join(_cell(found.get((site, path))) for path in PATHS)
        if cells.strip():
            lines.append(f"  {site:28}{cells}".rstrip())
    for one, other in ((OURS, RAW), (PEER, OURS)):
        if other != RAW or not name.startswith("memory"):  # where a get takes nothing
            read, write = (ratio(found[one, path], found[other, path]) for path in PATHS[1:])
            lines.append(f"  {f'{one} / {other}':50}{read:22.2}{write:22.2}")
    return "\n".join(lines)


def _cell(rows: list[float] | None) -> str:
    return f"{Spread.of(rows):22.1}" if rows else " " * 22


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--figures", type=Path, help="a folder to draw the plot in")
    add_backends(parser, MEASURED)
    chosen = parser.parse_args()
    tables = {}
    print(machine())
    for running in each(chosen.backends):
        tables[running.name] = compare(running, chosen.rounds)
        title = running.name + told(running.server)
        print(f"\n{described(title, tables[running.name])}", flush=True)
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
            spreads = [Spread.of(table[site, path]) for table in tables.values()]
            heights = [spread.median for spread in spreads]
            below = [spread.median - spread.quarter for spread in spreads]
            above = [spread.three_quarters - spread.median for spread in spreads]
            bars = {"yerr": (below, above), "error_kw": {"elinewidth": 0.8}}
            axis.bar(places, heights, 0.25, label=site, **bars)
        axis.set_xticks(range(len(tables)), tables, rotation=20)
        axis.set_title(path)
    axes[0].set_ylabel("microseconds over a request without a session")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(folder / "requests.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
