"""What all servers have in common."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
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
    #: Another server that must have been started before, by its name.
    needs: str | None = None
    #: What the program finds in its environment; not given, what we have.
    environment: dict[str, str] | None = None
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
                where = {"stdout": log, "stderr": log, "env": self.environment}
                return subprocess.Popen(command, **where, **self._owner())
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


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
