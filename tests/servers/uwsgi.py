"""uWSGI, from PyPI, with an application of the tests."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .base import Server


class UWSGI(Server):
    """In its default mode: the master imports the application, then forks.

    :param module: the application, as uWSGI takes it: ``"module:name"``. The module is one of
        the tests' own.
    :param environment: what the application is told.
    :param options: more of uWSGI's.
    """

    name = "uwsgi"
    variable = "UWSGI"
    programs = ("uwsgi",)
    #: No page is there; but the server has answered.
    greeting = (b"GET /ready HTTP/1.0\r\n\r\n", b"HTTP/1.")

    def __init__(self, module: str, environment: dict[str, str], *options: str) -> None:
        super().__init__()
        self.module = module
        self.environment = os.environ | environment
        self.options = options

    def find(self) -> Path | None:
        """The one of this Python alone: another could not import the application."""
        found = shutil.which("uwsgi", path=Path(sys.executable).parent)
        return Path(found) if found else None

    def command(self, folder: Path) -> list[str]:
        address = ["--http-socket", f"127.0.0.1:{self.port}"]
        application = ["--chdir", str(Path(__file__).parents[1]), "--module", self.module]
        workers = ["--master", "--processes", "4", "--die-on-term", "--need-app"]
        workers += ["--disable-logging"]  # of requests
        return [str(self.program), *address, *application, *workers, *self.options]

    def end(self) -> None:
        """At once: its workers take a second each to go in order, and have nothing to lose."""
        self.kill()

    @property
    def log(self) -> str:
        assert self._folder is not None
        return (self._folder / "log").read_text(errors="replace")
