"""What Memcached servers say to an operator."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import pymemcache
from pymemcache.exceptions import MemcacheClientError

from ..examination import Examination
from ..examination import REFUSED
from ..examination import room
from ..examination import since
from ..examination import timed
from ..examination import together

#: Seconds. Who looks for the reason of many sign-ins wants to know of a younger server.
_YOUNG = 24 * 3600


def examine(clients: Mapping[str, Any], max_size: int | None) -> Examination:
    """:param max_size: what the application takes for the largest session, in bytes."""
    return together({name: _examine(client, max_size) for name, client in clients.items()})


def _examine(client: Any, max_size: int | None) -> Examination:
    driver = f"pymemcache {pymemcache.__version__}"
    try:
        stats, now = timed(client.stats)
        settings = client.stats("settings")
    except MemcacheClientError:
        return Examination(driver, REFUSED, (("stats", REFUSED),))
    said = {_text(key): _text(value) for key, value in {**settings, **stats}.items()}
    uptime, evictions = _number(said, "uptime"), _number(said, "evictions")
    largest = _number(said, "item_size_max")
    facts = {
        "running for": since(uptime),
        "memory used": room(_number(said, "bytes")),
        "memory limit": room(_number(said, "limit_maxbytes")),
        "largest item": room(largest),
        "items evicted": str(evictions),
    }
    return Examination(
        driver,
        f"Memcached {said.get('version', '')}".strip(),
        tuple(facts.items()),
        tuple(_warnings(evictions, largest, max_size)),
        (
            f"Memcached was started {since(uptime)} ago and keeps nothing: all sessions from "
            "before ended then."
            if uptime < _YOUNG
            else "Memcached keeps nothing: all sessions end when it is restarted.",
        ),
        _number(said, "time") - now if "time" in said else None,
    )


def _warnings(evictions: int, largest: int, max_size: int | None) -> Iterator[str]:
    if evictions:
        yield (
            f"Memcached has removed {evictions} items to make room since it was started: their "
            "users were logged out if they were sessions. Give it more memory (-m)."
        )
    if max_size is not None and largest and max_size >= largest:
        yield (
            f"SESSION_MAX_SIZE = {max_size} is more than the largest item, {largest} bytes: "
            "what is in between is refused by the server. Raise -I, or lower the key."
        )


def _number(said: Mapping[str, str], name: str) -> int:
    return int(said.get(name, 0))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
