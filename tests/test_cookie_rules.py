"""A cookie that browsers would drop is refused at start-up, and so is a header that is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from backends import Running
from flask import Flask
from flask import make_response
from flask import Response
from flask import send_file
from test_life_of_a_request import handle_in
from test_life_of_a_request import is_alive
from test_life_of_a_request import store_of
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_serverside import ConfigurationError
from flask_serverside import current_session as session
from flask_serverside.testing import Clock
from flask_serverside.web import cookies
from flask_serverside.web.identity import Identity

MakeApp = Callable[..., Flask]

SECURE = {"SESSION_COOKIE_SECURE": True}
HOST = {"SESSION_COOKIE_NAME": "__Host-session"}

WRONG: list[tuple[dict[str, Any], str]] = [
    (
        HOST,
        "SESSION_COOKIE_SECURE = False: expected true, with a name that begins with __Ho",
    ),
    ({**HOST, "SESSION_COOKIE_SECURE": "auto"}, "SESSION_COOKIE_SECURE = 'auto'"),
    ({**HOST, **SECURE, "SESSION_COOKIE_PATH": "/a"}, "SESSION_COOKIE_PATH = '/a'"),
    ({**HOST, **SECURE, "APPLICATION_ROOT": "/a"}, "SESSION_COOKIE_PATH = '/a'"),
    ({**HOST, **SECURE, "SESSION_COOKIE_DOMAIN": "a.org"}, "SESSION_COOKIE_DOMAIN = 'a.org'"),
    ({"SESSION_COOKIE_NAME": "__host-x"}, "SESSION_COOKIE_SECURE"),
    ({"SESSION_COOKIE_NAME": "__Secure-x"}, "SESSION_COOKIE_SECURE.*__Secure-"),
    ({"SESSION_COOKIE_NAME": "__SECURE-x"}, "SESSION_COOKIE_SECURE.*__Secure-"),
    ({"SESSION_COOKIE_SAMESITE": "None"}, "SESSION_COOKIE_SECURE.*SAMESITE = 'None'"),
    ({"SESSION_COOKIE_SAMESITE": "none"}, "SESSION_COOKIE_SECURE.*SAMESITE = 'None'"),
    ({"SESSION_COOKIE_SAMESITE": "lenient"}, "SESSION_COOKIE_SAMESITE = 'lenient'"),
    ({"SESSION_COOKIE_SAMESITE": False}, "SESSION_COOKIE_SAMESITE = False"),
    ({"SESSION_COOKIE_PARTITIONED": True}, "SESSION_COOKIE_SECURE.*PARTITIONED"),
    ({"SESSION_COOKIE_SECURE": "maybe"}, "SESSION_COOKIE_SECURE = 'maybe'.*auto"),
    ({"SESSION_COOKIE_SECURE": 2}, "SESSION_COOKIE_SECURE = 2"),
    ({"SESSION_COOKIE_HTTPONLY": "maybe"}, "SESSION_COOKIE_HTTPONLY = 'maybe'"),
    ({"SESSION_COOKIE_PARTITIONED": "maybe"}, "SESSION_COOKIE_PARTITIONED = 'maybe'"),
    ({"SESSION_COOKIE_NAME": ""}, "SESSION_COOKIE_NAME = ''"),
    ({"SESSION_COOKIE_NAME": "a b"}, "SESSION_COOKIE_NAME = 'a b'"),
    ({"SESSION_COOKIE_NAME": "a=b"}, "SESSION_COOKIE_NAME = 'a=b'"),
    ({"SESSION_COOKIE_NAME": "a;b"}, "SESSION_COOKIE_NAME = 'a;b'"),
    ({"SESSION_COOKIE_NAME": "a\n"}, "SESSION_COOKIE_NAME"),
    ({"SESSION_COOKIE_NAME": "ä"}, "SESSION_COOKIE_NAME = 'ä'"),
    ({"SESSION_COOKIE_NAME": None}, "SESSION_COOKIE_NAME = None"),
    ({"SESSION_COOKIE_NAME": "a" * 4010}, "SESSION_COOKIE_NAME.*4096 bytes"),
    ({"SESSION_COOKIE_PATH": "shop"}, "SESSION_COOKIE_PATH = 'shop'"),
    ({"SESSION_COOKIE_PATH": "/a;b"}, "SESSION_COOKIE_PATH = '/a;b'"),
    ({"SESSION_COOKIE_PATH": "/a b"}, "SESSION_COOKIE_PATH = '/a b'"),
    ({"SESSION_COOKIE_PATH": "/" + "a" * 1024}, "SESSION_COOKIE_PATH.*1024 bytes"),
    ({"APPLICATION_ROOT": "root"}, "APPLICATION_ROOT = 'root'"),
    ({"SESSION_COOKIE_DOMAIN": "http://a.org"}, "SESSION_COOKIE_DOMAIN"),
    ({"SESSION_COOKIE_DOMAIN": "a.org:80"}, "SESSION_COOKIE_DOMAIN"),
    ({"SESSION_COOKIE_DOMAIN": "a.org; Path=/x"}, "SESSION_COOKIE_DOMAIN"),
    ({"SESSION_COOKIE_DOMAIN": "a" * 1025}, "SESSION_COOKIE_DOMAIN.*1024 bytes"),
    ({"SESSION_HEADER": "X Session"}, "SESSION_HEADER = 'X Session'"),
    ({"SESSION_HEADER": ""}, "SESSION_HEADER = ''"),
    ({"SESSION_HEADER": "Cookie"}, "SESSION_HEADER = 'Cookie'"),
    ({"SESSION_HEADER": "set-cookie"}, "SESSION_HEADER = 'set-cookie'"),
    ({"SESSION_HEADER": "X-Session\r\nX-Evil"}, "SESSION_HEADER"),
    ({"SESSION_HEADER": True}, "SESSION_HEADER = True"),
]


@pytest.mark.parametrize(("config", "message"), WRONG)
def test_what_browsers_would_drop_is_refused_at_start_up(
    make_app: MakeApp, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_app(**config)


RIGHT: list[dict[str, Any]] = [
    {**HOST, **SECURE},
    {**HOST, **SECURE, "SESSION_COOKIE_PATH": "/"},
    {**SECURE, "SESSION_COOKIE_NAME": "__Secure-x", "SESSION_COOKIE_PATH": "/a"},
    {**SECURE, "SESSION_COOKIE_SAMESITE": "none", "SESSION_COOKIE_PARTITIONED": True},
    {"SESSION_COOKIE_NAME": "a" * 4000},
    {"SESSION_COOKIE_PATH": "/" + "a" * 1023},
    {"SESSION_COOKIE_DOMAIN": ".example.org"},
    {"SESSION_COOKIE_HTTPONLY": None},
]


@pytest.mark.filterwarnings("ignore:The 'a.* cookie is too large")  # with its attributes
@pytest.mark.parametrize("config", RIGHT)
def test_what_they_take_is_accepted(make_app: MakeApp, config: dict[str, Any]) -> None:
    answer = make_app(**config).test_client().get("/write?a=1", base_url="https://localhost")
    name, _, rest = answer.headers["Set-Cookie"].partition("=")
    assert name == config.get("SESSION_COOKIE_NAME", "session")
    assert len(name) + len(rest.partition(";")[0]) <= 4096


@pytest.mark.filterwarnings("ignore:The 'a.* cookie is too large")
def test_the_longest_id_and_name_come_to_no_more_than_4096_bytes(make_app: MakeApp) -> None:
    name = "a" * (4096 - 256 - 44)
    config = {"SESSION_ID_LENGTH": 192, "SESSION_COOKIE_NAME": name}
    answer = make_app(**config).test_client().get("/write?a=1")
    name, _, rest = answer.headers["Set-Cookie"].partition("=")
    assert len(name) + len(rest.partition(";")[0]) == 4096
    config["SESSION_COOKIE_NAME"] += "a"
    with pytest.raises(ConfigurationError, match="4096"):
        make_app(**config)


def test_secure_auto_is_as_the_request_is(make_app: MakeApp) -> None:
    app = make_app(SESSION_COOKIE_SECURE="auto")

    def setting(**how: Any) -> str:
        return app.test_client().get("/write?a=1", **how).headers["Set-Cookie"]

    assert "Secure" not in setting()
    assert "; Secure" in setting(base_url="https://localhost")
    forwarded = {"X-Forwarded-Proto": "https"}
    assert "Secure" not in setting(headers=forwarded)  # anybody can send that
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    assert "; Secure" in setting(headers=forwarded)
    client = app.test_client()
    client.get("/write?a=1", base_url="https://localhost")
    clearing = client.get("/clear", base_url="https://localhost")
    assert "; Secure" in clearing.headers["Set-Cookie"]


def test_the_browser_sends_it_to_its_path_and_below_and_to_no_other(make_app: MakeApp) -> None:
    app = make_app(SESSION_COOKIE_PATH="/app")

    for number, rule in enumerate(("/app", "/app/", "/app/x", "/application")):
        app.add_url_rule(rule, f"read{number}", lambda: dict(session))
    client = app.test_client()
    client.get("/write?a=1")
    for path, data in {
        "/app": {"a": "1"},
        "/app/": {"a": "1"},
        "/app/x": {"a": "1"},
        "/application": {},
        "/read": {},
    }.items():
        assert client.get(path).json == data, path


def with_caching(app: Flask) -> Flask:
    @app.get("/cached")
    def cached() -> Response:
        session["a"] = session.get("a", 0) + 1
        answer = make_response("")
        answer.cache_control.public = True
        answer.cache_control.max_age = 60
        return answer

    @app.get("/file")
    def file() -> Response:
        session.clear()
        session["b"] = 1
        return send_file(__file__)

    return app


def test_no_cache_keeps_a_response_that_sets_the_id(make_app: MakeApp) -> None:
    app = with_caching(make_app())
    client = app.test_client()
    answer = client.get("/write?a=1")
    assert answer.headers["Cache-Control"] == "no-store"
    for path in ("/read", "/write?a=2", "/untouched"):
        assert "Cache-Control" not in client.get(path).headers
    assert client.get("/clear").headers["Cache-Control"] == "no-store"
    chosen = app.test_client().get("/cached")
    assert "Set-Cookie" in chosen.headers
    assert chosen.headers["Cache-Control"] == "public, max-age=60"


# -- in a header


@pytest.fixture
def api(make_app: MakeApp) -> Flask:
    return make_app(SESSION_HEADER="X-Session")


def sent_to(app: Flask, path: str, value: str | None = None, **headers: str) -> Any:
    if value is not None:
        headers["X-Session"] = value
    return app.test_client(use_cookies=False).get(path, headers=headers)


def test_the_id_travels_in_a_header_instead_of_the_cookie(
    make_app: MakeApp, real_backend: Running
) -> None:
    api = make_app(real_backend, SESSION_HEADER="X-Session", SESSION_ROTATION_INTERVAL=100)
    store_of(api).clock = clock = Clock()
    answer = sent_to(api, "/write?a=1")
    first = answer.headers["X-Session"]
    assert answer.vary.to_header() == "X-Session"
    assert answer.headers["Cache-Control"] == "no-store"
    answer = sent_to(api, "/read", first)
    assert answer.json == {"a": "1"}
    assert "X-Session" not in answer.headers
    clock.advance(100)
    second = sent_to(api, "/write?_user_id=ada", first).headers["X-Session"]
    assert second != first
    assert sent_to(api, "/read", first).json == {}
    assert sent_to(api, "/read", second).json == {"a": "1", "_user_id": "ada"}
    answer = sent_to(api, "/destroy", second)
    assert answer.headers["X-Session"] == ""
    assert sent_to(api, "/read", second).json == {}


def test_never_both_at_once(make_app: MakeApp, api: Flask) -> None:
    value = sent_to(api, "/write?a=1").headers["X-Session"]
    for path in ("/write?b=1", "/destroy"):
        answer = sent_to(api, path, value)
        assert "Set-Cookie" not in answer.headers
    value = sent_to(api, "/write?a=1").headers["X-Session"]
    cookie = {"Cookie": f"session={value}"}
    assert sent_to(api, "/read", **cookie).json == {}
    app = make_app()
    app.session_interface.store = store_of(api)  # type: ignore[attr-defined]
    answer = sent_to(app, "/read", value)
    assert answer.json == {}
    answer = sent_to(app, "/write?a=1", value)
    assert "X-Session" not in answer.headers


def test_never_in_the_url(api: Flask, make_app: MakeApp) -> None:
    value = sent_to(api, "/write?a=1").headers["X-Session"]
    sid = value.partition(".")[0]
    for query in (f"X-Session={value}", f"session={value}", f"sid={sid}"):
        assert sent_to(api, f"/read?{query}").json == {}
        app = make_app()
        app.session_interface.store = store_of(api)  # type: ignore[attr-defined]
        assert sent_to(app, f"/read?{query}").json == {}


@pytest.mark.parametrize(
    "value", ["", " ", "A" * 43, f"{'A' * 43}.{'B' * 43}", "a, b", "ü", "A" * 10_000]
)
def test_a_header_that_we_did_not_sign_gives_a_fresh_session(
    api: Flask, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store_of(api), "find", None)
        assert sent_to(api, "/read", value).json == {}
    new = sent_to(api, "/write?a=1", value).headers["X-Session"]
    assert new != value
    assert Identity(["test"]).verify(new)


def test_two_headers_of_one_name_are_as_good_as_none(api: Flask) -> None:
    value = sent_to(api, "/write?a=1").headers["X-Session"]
    headers = [("X-Session", value), ("X-Session", value)]
    assert api.test_client().get("/read", headers=headers).json == {}
    assert is_alive(api, handle_in(value))


SECURE_NO = "SESSION_COOKIE_SECURE = False: expected true, with "
TOKEN = "letters, digits and !#$%&'*+-.^_`|~."
PATH = "a path that begins with / and has no ; or blank."


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"SESSION_COOKIE_NAME": "a b"}, f"SESSION_COOKIE_NAME = 'a b': expected {TOKEN}"),
        ({"SESSION_COOKIE_PATH": "x"}, f"SESSION_COOKIE_PATH = 'x': expected {PATH}"),
        ({"APPLICATION_ROOT": "x"}, f"APPLICATION_ROOT = 'x': expected {PATH}"),
        (
            {"SESSION_COOKIE_DOMAIN": "a b"},
            "SESSION_COOKIE_DOMAIN = 'a b': expected a host's name.",
        ),
        (
            {"SESSION_COOKIE_SAMESITE": "lenient"},
            "SESSION_COOKIE_SAMESITE = 'lenient': "
            "expected 'Lax', 'Strict' or 'None', as a string.",
        ),
        (
            {"SESSION_COOKIE_SECURE": "maybe"},
            "SESSION_COOKIE_SECURE = 'maybe': expected true, false or auto.",
        ),
        (
            {"SESSION_COOKIE_HTTPONLY": "maybe"},
            "SESSION_COOKIE_HTTPONLY = 'maybe': expected true or false.",
        ),
        (HOST, f"{SECURE_NO}a name that begins with __Host-."),
        (
            {"SESSION_COOKIE_NAME": "__Secure-x"},
            f"{SECURE_NO}a name that begins with __Secure-.",
        ),
        ({"SESSION_COOKIE_SAMESITE": "None"}, f"{SECURE_NO}SESSION_COOKIE_SAMESITE = 'None'."),
        ({"SESSION_COOKIE_PARTITIONED": True}, f"{SECURE_NO}SESSION_COOKIE_PARTITIONED."),
        (
            {**HOST, **SECURE, "SESSION_COOKIE_PATH": "/a"},
            "SESSION_COOKIE_PATH = '/a': expected '/', with a __Host- name.",
        ),
        (
            {**HOST, **SECURE, "SESSION_COOKIE_DOMAIN": "a.org"},
            "SESSION_COOKIE_DOMAIN = 'a.org': expected none, with a __Host- name.",
        ),
        (
            {"SESSION_COOKIE_NAME": "a" * 4096},
            f"SESSION_COOKIE_NAME = '{'a' * 4096}': "
            "expected at most 4096 bytes, with the value.",
        ),
        (
            {"SESSION_COOKIE_PATH": "/" * 1025},
            f"SESSION_COOKIE_PATH = '{'/' * 1025}': expected at most 1024 bytes.",
        ),
    ],
)
def test_it_says_what_was_found_and_what_would_do(
    make_app: MakeApp, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_app(**config)
    assert str(caught.value) == message
    with pytest.raises(ConfigurationError) as caught:
        cookies.check(config, 32)  # without what Flask sets by itself
    assert str(caught.value) == message


@pytest.mark.parametrize("given", [{}, dict(Flask("tests").config)])
def test_what_is_not_configured_is_as_flask_has_it(given: dict[str, Any]) -> None:
    cookies.check(given, 32)
    cookies.check({**given, **HOST, **SECURE}, 32)
    assert cookies.secure(given) is False
    assert cookies.samesite(given) == "Lax"
    assert cookies.flag(given, "SESSION_COOKIE_PARTITIONED") is False
    assert cookies.flag({"SESSION_COOKIE_HTTPONLY": None}, "SESSION_COOKIE_HTTPONLY") is False


@pytest.mark.parametrize("value", ["lax", "LAX", "Lax"])
def test_samesite_is_written_as_the_standard_has_it(value: str) -> None:
    assert cookies.samesite({"SESSION_COOKIE_SAMESITE": value}) == "Lax"
