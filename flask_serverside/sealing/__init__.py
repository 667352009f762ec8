"""From a session's data to a record's payload, and back."""

from .serializers import JSON
from .serializers import MsgPack
from .serializers import Serializer

__all__ = ["JSON", "MsgPack", "Serializer"]
