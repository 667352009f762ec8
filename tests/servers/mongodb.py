"""MongoDB."""

from __future__ import annotations

from pathlib import Path

from .base import Server


class MongoDB(Server):
    name = "mongodb"
    variable = "MONGOD"
    programs = ("mongod",)
    wheel = ("fiftyone", "db/bin/mongod")

    def command(self, folder: Path) -> list[str]:
        cache = str(max(256, self.megabytes) / 1024)
        options = ["--nounixsocket", "--wiredTigerCacheSizeGB", cache, "--quiet"]
        options += ["--setParameter", "ttlMonitorSleepSecs=1"]  # a minute by default
        address = ["--bind_ip", "127.0.0.1", "--port", str(self.port)]
        return [str(self.program), "--dbpath", str(folder), *address, *options]

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/"
