"""The backends to be measured, each with its real server while it is measured."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Container
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from backends import BACKENDS
from backends import run
from backends import Running
from servers import Servers


def each(names: Container[str]) -> Iterator[Running]:
    """The backends with these names. The servers end with the iteration."""
    servers = Servers()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for backend in BACKENDS:
                if backend.name in names:
                    server = servers.get(backend.server) if backend.server else None
                    yield run(backend, server, Path(folder))
    finally:
        servers.stop()
