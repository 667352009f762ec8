"""Memcached."""

from __future__ import annotations

import os
from pathlib import Path

from .base import Server


class Memcached(Server):
    name = "memcached"
    variable = "MEMCACHED"
    programs = ("memcached",)
    folders = ("usr/bin", "usr/local/bin", "opt/homebrew/bin")
    greeting = (b"version\r\n", b"VERSION")

    def command(self, folder: Path) -> list[str]:
        options = ["-U", "0", "-m", str(self.megabytes)]
        options += ["-u", "nobody"] if os.geteuid() == 0 else []
        return [str(self.program), "-l", "127.0.0.1", "-p", str(self.port), *options]

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"
