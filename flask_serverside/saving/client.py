"""Who has sent the request, as far as its session has to know."""

from __future__ import annotations

from flask import Request

from ..config import Settings
from ..sealing.envelope import Device
from ..sealing.envelope import UNKNOWN
from ..web.identity import mark_of


class Client:
    """Looks at the request only when it is asked, and at no more than is configured."""

    def __init__(self, request: Request, settings: Settings) -> None:
        self._request = request
        self._settings = settings

    def mark(self, sid: str) -> bytes:
        """By which this client is known again; who does not say anything is one, too. Empty:
        sessions are bound to none.
        """
        bind = self._settings.bind
        return b"" if bind is None else mark_of(sid, bind(self._request) or "")

    @property
    def device(self) -> Device:
        """What is kept of it for a list of devices."""
        if not self._settings.record_client:
            return UNKNOWN
        agent, address = self._request.user_agent.string, self._request.remote_addr or ""
        return Device.shortened(agent, address)
