"""When a session ends: some time after its last use, and at its deadline in any case.

The end moves only from time to time. With it the cookie is sent again, and a cookie that is
still on its way when another request gets a new id takes the browser back to the old one.
"""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import UTC

from ..config import Settings
from ..stores import Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def date_of(milliseconds: int) -> datetime:
    """Of milliseconds since the epoch: aware, in UTC."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def deadline_from(now: int, settings: Settings) -> int | None:
    """When a session that begins now ends however much it is used."""
    absolute = settings.absolute_lifetime
    return None if absolute is None else now + int(absolute * 1000)


def end_after_use(record: Record, now: int, lifetime: int, settings: Settings) -> int:
    """When the session ends if it is used now: where that is not due, when it ended before.

    :param lifetime: in milliseconds. If it is a new one, the end moves in any case.
    """
    expires = end_of(record, now, lifetime)
    due = lifetime != record.lifetime or _is_due(record, expires, settings)
    return expires if due else record.expires


def touch_is_due(record: Record, now: int, settings: Settings) -> bool:
    """Whether to extend a session that was only read."""
    expires = end_of(record, now, record.lifetime)
    return settings.touch_on_read and _is_due(record, expires, settings)


def rotation_is_due(issued: int, now: int, settings: Settings) -> bool:
    """Whether an id has been in use for long enough."""
    interval = settings.rotation_interval
    return interval is not None and now - issued >= int(interval * 1000)


def end_of(record: Record, now: int, lifetime: int) -> int:
    """When the session ends if it is used now and each use moves its end."""
    end = now + lifetime
    return end if record.deadline is None else min(end, record.deadline)


def _is_due(record: Record, expires: int, settings: Settings) -> bool:
    interval = min(settings.touch_interval * 1000, record.lifetime / 10)
    return expires - record.expires >= max(1, interval)
