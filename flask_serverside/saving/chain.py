"""From an id that was replaced to the one that the session goes on with, and back to it."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from ..config import Settings
from ..stores import Record
from ..web.identity import handle_of
from ..web.identity import successor_of
from .state import Move
from .state import Moving
from .state import Snapshot


def next_in(snapshot: Snapshot, settings: Settings) -> Moving:
    """On its way to the id that follows this one, which all who have this one can reach."""
    rotation = secrets.token_bytes(32)
    sid = successor_of(snapshot.sid, rotation, settings.id_length)
    return Moving(snapshot, Move("rotation", rotation), sid)


def followed(
    sid: str, record: Record | None, load: Callable[[str], Record | None], settings: Settings
) -> tuple[str, Record] | None:
    """The record that this one leads to by rotation, itself perhaps, with its id. ``None``:
    the session has ended, or went on under an id that nobody can tell from this one.

    :param load: what stands under a handle and is alive.
    """
    while record is not None and record.ended:
        if record.rotation is None:
            return None
        sid = successor_of(sid, record.rotation, settings.id_length)
        record = load(handle_of(sid))
    return None if record is None else (sid, record)
