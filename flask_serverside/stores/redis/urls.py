"""What a URL in ``SESSION_REDIS`` says. A wrong one is told at start-up."""

from __future__ import annotations

import codecs
import math
import os
import ssl
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple
from urllib.parse import parse_qsl
from urllib.parse import unquote

from ...errors import ConfigurationError

KEY = "SESSION_REDIS"
DEFAULT = "redis://127.0.0.1:6379/0"

PORT = 6379
SENTINEL_PORT = 26379
#: Each kind of URL: the server it leads to, and whether by TLS.
SCHEMES = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("socket", False),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
}

Address = tuple[str, int]


class Place(NamedTuple):
    """Where sessions are kept, and how to get there."""

    #: ``server``, ``socket``, ``cluster`` or ``sentinel``.
    kind: str
    tls: bool
    #: The servers; of a cluster some of them; the sentinels.
    addresses: tuple[Address, ...]
    #: What redis-py's connections to the servers are given: user, password, database, options.
    options: Mapping[str, Any]
    #: Of a Unix domain socket.
    path: str = ""
    #: What the sentinels call it.
    service: str = ""
    #: The sentinels' own user and password.
    sentinel_options: Mapping[str, Any] = {}


class _Wrong(ValueError):
    """A part of a URL cannot work."""


def _whole(text: str) -> int:
    number = _from_zero(text)
    if number < 1:
        raise ValueError
    return number


def _from_zero(text: str) -> int:
    number = int(text)
    # Python also reads "1_0" and " 1"; servers count in 32 bits.
    if not (text.isascii() and text.isdigit() and number < 2**31):
        raise ValueError
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise ValueError
    return number


def _truth(text: str) -> bool:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
        text.lower()
    ]


def _one_of(*words: str) -> Callable[[str], str]:
    return lambda text: words[words.index(text.lower())]


def _file(text: str) -> str:
    if not os.path.isfile(text):
        raise ValueError
    return text


def _folder(text: str) -> str:
    if not os.path.isdir(text):
        raise ValueError
    return text


def _tls_version(text: str) -> ssl.TLSVersion:
    return ssl.TLSVersion(int(text))


def _encoding(text: str) -> str:
    return codecs.lookup(text).name


_FILE = (_file, "a file that is there")
_SECONDS = (_seconds, "seconds, more than 0")
_TRUTH = (_truth, "true or false")
_COUNT = (_whole, "a whole number, 1 or more")
_TEXT = (str, "text")
#: What may stand in the query, and what it must be.
_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "db": (_from_zero, "a whole number, 0 or more"),
    "username": _TEXT,
    "password": _TEXT,
    "client_name": _TEXT,
    "protocol": (lambda text: int(_one_of("2", "3")(text)), "2 or 3"),
    "max_connections": _COUNT,
    "timeout": _SECONDS,
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _TRUTH,
    "socket_read_size": _COUNT,
    "health_check_interval": (_from_zero, "seconds, a whole number"),
    "retry_on_timeout": _TRUTH,
    "decode_responses": _TRUTH,
    "encoding": (_encoding, "an encoding of Python's"),
    "encoding_errors": (_one_of("strict", "ignore", "replace"), "strict, ignore or replace"),
}
_TLS_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "ssl_cert_reqs": (_one_of("required", "optional", "none"), "required, optional or none"),
    "ssl_check_hostname": _TRUTH,
    "ssl_ca_certs": _FILE,
    "ssl_ca_path": (_folder, "a folder that is there"),
    "ssl_ca_data": _TEXT,
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_password": _TEXT,
    "ssl_min_version": (_tls_version, "a number of Python's ssl.TLSVersion, such as 771"),
    "ssl_ciphers": _TEXT,
    "ssl_validate_ocsp": _TRUTH,
    "ssl_validate_ocsp_stapled": _TRUTH,
}
_SENTINEL_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "sentinel_username": _TEXT,
    "sentinel_password": _TEXT,
}


def parse(url: str) -> Place:
    """What it says.

    :raises ConfigurationError: it cannot work; names the part.
    """
    try:
        return _parsed(url)
    except _Wrong as error:
        allowed = "a Redis URL that begins with " + ", ".join(f"{one}://" for one in SCHEMES)
        raise ConfigurationError(KEY, url, allowed, str(error)) from None


def _parsed(url: str) -> Place:
    if url != url.strip() or not url.isprintable():
        raise _Wrong("There is a blank at an end of it, or a line break in it: take it out.")
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in SCHEMES:
        raise _Wrong("It begins with something else.")
    kind, tls = SCHEMES[scheme.lower()]
    rest, _, fragment = rest.partition("#")
    if "@" in fragment:
        raise _Wrong("Write a # in a password as %23, and an @ as %40.")
    rest, _, query = rest.partition("?")
    if kind == "socket":
        credentials, path = _apart(rest)
        hosts, path = "", unquote(path)
        if not path:
            raise _Wrong("The path of the socket is missing: unix:///path/to/redis.sock.")
    else:
        authority, _, path = rest.partition("/")
        credentials, _, hosts = authority.rpartition("@")
        if "@" in path:
            raise _Wrong("Write a / in a password as %2F, and an @ as %40.")
    options = _queried(query, kind, tls)
    user, _, password = credentials.partition(":")
    options |= {"username": unquote(user)} if user else {}
    options |= {"password": unquote(password)} if password else {}
    sentinel_options = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in _SENTINEL_OPTIONS
        if name in options
    }
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        service = unquote(service)
        if not service:
            raise _Wrong("The service is missing: redis+sentinel://host:26379/SERVICE.")
    if kind != "socket":
        options |= _database(path, options)
    if kind == "cluster" and options.pop("db", 0) != 0:
        raise _Wrong("A cluster has one database, 0: leave its number out.")
    return Place(
        kind,
        tls,
        _addresses(hosts, kind),
        options,
        path if kind == "socket" else "",
        service,
        sentinel_options,
    )


def _apart(rest: str) -> tuple[str, str]:
    """User and password, and the path of a socket, which may have an @ in it."""
    if rest.startswith("/"):
        return "", rest
    credentials, found, path = rest.partition("@/")
    if found:
        return credentials, f"/{path}"
    credentials, _, path = rest.rpartition("@")
    return credentials, path


def _database(path: str, options: Mapping[str, Any]) -> dict[str, int]:
    if not path or "db" in options:
        return {}
    try:
        return {"db": _from_zero(path.strip("/"))}
    except ValueError:
        raise _Wrong("What follows the last / is no number of a database.") from None


def _addresses(hosts: str, kind: str) -> tuple[Address, ...]:
    if kind == "socket":
        return ()
    port = SENTINEL_PORT if kind == "sentinel" else PORT
    parts = hosts.split(",")
    if kind == "server" and len(parts) > 1:
        raise _Wrong(
            "Several servers are a cluster (redis+cluster://) or known to sentinels "
            "(redis+sentinel://)."
        )
    return tuple(_address(part, port, kind) for part in parts)


def _address(text: str, port: int, kind: str) -> Address:
    if text.startswith("["):  # IPv6
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise _Wrong("An address in brackets is not closed.")
        number = rest[1:] if rest else str(port)
    else:
        host, colon, number = text.partition(":")
        number = number if colon else str(port)
        if ":" in number:
            raise _Wrong("Put an IPv6 address into brackets: [::1]:6379.")
    if not host and kind == "server":
        host = "localhost"  # as redis-py takes it
    if not host:
        raise _Wrong("A host is missing.")
    if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        raise _Wrong("A port is no number from 1 to 65535.")
    return unquote(host), int(number)


def _queried(query: str, kind: str, tls: bool) -> dict[str, Any]:
    known = _OPTIONS | (_TLS_OPTIONS if tls else {})
    known |= _SENTINEL_OPTIONS if kind == "sentinel" else {}
    found = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in _TLS_OPTIONS and not tls:
            raise _Wrong(f"{name} is for TLS: begin the URL with rediss.")
        if name not in known and "@" in query:  # a part of a password, perhaps
            raise _Wrong("Write a ? in a password as %3F, a & as %26, and an @ as %40.")
        if name not in known:
            raise _Wrong(f"There is no option {name!r}. Known are {', '.join(sorted(known))}.")
        convert, allowed = known[name]
        try:
            found[name] = convert(text)
        except (ValueError, LookupError):
            raise _Wrong(f"{name} must be {allowed}.") from None
    return found
