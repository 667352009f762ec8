"""What PyMongo's errors mean, by the server's code where it has sent one."""

from __future__ import annotations

import re

from pymongo.errors import AutoReconnect
from pymongo.errors import ConnectionFailure
from pymongo.errors import NetworkTimeout
from pymongo.errors import NotPrimaryError
from pymongo.errors import OperationFailure
from pymongo.errors import PyMongoError
from pymongo.errors import ServerSelectionTimeoutError
from pymongo.errors import WriteConcernError

from ..operations import Fault

#: The server was the primary and is no longer, or is being shut down. These are MongoDB's
#: names for its codes, as in its ``error_codes.yml``.
DEMOTED = {
    91: "ShutdownInProgress",
    189: "PrimarySteppedDown",
    10058: "LegacyNotPrimary",
    10107: "NotWritablePrimary",
    11600: "InterruptedAtShutdown",
    11602: "InterruptedDueToReplStateChange",
    13435: "NotPrimaryNoSecondaryOk",
    13436: "NotPrimaryOrSecondary",
}
#: The server is busy, full, or does not reach the others of its set or cluster.
PASSING = {
    6: "HostUnreachable",
    7: "HostNotFound",
    24: "LockTimeout",
    43: "CursorNotFound",
    46: "LockBusy",
    50: "MaxTimeMSExpired",
    63: "StaleShardVersion",
    64: "WriteConcernTimeout",
    70: "ShardNotFound",
    74: "NodeNotFound",
    89: "NetworkTimeout",
    95: "NotSecondary",
    112: "WriteConflict",
    117: "ConflictingOperationInProgress",
    133: "FailedToSatisfyReadPreference",
    134: "ReadConcernMajorityNotAvailableYet",
    150: "StaleEpoch",
    202: "NetworkInterfaceExceededTimeLimit",
    216: "ElectionInProgress",
    237: "CursorKilled",
    262: "ExceededTimeLimit",
    279: "ClientDisconnect",
    290: "TransactionExceededLifetimeLimitSeconds",
    317: "ConnectionPoolExpired",
    365: "TemporarilyUnavailable",
    462: "IngressRequestRateLimitExceeded",
    9001: "SocketException",
    11601: "Interrupted",
    13388: "StaleConfig",
    14031: "OutOfDiskSpace",
}

#: The write concern itself cannot work: nobody but an administrator can change that.
CONCERNS = {
    2: "BadValue",
    9: "FailedToParse",
    14: "TypeMismatch",
    72: "InvalidOptions",
    79: "UnknownReplWriteConcern",
    100: "UnsatisfiableWriteConcern",
}

_LABELS = (
    "RetryableWriteError",
    "RetryableError",
    "TransientTransactionError",
    "SystemOverloadedError",
)

_ADVICE = {
    18: "Correct the user, the password or authSource in SESSION_MONGODB.",
    59: "The server is too old, or is not MongoDB: it lacks this command.",
    73: "Correct SESSION_MONGODB_DB or SESSION_MONGODB_COLLECT.",
    166: "The name is that of a view: set SESSION_MONGODB_COLLECT to a collection.",
    8000: "Atlas refuses it: look at the user, the password and the plan's limits.",
    11000: "Another unique index on the collection refuses it: remove that index.",
    121: "The collection has a validator that refuses sessions: use one without.",
}
_CONCERN_ADVICE = (
    "The replica set cannot keep as many copies as w in the write concern asks for: correct "
    "it, or add members."
)
_CERTIFICATE_ADVICE = (
    "Name the authority that has signed the server's certificate, tlsCAFile in "
    "SESSION_MONGODB, and the server as the certificate does."
)
_ACTIONS = {
    "aggregate": "find",
    "createIndexes": "createIndex",
    "delete": "remove",
    "find": "find",
    "getMore": "find",
    "insert": "insert",
    "update": "update",
}
_COMMAND = re.compile(r"command \{ (\w+):")


def fault(error: Exception) -> Fault:
    code = getattr(error, "code", None)
    if isinstance(error, WriteConcernError):
        # What was written is there, and may be lost again. The second try waits for the
        # write concern of whatever has been written before it, even if it changes nothing.
        if code in DEMOTED:
            return Fault.STALE
        return Fault.REFUSED if code in CONCERNS else Fault.UNAVAILABLE
    if isinstance(error, NotPrimaryError) or code in DEMOTED:
        return Fault.STALE
    if isinstance(error, ConnectionFailure):
        # NetworkTimeout and a selection that lasted too long have used up their time.
        late = isinstance(error, NetworkTimeout | ServerSelectionTimeoutError)
        closed = isinstance(error, AutoReconnect) and not late
        return Fault.STALE if closed else Fault.UNAVAILABLE
    if type(error).__name__ == "_PoolClosedError":
        # Another thread has left the server, or is the first to notice that the process was
        # forked, after this one has chosen the connections. Nothing was sent.
        return Fault.STALE
    passing = code in PASSING or (isinstance(error, PyMongoError) and _passes(error))
    return Fault.UNAVAILABLE if passing else Fault.REFUSED


def demoted(error: Exception) -> bool:
    """Whether the server takes no writes any more."""
    return isinstance(error, NotPrimaryError) or getattr(error, "code", None) in DEMOTED


def untrusted(error: object) -> bool:
    """Whether the server's certificate is not trusted. PyMongo has no class for that, and a
    server that does not trust the client's closes the connection without a word.
    """
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def advice(error: Exception) -> str:
    if untrusted(error):
        return _CERTIFICATE_ADVICE
    if not isinstance(error, OperationFailure) or error.code is None:
        return ""
    if isinstance(error, WriteConcernError):
        return _CONCERN_ADVICE
    if error.code == 13:
        return _permission(str(error))
    return _ADVICE.get(error.code, "")


def _passes(error: PyMongoError) -> bool:
    return error.timeout or any(error.has_error_label(label) for label in _LABELS)


def _permission(message: str) -> str:
    if "requires authentication" in message:
        return "Put a user and a password into SESSION_MONGODB."
    found = _COMMAND.search(message)
    action = _ACTIONS.get(found[1]) if found else None
    if action is None:
        return "Give the user the actions that the documentation names for MongoDB."
    needed = f"Give the user the action {action} on the collection"
    if action != "createIndex":
        return f"{needed}."
    return f"{needed}, or create the indexes yourself and set SESSION_MONGODB_CREATE = False."
