"""The store as one request sees it: contents go in, and come out.

Once the store could not be reached it is not asked again. What cannot be read is as good as
not there. What is not accepted is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from typing import NamedTuple
from typing import TypeVar

from flask import Flask

from ..config import Settings
from ..errors import SerializationError
from ..errors import StoreUnavailable
from ..sealing.codec import Codec
from ..sealing.envelope import Contents
from ..sealing.envelope import device_in
from ..sealing.envelope import Envelope
from ..sealing.envelope import UNKNOWN
from ..signals import log
from ..signals import session_rejected
from ..signals import tell
from ..stores import Record
from ..stores import Store
from ..web.identity import handle_of
from ..web.identity import Identity
from ..web.identity import successor_of
from .client import Client
from .subject import subject_of

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Services:
    """What a session works with; the same for all sessions of an application."""

    app: Flask
    settings: Settings
    store: Store
    codec: Codec
    envelope: Envelope
    identity: Identity


class Snapshot(NamedTuple):
    """What stands in the store, as far as this request knows."""

    sid: str
    record: Record
    contents: Contents
    #: Whose session the data says it is. The record, if it says otherwise, is out of date.
    subject: str | None


class Gateway:
    """Opens what the store has for this request's client, and seals what it is given.

    :param client: whose request it is.
    """

    def __init__(self, services: Services, client: Client) -> None:
        self._services = services
        self._client = client
        self._failure: StoreUnavailable | None = None
        self.settings = services.settings
        self.store = services.store
        #: The store's clock: milliseconds since the epoch.
        self.now = services.store.now
        #: When the request began.
        self.began = self.now()
        #: Why what the client has presented was not accepted; empty: it was.
        self.rejected = ""

    @property
    def failed(self) -> bool:
        """Whether it could not be reached."""
        return self._failure is not None

    # -- what stands there

    def find(self, sid: str) -> Record | None:
        """What is stored under this id, a tombstone perhaps, or one that has expired."""
        handle = handle_of(sid)
        try:
            record = self.call(self.store.find, handle)
        except SerializationError as error:
            self._ignore(handle, error)
            return None
        if record is None:
            self.reject("unknown", handle)
        return record

    def heir(self, sid: str, record: Record | None) -> tuple[Snapshot, dict[str, Any]] | None:
        """The session in this record, or the one that its id has led to by rotation, if it is
        alive, can be read and is this client's.
        """
        while record is not None and record.ended:
            if record.rotation is None:
                return None
            sid = successor_of(sid, record.rotation, self.settings.id_length)
            record = self.standing(self.store.load, handle_of(sid))
        if record is None:
            return None
        try:
            contents = self._services.envelope.open(sid, record, self.now())
            data = self._services.codec.decode(contents.data)
            subject = subject_of(data, self.settings.subject_key)
        except SerializationError as error:
            self._ignore(record.handle, error)
            return None
        mark = self._client.mark(sid)
        if mark and contents.client not in (mark, b""):
            self.reject("binding", record.handle, record.subject)
            return None
        unbound = mark and not contents.client
        if unbound or subject != record.subject:
            contents = contents._replace(outdated=True)
        return Snapshot(sid, record, contents, subject), data

    def is_elsewhere(self, known: Snapshot) -> bool:
        """Whether it was used last where this request does not come from."""
        device = self._client.device
        return device != UNKNOWN and device != device_in(known.record.payload)

    # -- what is to stand there

    def sealed(self, sid: str, record: Record, contents: Contents, **changes: Any) -> Snapshot:
        """The record with these contents, but for some changes, as this client's."""
        client = self._client
        contents = contents._replace(
            client=client.mark(sid), device=client.device, outdated=False, **changes
        )
        sealed = self._services.envelope.close(sid, record, contents)
        return Snapshot(sid, sealed, contents, record.subject)

    def standing(self, operation: Callable[[A], R | None], argument: A) -> R | None:
        """What a store's operation says. What cannot be read is as good as not there."""
        try:
            return self.call(operation, argument)
        except SerializationError as error:
            self._ignore(argument.handle if isinstance(argument, Record) else argument, error)
            return None

    def call(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Call the store. Once it could not be reached, this request does not wait again."""
        if self._failure is not None:
            raise self._failure
        try:
            return operation(*arguments)
        except StoreUnavailable as error:  # the store has logged it, once
            self._failure = error
            raise

    # -- what is told

    def reject(self, reason: str, handle: str | None, subject: str | None = None) -> None:
        self.rejected = reason
        tell(session_rejected, self._services.app, handle, subject, reason=reason)

    def _ignore(self, handle: object, error: SerializationError) -> None:
        log.warning("Session %s is ignored, it begins afresh: %s", handle, error)
        self.reject("undecodable", str(handle))
