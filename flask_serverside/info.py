"""What is told of a session to those who do not have its id."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from .saving.times import date_of
from .sealing.envelope import device_in
from .stores import Record


class SessionInfo(NamedTuple):
    """One session in a list. Nothing in it can be used as a cookie. All times are aware, in
    UTC.
    """

    #: The SHA-256 of the id, in hex: what :meth:`~flask_serverside.Session.revoke` takes.
    handle: str
    #: Whose session it is; ``None``: nobody has signed in.
    subject: str | None
    #: When the user has signed in or, if nobody has, when it was first stored.
    created_at: datetime
    #: When it was last used, as far as was noted: every ``SESSION_TOUCH_INTERVAL`` at most.
    last_seen_at: datetime
    #: When it ends unless it is used again.
    expires_at: datetime
    #: The ``User-Agent`` header of the client that has used it last, at most 255 bytes;
    #: ``None``: it sent none, or ``SESSION_RECORD_CLIENT`` is off. Whoever sends it chooses it:
    #: do not trust it, nor put it into a page unescaped.
    user_agent: str | None
    #: The address of that client. Behind a proxy, Werkzeug's ``ProxyFix`` must say it.
    remote_addr: str | None
    #: Whether it is that of the request at hand.
    current: bool


def info_of(record: Record, current: bool) -> SessionInfo:
    device = device_in(record.payload)
    return SessionInfo(
        record.handle,
        record.subject,
        date_of(record.created),
        date_of(record.seen),
        date_of(record.expires),
        device.user_agent or None,
        device.remote_addr or None,
        current,
    )
