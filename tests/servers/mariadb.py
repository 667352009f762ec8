"""MariaDB."""

from __future__ import annotations

import os
from pathlib import Path

from .base import Server


class MariaDB(Server):
    name = "mariadb"
    variable = "MARIADBD"
    programs = ("mariadbd", "mysqld")
    folders = ("usr/sbin", "usr/libexec", "opt/homebrew/opt/mariadb/bin")

    def command(self, folder: Path) -> list[str]:
        # An empty folder and no grant tables: there is nothing to install, so it starts in
        # half a second.
        user = ["--user=root"] if os.geteuid() == 0 else []
        return [
            str(self.program),
            "--no-defaults",
            f"--datadir={folder}",
            f"--socket={folder}/socket",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-grant-tables",
            "--skip-networking=0",
            f"--innodb-buffer-pool-size={self.megabytes}M",
            *user,
        ]

    def answers(self) -> bool:
        import pymysql

        try:
            with pymysql.connect(host="127.0.0.1", port=self.port, user="root") as connection:
                connection.cursor().execute("CREATE DATABASE IF NOT EXISTS test")
        except pymysql.err.OperationalError:
            return False
        return True

    @property
    def url(self) -> str:
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/test"
