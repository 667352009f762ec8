"""Real servers for the tests: found, started on free ports in temporary folders, stopped.

Each is looked for in this order: an environment variable that holds the program's path,
``PATH``, the folders that distributions use, a package from PyPI.
"""

from __future__ import annotations

from .base import free_port
from .base import Server
from .mariadb import MariaDB
from .memcached import Memcached
from .mongodb import MongoDB
from .pgbouncer import PgBouncer
from .postgresql import PostgreSQL
from .redis import Redis
from .together import Servers
from .uwsgi import UWSGI

__all__ = [
    "UWSGI",
    "MariaDB",
    "Memcached",
    "MongoDB",
    "PgBouncer",
    "PostgreSQL",
    "Redis",
    "Server",
    "Servers",
    "free_port",
]
