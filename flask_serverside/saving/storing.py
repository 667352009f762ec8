"""What each step does to the store, and what the store answers."""

from __future__ import annotations

from ..errors import SerializationError
from ..errors import SessionConflict
from ..signals import session_revoked
from ..signals import tell
from ..stores import Record
from .client import Client
from .effects import Answer
from .effects import DONE
from .effects import Ending
from .effects import Evicted
from .effects import Missing
from .effects import Stored
from .effects import TooMany
from .gateway import Gateway
from .loading import Loading
from .quota import Quota
from .services import Services
from .state import Snapshot
from .steps import Bury
from .steps import Create
from .steps import EndLeft
from .steps import EndPresented
from .steps import Evict
from .steps import Fail
from .steps import Save
from .steps import Step
from .steps import Touch


class Storing:
    """Does the steps of one request."""

    def __init__(
        self, services: Services, gateway: Gateway, loading: Loading, client: Client
    ) -> None:
        self._services = services
        self._gateway = gateway
        self._store = gateway.store
        self._loading = loading
        self._client = client

    def do(self, step: Step) -> Answer:
        match step:
            case Save():
                mine = self._sealed(step.snapshot)
                return self._replaced(mine.sid, mine.record, mine)
            case Bury():
                return self._replaced(step.sid, step.tombstone, None)
            case Touch():
                return self._touched(step)
            case Create():
                return self._created(step)
            case EndPresented():
                return self._ended_presented(step)
            case EndLeft():
                return Ending(self.end(step.tombstone, step.remembered), step.tombstone)
            case Evict():
                return self._evicted(step)
            case Fail():
                assert self._gateway.failure is not None
                raise self._gateway.failure
        return DONE

    def end(self, record: Record, remembered: float) -> bool:
        """Whether there was a session to be ended, whatever id it goes on with."""
        ended: bool = self._gateway.call(self._store.end, record, remembered)
        return ended

    def _replaced(self, sid: str, record: Record, mine: Snapshot | None) -> Answer:
        standing = self._gateway.standing(self._store.replace, record)
        if standing is record:
            return Stored(mine and _as_stored(mine, record))
        return self._loading.opened(sid, standing) or Missing(standing)

    def _touched(self, step: Touch) -> Answer:
        if not self._gateway.standing(self._store.touch, step.record):
            return DONE
        return Stored(_as_stored(step.snapshot, step.record))

    def _created(self, step: Create) -> Answer:
        new, settings = step.snapshot, self._services.settings
        quota = Quota(self._gateway, settings, step.replaced) if step.counted else None
        if quota is not None:
            new = new._replace(record=quota.as_newest(new.record))
        new = self._sealed(new)
        if not self._gateway.call(self._store.create, new.record):
            raise SessionConflict(f"There is a session {new.handle} already.")
        if quota is not None and settings.overflow == "refuse":
            surplus = {record.handle for record in quota.surplus(new.record)}
            if new.handle in surplus:
                return TooMany(new)
        return Stored(new)

    def _evicted(self, step: Evict) -> Answer:
        """Others may have signed in at the same time, so that this one is among them."""
        new, services = step.snapshot.record, self._services
        surplus = Quota(self._gateway, services.settings, step.replaced).surplus(new)
        for record in surplus:
            if self.end(record, 0.0):
                # At once: if the next one cannot be ended, this one has been all the same.
                handle, subject = record.handle, record.subject
                tell(session_revoked, services.app, handle, subject, reason="overflow")
        return Evicted(new.handle in {record.handle for record in surplus})

    def _ended_presented(self, step: EndPresented) -> Answer:
        """For all, though this request cannot use it."""
        try:
            record = self._gateway.call(self._store.find, step.handle)
        except SerializationError:  # what cannot be read is ended by removing it
            return Ending(self._gateway.call(self._store.delete, step.handle))
        if record is None:
            return Ending(False)
        return Ending(self.end(record, step.remembered), record)

    def _sealed(self, snapshot: Snapshot) -> Snapshot:
        """As this client's."""
        sid, record, contents, *_ = snapshot
        contents = contents._replace(
            client=self._client.mark(sid), device=self._client.device, outdated=False
        )
        record = self._services.envelope.close(sid, record, contents)
        return snapshot._replace(record=record, contents=contents)


def _as_stored(snapshot: Snapshot, record: Record) -> Snapshot:
    # The backend's mark is that of the version before.
    return snapshot._replace(record=record._replace(token=None))
