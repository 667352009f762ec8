"""How the workers of pytest-xdist share the tests and the machine (``pytest -n 2``)."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling


class ByFile(LoadScopeScheduling):
    """A file's tests run in one worker, so that what they share is made once. Histories take
    minutes and share nothing: each goes to the worker that is free.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file.endswith("test_history.py") else file


class Turns:
    """Lets a test that is marked ``alone`` wait for the other workers' tests, and those for it.

    :param folder: one that all workers have.
    """

    def __init__(self, folder: Path) -> None:
        self._gate = (folder / "gate").open("w")
        self._hall = (folder / "hall").open("w")

    @contextmanager
    def taken(self, alone: bool) -> Iterator[None]:
        # Whoever waits for an empty hall keeps the gate shut, or else it would never be empty.
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        fcntl.flock(self._hall, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._hall, fcntl.LOCK_UN)
