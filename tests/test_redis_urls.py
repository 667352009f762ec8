"""What a URL in ``SESSION_REDIS`` may say, and that a wrong one is told at start-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flask_serverside import ConfigurationError

pytestmark = pytest.mark.group("redis")


def place_of(url: str) -> Any:
    from flask_serverside.stores.redis.urls import parse

    return parse(url)


@pytest.mark.parametrize(
    ("url", "kind", "tls", "addresses"),
    [
        ("redis://", "server", False, [("localhost", 6379)]),
        ("redis://h", "server", False, [("h", 6379)]),
        ("redis://:6380/0", "server", False, [("localhost", 6380)]),
        ("redis://:p@:6380", "server", False, [("localhost", 6380)]),
        ("REDISS://h:1/2", "server", True, [("h", 1)]),
        ("redis://[::1]:7/0", "server", False, [("::1", 7)]),
        (
            "redis+cluster://a:1,b,[::1]:3",
            "cluster",
            False,
            [("a", 1), ("b", 6379), ("::1", 3)],
        ),
        ("rediss+cluster://a/0", "cluster", True, [("a", 6379)]),
        ("redis+sentinel://a:1,b/s", "sentinel", False, [("a", 1), ("b", 26379)]),
        ("rediss+sentinel://a/s/3", "sentinel", True, [("a", 26379)]),
        ("unix:///run/redis.sock?db=2", "socket", False, []),
    ],
)
def test_addresses_of_each_kind(
    url: str, kind: str, tls: bool, addresses: list[tuple[str, int]]
) -> None:
    place = place_of(url)
    assert (place.kind, place.tls, list(place.addresses)) == (kind, tls, addresses)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://h", {}),
        ("redis://h/3", {"db": 3}),
        ("redis://h/3?db=4", {"db": 4}),
        ("redis://:p%40%2F@h", {"password": "p@/"}),
        ("redis://u%3A:p:w@h", {"username": "u:", "password": "p:w"}),
        ("redis://u@h?password=p%25", {"username": "u", "password": "p%"}),
        ("redis+cluster://u:p@h,i", {"username": "u", "password": "p"}),
        ("redis+sentinel://u:p@h/s/5", {"username": "u", "password": "p", "db": 5}),
        ("unix://u:p@/r%20s?db=2", {"username": "u", "password": "p", "db": 2}),
        (
            "redis://h?max_connections=5&socket_timeout=.5&protocol=3&socket_keepalive=no",
            {"max_connections": 5, "socket_timeout": 0.5, "protocol": 3}
            | {"socket_keepalive": False},
        ),
        ("rediss://h?ssl_cert_reqs=none", {"ssl_cert_reqs": "none"}),
    ],
)
def test_user_password_database_and_options(url: str, options: dict[str, Any]) -> None:
    assert dict(place_of(url).options) == options


@pytest.mark.parametrize(
    ("url", "path", "user"),
    [
        ("unix:///a@b.sock", "/a@b.sock", None),
        ("unix:///a@/b.sock", "/a@/b.sock", None),
        ("unix://u:p@/a@b.sock", "/a@b.sock", "u"),
        ("unix://u:p@w@/r", "/r", "u"),
        ("unix://u:p@r", "r", "u"),
    ],
)
def test_the_path_of_a_socket_may_have_an_at_sign(
    url: str, path: str, user: str | None
) -> None:
    place = place_of(url)
    assert (place.path, place.options.get("username")) == (path, user)


def test_the_service_and_the_sentinels_own_password() -> None:
    place = place_of("redis+sentinel://:p@h/my%2Fs/1?sentinel_password=q&sentinel_username=r")
    assert place.service == "my/s"
    assert dict(place.options) == {"password": "p", "db": 1}
    assert dict(place.sentinel_options) == {"username": "r", "password": "q"}


WRONG = [
    ("http://h", ["redis+cluster://", "redis+sentinel://"]),
    ("h:6379", ["something else"]),
    ("", ["something else"]),
    ("redis://u:SECRET@h:port", ["port", "65535"]),
    ("redis://h:0", ["port"]),
    ("redis://h:65536", ["port"]),
    ("redis://h:", ["port"]),
    ("redis://::1", ["brackets"]),
    ("redis://[::1", ["brackets"]),
    ("redis://a,b", ["redis+cluster://", "redis+sentinel://"]),
    ("redis://:SECRET/@a@h", ["%2F"]),
    ("redis://h/one", ["number of a database"]),
    ("redis://h/-1", ["number of a database"]),
    ("redis://h/1_0", ["number of a database"]),
    ("redis://h?db=100000000000000000000", ["db", "0 or more"]),
    ("redis://:SECRET@h/\n", ["line break"]),
    ("redis://:SECRET@h\n", ["line break"]),
    ("redis://:pa?SECRET@h:6379", ["%3F"]),
    ("redis://:pa?SECRET&SECRET=1@h:6379", ["%3F"]),
    ("redis://:12#SECRET@h:6379", ["%23"]),
    ("redis://:SECRET @h:bad", ["port"]),
    ("redis://:SE CRET@h:bad", ["port"]),
    ("redis://:SECRET@h?db=x&password=SEC SECRET@SECRET", ["db"]),
    ("redis:/:SECRET@h", ["something else"]),
    ("redis//u:SECRET@h", ["something else"]),
    ("u:SECRET@h:6379", ["something else"]),
    ("SECRET@h:6379", ["something else"]),
    ("redis+cluster://", ["host is missing"]),
    ("redis+cluster://a,,b", ["host is missing"]),
    ("redis+cluster://a/1", ["one database"]),
    ("redis+cluster://a?db=1", ["one database"]),
    ("redis+sentinel://h", ["service is missing"]),
    ("redis+sentinel://h/", ["service is missing"]),
    ("redis+sentinel:///s", ["host is missing"]),
    ("redis+sentinel://h/s/x", ["number of a database"]),
    ("unix://", ["path"]),
    ("redis://:SECRET@h?socket_timeout=soon", ["socket_timeout", "seconds"]),
    ("redis://h?socket_timeout=0", ["socket_timeout", "more than 0"]),
    ("redis://h?socket_connect_timeout=nan", ["socket_connect_timeout"]),
    ("redis://h?max_connections=0", ["max_connections", "1 or more"]),
    ("redis://h?max_connections=", ["max_connections"]),
    ("redis://h?protocol=4", ["protocol", "2 or 3"]),
    ("redis://h?socket_keepalive=maybe", ["socket_keepalive", "true or false"]),
    ("redis://h?sokket_timeout=1", ["sokket_timeout", "socket_timeout"]),
    ("redis://h?retry=1", ["'retry'"]),
    ("redis://h?ssl_cert_reqs=none", ["ssl_cert_reqs", "rediss"]),
    ("rediss://h?ssl_cert_reqs=perhaps", ["required, optional or none"]),
    ("rediss://h?ssl_ca_certs=/no/such/file", ["ssl_ca_certs", "file"]),
    ("rediss://h?ssl_min_version=1", ["ssl_min_version"]),
    ("redis://h?encoding=none", ["encoding"]),
    ("redis://h?sentinel_password=SECRET", ["sentinel_password"]),
]


@pytest.mark.parametrize(("url", "named"), WRONG, ids=[url for url, _ in WRONG])
def test_what_is_wrong_with_a_url_is_named_at_start_up_without_its_password(
    url: str, named: list[str]
) -> None:
    from flask_serverside.stores.redis import RedisStore

    with pytest.raises(ConfigurationError) as caught:
        RedisStore(url)
    text = str(caught.value)
    assert "SESSION_REDIS" in text
    assert "CRET" not in text
    assert all(words in text for words in named), text


def test_an_option_that_the_installed_driver_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flask_serverside.stores.redis import connections
    from flask_serverside.stores.redis import RedisStore

    monkeypatch.setitem(connections._QUIET, "of_tomorrow", True)
    with pytest.raises(ConfigurationError, match="of_tomorrow"):
        RedisStore("redis://h")


def test_certificates_are_checked_unless_the_url_says_otherwise(tmp_path: Path) -> None:
    from flask_serverside.stores.redis.connections import options_of
    from flask_serverside.stores.time_limit import TimeLimit

    for url, checked in (("rediss://h", True), ("rediss://h?ssl_check_hostname=0", False)):
        assert options_of(place_of(url), TimeLimit())["ssl_check_hostname"] is checked
    unchecked = options_of(place_of("rediss://h?ssl_cert_reqs=none"), TimeLimit())
    assert "ssl_check_hostname" not in unchecked


def test_a_url_takes_no_connection_until_it_is_used() -> None:
    from flask_serverside.stores.redis import RedisStore

    for url in ("redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1", "redis+sentinel://h:1/s"):
        RedisStore(url).close()
