"""What the application and its developers are told of a save."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from blinker import NamedSignal

from ..errors import SessionGone
from ..signals import log
from ..signals import session_conflict
from ..signals import tell
from ..stores import Record
from .services import Services


class Telling:
    """Sends signals, warns, and raises what the settings say."""

    def __init__(self, services: Services) -> None:
        self._app = services.app
        self._raises = services.settings.on_gone == "raise"

    def tell(self, signal: NamedSignal, record: Record, **more: str) -> None:
        tell(signal, self._app, record.handle, record.subject, **more)

    def conflict(self, record: Record, reason: str) -> None:
        """A save has met somebody else's."""
        self.tell(session_conflict, record, reason=reason)

    def gone(self, record: Record) -> None:
        """What was changed is dropped, since the session has ended.

        :raises SessionGone: if ``SESSION_ON_GONE`` says so.
        """
        self.conflict(record, "gone")
        if self._raises:
            raise SessionGone(
                f"Session {record.handle} has ended while this request was using it. What "
                "this request changed is not stored."
            )
        log.info("Session %s has ended meanwhile: changes are dropped.", record.handle)

    def warn_of_loss(self, keys: Iterable[str] | None) -> None:
        """Of what is under these keys, or of the new id, since the client can be told no id."""
        lost = "its new id" if keys is None else ", ".join(map(repr, keys))
        warnings.warn(
            f"Lost from the session: {lost}. It is "
            "new or has a new id, and the client can not be given an id any more, because the "
            "response is being sent already, or there is none. Write to the session, or call "
            "regenerate(), before that.",
            RuntimeWarning,
            stacklevel=2,
        )
