"""The store as one request sees it: one outage is waited for once, unreadable means absent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import TypeVar

from flask import Flask

from ..errors import SerializationError
from ..errors import StoreUnavailable
from ..signals import log
from ..signals import session_rejected
from ..signals import tell
from ..stores import Record
from ..stores import Store

A = TypeVar("A")
R = TypeVar("R")


class Gateway:
    """Asks the store for this request, and tells why what the client presented is rejected."""

    def __init__(self, app: Flask, store: Store) -> None:
        self._app = app
        self.store = store
        #: The store's clock: milliseconds since the epoch.
        self.now = store.now
        #: When the request began.
        self.began = self.now()
        #: Why what the client has presented was not accepted; empty: it was.
        self.rejected = ""
        #: Why the store could not be reached, if it could not.
        self.failure: StoreUnavailable | None = None

    def call(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Call the store. Once it could not be reached, this request does not wait again."""
        if self.failure is not None:
            raise self.failure
        try:
            return operation(*arguments)
        except StoreUnavailable as error:  # the store has logged it, once
            self.failure = error
            raise

    def standing(self, operation: Callable[[A], R | None], argument: A) -> R | None:
        """What a store's operation says. What cannot be read is as good as not there."""
        try:
            return self.call(operation, argument)
        except SerializationError as error:
            handle = argument.handle if isinstance(argument, Record) else argument
            self.ignore(str(handle), error)
            return None

    def reject(self, reason: str, handle: str | None, subject: str | None = None) -> None:
        """Tell that what the client has presented is not accepted."""
        self.rejected = reason
        tell(session_rejected, self._app, handle, subject, reason=reason)

    def ignore(self, handle: str, error: SerializationError) -> None:
        """Tell that what stands there cannot be read."""
        log.warning("Session %s is ignored, it begins afresh: %s", handle, error)
        self.reject("undecodable", handle)
