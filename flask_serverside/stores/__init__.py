"""Where sessions are kept: the contract, the record, and one module for each backend."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from ..errors import ConfigurationError
from .base import ATTEMPTS
from .base import REMEMBERED
from .base import Store
from .base import StoreOptions
from .examination import Examination
from .index import indexed
from .index import IndexedStore
from .index import no_index
from .operations import Fault
from .record import END_OF_TIME
from .record import Entry
from .record import LABEL
from .record import Record

__all__ = [
    "ATTEMPTS",
    "END_OF_TIME",
    "LABEL",
    "REMEMBERED",
    "Entry",
    "Examination",
    "Fault",
    "IndexedStore",
    "Record",
    "Store",
    "StoreOptions",
    "find",
    "indexed",
    "no_index",
]

KEY = "SESSION_TYPE"

#: Distributions add their own under this entry point group: ``name = "module:Class"``.
GROUP = "flask_serverside.stores"

_STORES = {
    "memory": "flask_serverside.stores.memory:MemoryStore",
    "redis": "flask_serverside.stores.redis:RedisStore",
    "memcached": "flask_serverside.stores.memcached:MemcachedStore",
    "mongodb": "flask_serverside.stores.mongodb:MongoDBStore",
    "sqlalchemy": "flask_serverside.stores.sqlalchemy:SQLAlchemyStore",
}
_ALIASES = {"mongo": "mongodb", "sql": "sqlalchemy"}
#: What a built-in store imports, and no other: {name: module of the driver}.
_DRIVERS = {"redis": "redis", "memcached": "pymemcache", "mongodb": "pymongo"}
_DRIVERS |= {"sqlalchemy": "sqlalchemy"}


def find(value: Any) -> type[Store] | Store:
    """What ``SESSION_TYPE`` stands for: a built-in name, the name of an entry point, an
    import path ``"package.module:Class"``, or a store (class) itself.

    :raises ConfigurationError: there is none, or its driver is not installed.
    """
    if isinstance(value, Store) or (isinstance(value, type) and issubclass(value, Store)):
        return value
    if not isinstance(value, str):
        raise _unknown(value)
    name = _ALIASES.get(value, value)
    path = _STORES.get(name) or _entry_point(name) or (name if ":" in name else None)
    if path is None:
        raise _unknown(value)
    module, _, attribute = path.partition(":")
    try:
        store = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise _missing(value, name, error) from error
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            KEY, value, f"a store that can be imported ({error})"
        ) from error
    if not (isinstance(store, type) and issubclass(store, Store)):
        raise ConfigurationError(KEY, value, f"a subclass of {Store.__module__}.Store")
    return store


def _entry_point(name: str) -> str | None:
    for entry in entry_points(group=GROUP, name=name):
        return entry.value
    return None


def _unknown(value: object) -> ConfigurationError:
    names = [*_STORES, *_ALIASES, *(entry.name for entry in entry_points(group=GROUP))]
    return ConfigurationError(
        KEY,
        value,
        f"one of {', '.join(names)}, an import path such as 'package.module:Class', or a Store",
    )


def _missing(value: str, name: str, error: ModuleNotFoundError) -> ConfigurationError:
    if (error.name or "").partition(".")[0] == _DRIVERS.get(name):
        advice = f"pip install 'flask-serverside[{name}]'"
        return ConfigurationError(KEY, value, "a store whose driver is installed", advice)
    return ConfigurationError(KEY, value, f"a store that can be imported ({error})")
