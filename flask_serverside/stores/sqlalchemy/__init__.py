"""Sessions in a SQL database, through SQLAlchemy Core."""

from __future__ import annotations

from .store import SQLAlchemyStore
from .table import Instant
from .table import sessions_table

__all__ = ["Instant", "SQLAlchemyStore", "sessions_table"]
