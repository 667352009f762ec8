"""All that can be told of one session without its id."""

from __future__ import annotations

from typing import Any

from ..saving.times import date_of
from ..sealing.envelope import label_of
from ..stores import Record


def described(record: Record, now: int) -> dict[str, Any]:
    """What ``flask session show`` tells, by name. What is ``None`` is not known or not so.

    :param record: as it stands, expired or ended.
    :param now: milliseconds since the epoch.
    """
    state, meaning = _state(record, now)
    told = {
        "handle": record.handle,
        "state": state,
        "meaning": meaning,
        "goes_on_as": record.successor,
        "subject": None if record.subject is None else str(record.subject),
        "created_at": date_of(record.created),
    }
    if record.ended:
        return told | {
            "ended_at": date_of(record.seen),
            "remembered_until": date_of(record.expires),
            "version": record.version,
        }
    return told | _of_living(record)


def _of_living(record: Record) -> dict[str, Any]:
    told = {
        "last_seen_at": date_of(record.seen),
        "expires_at": date_of(record.expires),
        "lifetime_seconds": record.lifetime / 1000,
        "deadline_at": None if record.deadline is None else date_of(record.deadline),
        "version": record.version,
        "bytes": len(record.payload),
    }
    label = label_of(record.payload)
    if label is None:
        return told | {"damage": "This is no payload of ours: the session begins afresh."}
    return told | {
        "encrypted": label.encrypted,
        "compression": label.compression,
        "id_issued_at": date_of(label.issued),
        "authenticated_at": date_of(label.authenticated) if label.authenticated else None,
        "bound_to_client": label.bound,
        "user_agent": label.device.user_agent or None,
        "remote_addr": label.device.remote_addr or None,
    }


def _state(record: Record, now: int) -> tuple[str, str]:
    """One word for programs, and what it means."""
    if record.ended and record.rotation:
        return "moved", "It was given a new id since SESSION_ROTATION_INTERVAL had passed."
    if record.ended and record.successor:
        return "moved", "It was given a new id: somebody has signed in or out, or asked for it."
    if record.ended:
        return "ended", "The application has ended it: signed out, destroyed, or emptied."
    if not record.alive(now):
        return "expired", "It was not used for its lifetime, or its deadline has passed."
    return "alive", "Whoever has its id can use it."
