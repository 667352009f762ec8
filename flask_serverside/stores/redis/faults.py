"""What an error of Redis means: by its code, whichever class a driver makes of it."""

from __future__ import annotations

import re

from ..operations import Fault

#: What can pass by itself.
_PASSING = {
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "TRYAGAIN",
    "UNKILLABLE",
}
#: The codes that drivers take off the message, by the class that they make of them.
_CODES = {
    "AskError": "ASK",
    "AuthenticationError": "NOAUTH",
    "AuthenticationWrongNumberOfArgsError": "NOAUTH",
    "BusyLoadingError": "LOADING",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}
#: What Redis 6 says of a script: "Error running script (call to f_...): @user_script:16:
#: -OOM command not allowed ...", with @user_script once or twice.
_IN_A_SCRIPT = re.compile(r"@user_script: ?\d+: -?([A-Z]{2,}) ")

#: Words of messages without a code.
_WORDS = (
    ("max number of clients", "MAXCLIENTS"),
    ("DB index is out of range", "DATABASE"),
    ("SELECT is not allowed in cluster mode", "MOVED"),
    ("cluster support disabled", "NOCLUSTER"),
    ("Cluster mode is not enabled", "NOCLUSTER"),
    ("No such master with name", "SERVICE"),
    ("ACL failure in script", "NOPERM"),
    ("can't run this command or subcommand", "NOPERM"),
    ("can't access at least one of the keys", "NOPERM"),
    ("has no permissions to", "NOPERM"),
    ("without any password configured", "NOPASSWORD"),
    ("CERTIFICATE_VERIFY_FAILED", "CERTIFICATE"),
    ("WRONG_VERSION_NUMBER", "NOTLS"),
    ("record layer failure", "NOTLS"),
)
#: What a sentinel does not know.
_SENTINELS = {"get", "set", "select", "getrange", "scan", "zscan", "evalsha", "eval"}
_UNKNOWN = re.compile(r"(?i)unknown command [`'\"]?(\w+)")

_ADVICE = {
    "NOAUTH": "Correct the user and the password in SESSION_REDIS.",
    "NOPASSWORD": "The server has no password: take it out of SESSION_REDIS.",
    "NOPERM": "Give the user the permissions that docs/backends.rst lists, on the keys that "
    "begin with SESSION_KEY_PREFIX.",
    "DATABASE": "The server has fewer databases (a cluster has one): correct the number in "
    "SESSION_REDIS.",
    "MOVED": "The server is part of a cluster: use redis+cluster://host:port in SESSION_REDIS.",
    "CROSSSLOT": "The server is part of a cluster: use redis+cluster://host:port in "
    "SESSION_REDIS.",
    "SENTINEL": "This looks like a sentinel, which keeps no data: use "
    "redis+sentinel://host:port/SERVICE in SESSION_REDIS. If it is none, it lacks "
    "commands that the store needs.",
    "NOSENTINEL": "This server is no sentinel: use redis://host:port in SESSION_REDIS.",
    "NOCLUSTER": "This server is part of no cluster: use redis://host:port in SESSION_REDIS.",
    "SERVICE": "Correct the service in SESSION_REDIS, redis+sentinel://host:port/SERVICE.",
    "UNKNOWN": "The server does not know a command that the store needs; Redis 5 or Valkey do.",
    "CERTIFICATE": "Name the authority that has signed the server's certificate: ssl_ca_certs "
    "in SESSION_REDIS.",
    "NOTLS": "The server does not speak TLS on this port: begin SESSION_REDIS with redis, not "
    "rediss, or correct the port.",
}


def code(error: BaseException) -> str:
    """A word for what has happened; nothing if it is not known."""
    text = str(error)
    for words, found in _WORDS:
        if words in text:
            return found
    names = _names(error)
    for name in names:
        if name in _CODES:
            return _CODES[name]
    if unknown := _UNKNOWN.search(text):
        if unknown[1].lower() == "sentinel":
            return "NOSENTINEL"
        return "SENTINEL" if unknown[1].lower() in _SENTINELS else "UNKNOWN"
    if within := _IN_A_SCRIPT.search(text):
        return within[1]
    begins = re.match(r"-?([A-Z]{2,})\b", text)
    return begins[1] if begins else ""


def meaning(error: BaseException) -> Fault:
    found, names = code(error), _names(error)
    if found == "READONLY":
        return Fault.STALE
    if found in _PASSING or found == "MAXCLIENTS":
        return Fault.UNAVAILABLE
    if found in _ADVICE:
        return Fault.REFUSED
    if {"RedisClusterException", "ClusterError", "ValkeyClusterException"} & {*names}:
        # No node reachable: because of what, the cause says.
        cause = error.__cause__
        refused = cause is not None and code(cause) in _ADVICE
        return Fault.REFUSED if refused else Fault.UNAVAILABLE
    if {"MaxConnectionsError", "MasterNotFoundError", "TimeoutError"} & {*names}:
        return Fault.UNAVAILABLE
    if "ConnectionError" in names:
        busy = "No connection available" in str(error) or "Too many connections" in str(error)
        return Fault.UNAVAILABLE if busy else Fault.STALE
    return Fault.REFUSED


def advice(error: BaseException) -> str:
    found = _ADVICE.get(code(error), "")
    if not found and error.__cause__ is not None:
        found = _ADVICE.get(code(error.__cause__), "")
    return found


def timed_out(error: BaseException) -> bool:
    return "TimeoutError" in _names(error)


def _names(error: BaseException) -> list[str]:
    """Of the classes: redis-py's and valkey-py's have the same."""
    return [kind.__name__ for kind in type(error).__mro__]


def unknown_script(error: object) -> bool:
    return isinstance(error, Exception) and "NoScriptError" in _names(error)


def of_another_type(error: BaseException) -> bool:
    """Whether something other than what we use stands under a key."""
    return "WRONGTYPE" in str(error)
