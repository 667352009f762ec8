"""The client: made from a URL or passed, and begun anew in a child process."""

from __future__ import annotations

import os
import re
import threading
import time
from typing import Any
from urllib.parse import unquote

import pymongo
from pymongo.errors import PyMongoError
from pymongo.uri_parser import split_options

from ...errors import ConfigurationError

KEY = "SESSION_MONGODB"
DEFAULT = "mongodb://127.0.0.1:27017"

_UNNOTICED = "With w=0 it would not notice that a session was not stored."

#: Seconds. Whoever notices that a server was demoted has a request of his own to answer.
_GOODBYE = 0.1

#: The process in which Python's fork hooks have run last, PyMongo's among them.
_hooks_ran_in = 0


def _hooks_run() -> None:
    global _hooks_ran_in
    _hooks_ran_in = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_hooks_run)


class Connections:
    """The client of one store in this process.

    :param client: a URL or a :class:`pymongo.MongoClient`.
    :param timeout: seconds an operation may take.
    """

    def __init__(self, client: Any, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._made_at = 0.0
        #: Those that others may still be using, and those of the parent process, which are kept
        #: only so that nothing is done to them.
        self._replaced: list[Any] = []
        self._inherited: list[Any] = []
        self._url = client if isinstance(client, str) else None
        if self._url is not None:
            _check_options(self._url)
        self.client = self._made() if self._url is not None else _checked(client)

    @property
    def database(self) -> str | None:
        """The name of the database in the URL, if it has one."""
        if self._url is None:
            return None
        default = self.client.get_default_database("-").name
        return None if default == "-" else str(default)

    def close(self) -> None:
        if self._url is not None:
            _close([*self._replaced, self.client], self._timeout)
            self._replaced = []

    def begin_in_child(self) -> None:
        """Use no lock and no connection of the parent process."""
        self._lock = threading.Lock()
        if self._url is not None:
            self._inherited += [*self._replaced, self.client]
            self._replaced = []
            self.client = self._made()
        elif isinstance(self.client, pymongo.MongoClient) and _hooks_ran_in != os.getpid():
            # What PyMongo's own hook does. Its pools would notice the other process by
            # themselves, but not until they have taken locks that the parent may have held.
            begin_anew = getattr(self.client, "_after_fork", None)
            if begin_anew is not None:
                begin_anew()

    def leads_to_a_primary(self) -> bool:
        """Whether the driver knows of a server that takes writes, and need not find one."""
        if not isinstance(self.client, pymongo.MongoClient):
            return True
        return self.client.topology_description.has_writable_server()

    def problems(self) -> list[object]:
        """Why the driver has not reached each of the servers that it knows, or ``None``."""
        servers = self.client.topology_description.server_descriptions().values()
        return [server.error for server in servers]

    def leave_demoted(self) -> bool:
        """Use new connections if one address was asked for and no other: the server there takes
        no writes any more, and the address may lead to another by now. Where PyMongo knows the
        members of the replica set it finds the new primary by itself.

        :returns: whether there is a new client.
        """
        with self._lock:
            recent = time.monotonic() - self._made_at < self._timeout
            if self._url is None or recent or not self._alone():
                return False
            # Nobody has begun an operation on these for longer than one takes.
            _close(self._replaced, _GOODBYE)
            self._replaced = [self.client]
            self.client = self._made()
            return True

    def _alone(self) -> bool:
        return bool(self.client.topology_description.topology_type_name == "Single")

    def _made(self) -> Any:
        limit = int(self._timeout * 1000)
        assert self._url is not None
        try:
            client: Any = pymongo.MongoClient(
                self._url,
                connect=False,
                serverSelectionTimeoutMS=limit,
                connectTimeoutMS=limit,
                timeoutMS=limit,
                # The driver's retries each wait for a server as long as the first try did. The
                # store tries again within what is left, and knows by the version what it did.
                retryReads=False,
                retryWrites=False,
                **_durability(self._url),
            )
        except (PyMongoError, ValueError, TypeError, OSError) as error:
            raise ConfigurationError(KEY, self._url, f"a MongoDB URL ({error})") from error
        self._made_at = time.monotonic()
        return client


def _close(clients: list[Any], seconds: float) -> None:
    """Closing tells the server of it, and a server that is frozen says nothing."""
    with pymongo.timeout(seconds):
        for client in clients:
            client.close()


def _options(url: str) -> list[str]:
    """The options in a URL, each as ``name=value``. None, if it is no plain URL: what looks
    like an option may then be a part of the password.
    """
    _, _, rest = url.partition("://")
    _, _, options = rest.rpartition("@")[2].partition("?")
    return [option for option in re.split("[&;]", options) if option]


def _check_options(url: str) -> None:
    """Of an option that it does not know or cannot use, PyMongo only warns."""
    for option in _options(url):
        name = unquote(option.partition("=")[0])
        try:
            found = split_options(option, warn=False)
        except (PyMongoError, ValueError, TypeError, OSError) as error:
            raise ConfigurationError(
                KEY, url, f"a MongoDB URL whose option {name!r} can be used ({error})"
            ) from error
        if found.get("w") == 0:
            raise ConfigurationError(KEY, url, "a URL without w=0", _UNNOTICED)


def _durability(url: str) -> dict[str, Any]:
    """A server that runs alone confirms what a crash a moment later loses, unless it is asked
    to write its journal first. To ask for that alone would be to ask for one server of a
    replica set, and not for most of them. What the URL says wins.
    """
    asked = {option.lower().partition("=")[0] for option in _options(url)}
    wanted = {"journal": True, "w": "majority"}
    return {name: value for name, value in wanted.items() if name not in asked}


def _checked(client: Any) -> Any:
    # By name, too, so that tests may use mongomock's.
    if not isinstance(client, pymongo.MongoClient) and type(client).__name__ != "MongoClient":
        reason = "To use the server on this machine, leave the key out."
    elif not client.write_concern.acknowledged:
        reason = _UNNOTICED
    else:
        return client
    raise ConfigurationError(KEY, client, "a MongoDB URL or a pymongo.MongoClient", reason)
