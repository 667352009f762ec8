"""Sessions in MongoDB: one document each, removed by a TTL index when it has expired."""

from .store import MongoDBStore

__all__ = ["MongoDBStore"]
