"""MySQL itself, which MariaDB stands for elsewhere: found by the variable ``MYSQLD``, as
``mysql.sh`` beside this file unpacks it, or where its own packages put it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from servers import Server


class MySQL(Server):
    name = "mysql"
    variable = "MYSQLD"
    programs = ("mysqld",)
    folders = ("opt/mysql", "opt/mysql/bin", "usr/local/mysql/bin", "usr/sbin")

    def find(self) -> Path | None:
        found = super().find()
        return None if found is None or "mariadb" in str(found.resolve()) else found

    def prepare(self, folder: Path) -> None:
        subprocess.run(
            [*self._program(folder), "--initialize-insecure"], check=True, capture_output=True
        )

    def command(self, folder: Path) -> list[str]:
        return [
            *self._program(folder),
            f"--socket={folder}/socket",
            f"--pid-file={folder}/pid",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--mysqlx=OFF",
            "--disable-log-bin",
            f"--innodb-buffer-pool-size={self.megabytes}M",
        ]

    def _program(self, folder: Path) -> list[str]:
        user = ["--user=root"] if os.geteuid() == 0 else []
        # A folder for files to import and export is refused unless it exists: none.
        return [
            str(self.program),
            "--no-defaults",
            f"--datadir={folder}/data",
            "--secure-file-priv=",
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
