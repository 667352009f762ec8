"""What a session works with."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask

from ..config import Settings
from ..sealing.codec import Codec
from ..sealing.envelope import Envelope
from ..stores import Store
from ..web.identity import Identity


@dataclass(frozen=True, slots=True)
class Services:
    """The same for all sessions of an application."""

    app: Flask
    settings: Settings
    store: Store
    codec: Codec
    envelope: Envelope
    identity: Identity
