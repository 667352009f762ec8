"""One operation of a store, whatever it does: in this process, within one time limit, tried
again on a new connection if the old one was stale, and with this package's errors only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from enum import Enum
from typing import Any
from typing import ClassVar
from typing import TypeVar

from ..errors import SerializationError
from ..errors import StoreError
from ..errors import StoreUnavailable
from .outage import Outage
from .time_limit import TimeLimit

T = TypeVar("T")

#: A lock for each process in which stores have been used first by a fork.
_starting: dict[int, threading.Lock] = {}


class Fault(Enum):
    """What an error of the driver means."""

    #: It will not pass by itself: :exc:`StoreError`, 500.
    REFUSED = "refused"
    #: It can pass by itself: :exc:`StoreUnavailable`, 503.
    UNAVAILABLE = "unavailable"
    #: The connection is of no more use: the server has closed it, or takes no writes on it any
    #: more because it was demoted. The operation is tried once more on a new one, and if that
    #: fails, too, is answered as ``UNAVAILABLE``.
    STALE = "stale"


class OutOfStep(Exception):
    """The server has answered somebody else's question."""


class Operations:
    """What a store says of its driver, and what is done about it at each operation."""

    #: The driver's exceptions that mean: the server has closed this connection.
    stale: ClassVar[tuple[type[Exception], ...]] = ()
    #: The driver's exceptions that mean: not reachable, or no answer in time.
    unavailable: ClassVar[tuple[type[Exception], ...]] = ()
    #: The driver's other exceptions.
    failed: ClassVar[tuple[type[Exception], ...]] = ()

    _errors: ClassVar[tuple[type[Exception], ...]] = (OutOfStep,)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._errors = (OutOfStep, *cls.stale, *cls.unavailable, *cls.failed)

    def __init__(self, timeout: float) -> None:
        #: Seconds that an operation may take.
        self.timeout = timeout
        #: What is left of them: a store has each of its steps keep to it.
        self.limit = TimeLimit()
        self._outage = Outage()
        self._process = os.getpid()

    def reset(self) -> None:
        """Forget all connections without closing them. Called in a forked child before its
        first use of the store: they still belong to the parent.
        """

    def _fault(self, error: Exception) -> Fault:
        """What this error of the driver means, where its class does not tell."""
        if isinstance(error, self.stale):
            return Fault.STALE
        return Fault.UNAVAILABLE if isinstance(error, self.unavailable) else Fault.REFUSED

    def _advice(self, error: Exception) -> str:
        """What to do about an error that will not pass by itself: a sentence, or nothing."""
        return ""

    def _reconnect(self) -> None:
        """Have the next operation use a new connection, where the driver does not see to it.

        The server has closed one, or takes no writes on it any more. The others are as old.
        """

    def _call(
        self,
        primitive: Callable[..., T],
        *arguments: Any,
        again: Callable[..., T] | None = None,
    ) -> T:
        """Do one operation: in this process, within one time limit, with our errors only.

        :param again: what to do instead if the first try met a stale connection and nobody
            knows whether it took effect.
        """
        if self._process != os.getpid():
            self._begin_in_child()
        self.limit.start(self.timeout)
        try:
            done = self._tried(primitive, again or primitive, *arguments)
        except self._errors as error:
            raise self._translated(error) from error
        if self._outage.told:
            self._outage.over()
        return done

    def _tried(
        self, primitive: Callable[..., T], again: Callable[..., T], *arguments: Any
    ) -> T:
        try:
            return primitive(*arguments)
        except self._errors as error:
            if self._meaning(error) is not Fault.STALE:
                raise
            self._reconnect()
            if self.limit.over:
                raise
        return self._second_try(again, *arguments)

    def _second_try(self, primitive: Callable[..., T], *arguments: Any) -> T:
        try:
            return primitive(*arguments)
        except OutOfStep as error:  # on a new connection, too: that is what stands there
            raise SerializationError(str(error)) from None
        except self._errors as error:
            if self._meaning(error) is Fault.STALE:
                self._reconnect()
            raise

    def _begin_in_child(self) -> None:
        """Not every server that forks runs ``os.register_at_fork`` hooks: uWSGI does not."""
        process = os.getpid()
        # One lock for each process: the parent's may have been held when it forked.
        with _starting.setdefault(process, threading.Lock()):
            if self._process != process:
                self.reset()
                self._outage = Outage()
                self._process = process

    def _meaning(self, error: Exception) -> Fault:
        return Fault.STALE if isinstance(error, OutOfStep) else self._fault(error)

    def _translated(self, error: Exception) -> StoreError:
        if self._meaning(error) is Fault.REFUSED:
            return StoreError(f"{self._describe(error)} {self._advice(error)}".rstrip())
        unavailable = StoreUnavailable(self._describe(error))
        self._outage.failed(unavailable)
        return unavailable

    def _describe(self, error: Exception) -> str:
        said = " ".join(str(error).split())  # a message is one line in a log
        return f"{type(self).__name__}: {said[:300] or type(error).__name__}"
