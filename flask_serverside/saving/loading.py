"""What is stored under the id that the client has presented, if it is this client's."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

from ..errors import SerializationError
from ..signals import session_reused
from ..signals import session_revoked
from ..signals import tell
from ..stores import Record
from ..stores import REMEMBERED
from ..web.identity import handle_of
from .chain import followed
from .client import Client
from .draft import permanent_in
from .effects import Found
from .gateway import Gateway
from .services import Services
from .state import Absent
from .state import Ended
from .state import Held
from .state import Known
from .state import Snapshot
from .subject import subject_of

#: Why nothing can be made of an id that another process can perhaps make something of.
_ELSEWHERE = ("expired", "undecodable", "ended")


class Loaded(NamedTuple):
    """What a request begins with."""

    state: Known
    data: dict[str, Any]
    #: The handle of an id that this process can make nothing of.
    presented: str | None = None


class Loading:
    """Finds sessions for one request."""

    def __init__(self, services: Services, gateway: Gateway, client: Client) -> None:
        self._services = services
        self._gateway = gateway
        self._client = client

    def load(self, sid: str) -> Loaded:
        """The session with this id, or the one that it was exchanged for. An unknown id is
        never adopted (OWASP: session fixation).
        """
        gateway, now = self._gateway, self._gateway.now()
        record = self._find(handle_of(sid))
        if record is None:
            pass
        elif not record.alive(now):
            gateway.reject("expired", record.handle)
        elif record.ended and self._is_reused(record):
            self._reused(record)
        elif found := self.opened(sid, record):
            return Loaded(Held(found.snapshot), found.data)
        elif record.ended and not gateway.rejected:
            gateway.reject("ended", record.handle, record.subject)
            # Later the cookie is anybody's who comes with it: a new session may take its place.
            if gateway.began < record.seen + int(REMEMBERED * 1000):
                return Loaded(Ended(record), {})
        elsewhere = gateway.rejected in _ELSEWHERE
        return Loaded(Absent(), {}, handle_of(sid) if elsewhere else None)

    def opened(self, sid: str, record: Record | None) -> Found | None:
        """The session in this record, or the one that its id has led to by rotation, if it is
        alive, can be read and is this client's.
        """
        gateway, settings = self._gateway, self._services.settings
        last = followed(
            sid, record, lambda handle: gateway.standing(gateway.store.load, handle), settings
        )
        if last is None:
            return None
        sid, record = last
        try:
            contents = self._services.envelope.open(sid, record, gateway.now())
            data = self._services.codec.decode(contents.data)
            subject = subject_of(data, settings.subject_key)
        except SerializationError as error:
            gateway.ignore(record.handle, error)
            return None
        mark = self._client.mark(sid)
        if mark and contents.client not in (mark, b""):
            gateway.reject("binding", record.handle, record.subject)
            return None
        unbound = mark and not contents.client
        if unbound or subject != record.subject:
            contents = contents._replace(outdated=True)
        permanent = permanent_in(data, settings)
        return Found(Snapshot(sid, record, contents, subject, permanent), data)

    def _find(self, handle: str) -> Record | None:
        """What is stored, a tombstone perhaps, or a record that has expired."""
        gateway = self._gateway
        try:
            record = gateway.call(gateway.store.find, handle)
        except SerializationError as error:
            gateway.ignore(handle, error)
            return None
        if record is None:
            gateway.reject("unknown", handle)
        return record

    def _is_reused(self, tombstone: Record) -> bool:
        grace = int(self._services.settings.rotation_grace * 1000)
        began = self._gateway.began
        return tombstone.rotation is not None and began >= tombstone.seen + grace

    def _reused(self, tombstone: Record) -> None:
        """An id is used that was exchanged too long ago: somebody has a copy of it."""
        gateway, app, ended = self._gateway, self._services.app, False
        handle, subject = tombstone.handle, tombstone.subject
        if self._services.settings.revoke_on_reuse:
            ended = gateway.call(gateway.store.end, tombstone, 0.0)
            gateway.call(gateway.store.delete, handle)
        tell(session_reused, app, handle, subject)
        if ended:
            tell(session_revoked, app, handle, subject, reason="reused")
