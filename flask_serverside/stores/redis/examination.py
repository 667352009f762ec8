"""What a Redis server, or one that speaks its protocol, says to an operator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from ..examination import Examination
from ..examination import REFUSED
from ..examination import room
from ..examination import since
from ..examination import timed
from ..examination import together

#: Seconds. Who looks for the reason of many sign-ins wants to know of a younger server.
_YOUNG = 24 * 3600
_DRIVERS = ("redis", "valkey")


def examine(clients: Mapping[str, Any]) -> Examination:
    """Each server by itself, by a client for it."""
    alone = "" in clients  # a cluster's servers have names
    return together({name: _examine(client, alone) for name, client in clients.items()})


def _examine(client: Any, alone: bool) -> Examination:
    driver = _driver(client)
    info = _answer(client.info)
    time, now = timed(lambda: _answer(client.time))
    ahead = None if time is None else time[0] + time[1] / 1e6 - now
    if info is None:
        return Examination(driver, REFUSED, (("INFO", REFUSED),), ahead=ahead)
    saves = _answer(client.config_get, "save")
    kept = info.get("aof_enabled") or (saves or {}).get("save")
    persistence = REFUSED if saves is None and not kept else "on" if kept else "off"
    facts = {
        "role": str(info.get("role", "")),
        "running for": since(info.get("uptime_in_seconds", 0)),
        "maxmemory": room(info["maxmemory"]) if info.get("maxmemory") else "no limit",
        "maxmemory-policy": str(info.get("maxmemory_policy", REFUSED)),
        "memory used": room(info.get("used_memory", 0)),
        "keys evicted": str(info.get("evicted_keys", 0)),
        "persistence": persistence,
    }
    return Examination(
        driver,
        _server(info),
        tuple(facts.items()),
        (*_kind(info, alone), *_warnings(info)),
        tuple(_notes(info, persistence == "off")),
        ahead,
    )


def _driver(client: Any) -> str:
    name = type(client).__module__.partition(".")[0]
    return f"{name}-py {sys.modules[name].__version__}" if name in _DRIVERS else name


def _refusals() -> tuple[type[Exception], ...]:
    """How the drivers that are in use say that the server has refused something."""
    loaded = [sys.modules[name] for name in _DRIVERS if name in sys.modules]
    return tuple(driver.exceptions.ResponseError for driver in loaded)


def _answer(ask: Callable[..., Any], *arguments: Any) -> Any:
    """``None``: the server does not let us ask, as is common where somebody else runs it."""
    try:
        return ask(*arguments)
    except _refusals():
        return None


def _server(info: dict[str, Any]) -> str:
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info.get('redis_version', '')}".strip()


def _kind(info: dict[str, Any], alone: bool) -> Iterator[str]:
    if alone and info.get("redis_mode", info.get("server_mode")) == "cluster":
        yield (
            "This server is part of a cluster: sessions whose keys are on its other servers "
            "fail. Begin SESSION_REDIS with redis+cluster://, or pass a redis.RedisCluster."
        )


def _warnings(info: dict[str, Any]) -> Iterator[str]:
    most, policy = info.get("maxmemory", 0), info.get("maxmemory_policy", "noeviction")
    if most and policy != "noeviction":
        yield (
            f"maxmemory-policy is {policy}: when memory is full, Redis removes sessions, and "
            "their users are logged out, or the index of a user's sessions, and revoking them "
            "misses some. Set noeviction, on a server that no cache shares."
        )
    if info.get("evicted_keys"):
        yield (
            f"Redis has removed {info['evicted_keys']} keys to make room since it was started: "
            "their users were logged out if they were sessions. Raise maxmemory."
        )
    if most and info.get("used_memory", 0) > 0.9 * most:
        yield "More than 90 % of maxmemory is used. Raise it, or shorten sessions' lifetime."
    if info.get("role") == "slave":
        yield "This server is a replica and takes no writes. Name the primary in SESSION_REDIS."
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield "The last snapshot has failed, and Redis may refuse writes. Look at its log."


def _notes(info: dict[str, Any], volatile: bool) -> Iterator[str]:
    uptime = info.get("uptime_in_seconds", _YOUNG)
    if volatile and uptime < _YOUNG:
        yield (
            f"Redis was started {since(uptime)} ago and has no persistence: all sessions from "
            "before ended then."
        )
    elif volatile:
        yield "Redis has no persistence: all sessions end when it is restarted."
