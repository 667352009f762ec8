"""Server-side sessions for Flask: the browser holds a signed id, the data stays here."""

from .errors import ConfigurationError
from .errors import NotSupported
from .errors import SerializationError
from .errors import SessionConflict
from .errors import SessionError
from .errors import SessionGone
from .errors import SessionTooLarge
from .errors import StoreError
from .errors import StoreUnavailable
from .errors import TooManySessions
from .extension import current_session
from .extension import Session
from .info import SessionInfo
from .interface import ServerSideSessionInterface
from .merge import MISSING
from .session import ServerSideSession
from .signals import session_conflict
from .signals import session_created
from .signals import session_destroyed
from .signals import session_regenerated
from .signals import session_rejected
from .signals import session_reused
from .signals import session_revoked
from .signals import session_saved

__all__ = [
    "MISSING",
    "ConfigurationError",
    "NotSupported",
    "SerializationError",
    "ServerSideSession",
    "ServerSideSessionInterface",
    "Session",
    "SessionConflict",
    "SessionError",
    "SessionGone",
    "SessionInfo",
    "SessionTooLarge",
    "StoreError",
    "StoreUnavailable",
    "TooManySessions",
    "current_session",
    "session_conflict",
    "session_created",
    "session_destroyed",
    "session_regenerated",
    "session_rejected",
    "session_reused",
    "session_revoked",
    "session_saved",
]
