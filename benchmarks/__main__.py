"""All benchmarks, one after the other, each to a file of figures that the documentation shows.

.. code-block:: text

    apt-get install wrk valgrind memcached mariadb-server-core
    pip install -e '.[all,bench,dev]'
    python benchmarks [FOLDER]

Takes about half an hour. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = ("wrk", "valgrind")
COMMANDS = {
    "start-up": ["start_up.py"],
    "requests": ["peers.py", "--figures"],
    "parts": ["parts.py"],
    "instructions": ["instructions.py"],
    "sizes": ["sizes.py"],
    "served": ["served.py"],
    "redis-bytes": ["redis_bytes.py"],
    "memory-store": ["memory_store.py"],
    "hot-session": ["hot_session.py"],
    "many-sessions": ["many_sessions.py"],
    "stored": ["stored.py"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "folder", nargs="?", type=Path, default=HERE.parent / "docs" / "figures"
    )
    folder = parser.parse_args().folder
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        parser.error(f"not installed: {', '.join(missing)}")
    folder.mkdir(exist_ok=True)
    for name, (script, *options) in COMMANDS.items():
        where = [str(folder)] if "--figures" in options else []
        command = [sys.executable, str(HERE / script), *options, *where]
        print(f"{name}: {script}", flush=True)
        told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        (folder / f"{name}.txt").write_text(told)


if __name__ == "__main__":
    main()
