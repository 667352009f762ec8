"""Sessions in Redis or Valkey: one server, one behind sentinels, or a cluster."""

from __future__ import annotations

from .scripts import CLUSTER_COMMANDS
from .scripts import COMMANDS
from .scripts import SENTINEL_COMMANDS
from .store import RedisStore
from .urls import DEFAULT
from .urls import KEY

__all__ = [
    "CLUSTER_COMMANDS",
    "COMMANDS",
    "DEFAULT",
    "KEY",
    "SENTINEL_COMMANDS",
    "RedisStore",
]
