"""The line to the servers, made of what ``SESSION_REDIS`` is."""

from __future__ import annotations

import sys
from typing import Any

import redis
from redis.exceptions import RedisError

from ...errors import ConfigurationError
from ..time_limit import TimeLimit
from .cluster import OwnCluster
from .connections import class_of
from .connections import make_client
from .connections import options_of
from .line import Given
from .line import GivenCluster
from .line import Line
from .line import Own
from .sentinel import Watched
from .urls import Address
from .urls import KEY
from .urls import parse
from .urls import Place


def line_to(url: str, limit: TimeLimit) -> Line:
    """A line of our own. Does no I/O.

    :raises ConfigurationError: there can be none.
    """
    place = parse(url)
    kind = class_of(place)
    try:  # what this version of redis-py does not know, or this Python cannot
        most = ("max_connections", "timeout")
        rest = {k: v for k, v in options_of(place, limit).items() if k not in most}
        kind(**rest)
    except (TypeError, ValueError, RedisError) as error:
        allowed = "a URL with options that the installed redis-py has"
        raise ConfigurationError(KEY, url, allowed, str(error)) from None
    if place.kind == "sentinel":
        return Watched(place, limit)
    if place.kind == "cluster":
        return _cluster(place, limit)
    if place.kind == "socket":
        options = options_of(place, limit, path=place.path)
    else:
        ((host, port),) = place.addresses
        options = options_of(place, limit, host=host, port=port)
    return Own(lambda: make_client(kind, options))


def _cluster(place: Place, limit: TimeLimit) -> Line:
    kind = class_of(place)

    def make(address: Address, seconds: float | None = None) -> redis.Redis:
        host, port = address
        shorter = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        more = {} if seconds is None else shorter
        return make_client(kind, options_of(place, limit, host=host, port=port, **more))

    return OwnCluster(place.addresses, make, limit)


def line_by(client: Any) -> Line:
    """The line that a client is, redis-py's or valkey-py's.

    :raises ConfigurationError: it is something else.
    """
    single: list[type] = [redis.Redis]
    clusters: list[type] = [redis.RedisCluster]
    pipelines: list[type] = [redis.client.Pipeline, redis.cluster.ClusterPipeline]
    if valkey := sys.modules.get("valkey"):  # who passes a client has imported it
        single.append(valkey.Valkey)
        clusters.append(valkey.ValkeyCluster)
        pipelines += [valkey.client.Pipeline, valkey.cluster.ClusterPipeline]
    if not isinstance(client, tuple(pipelines)):
        if isinstance(client, tuple(clusters)):
            return GivenCluster(client)
        if isinstance(client, tuple(single)):
            return Given(client)
    raise ConfigurationError(
        KEY,
        client,
        "a Redis URL, a redis.Redis or redis.RedisCluster, a valkey.Valkey or "
        "valkey.ValkeyCluster",
        "Of sentinel, give what its master_for() returns, or a URL that begins with "
        "redis+sentinel://. To use the server on this machine, leave the key out.",
    )


def errors_of(client: Any) -> tuple[type[Exception], ...]:
    """What this client raises, if it is one of valkey-py's."""
    valkey = sys.modules.get("valkey")
    if valkey is None or not isinstance(client, valkey.Valkey | valkey.ValkeyCluster):
        return ()
    errors = valkey.exceptions
    return errors.ValkeyError, errors.ValkeyClusterException
