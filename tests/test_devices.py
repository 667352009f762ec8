"""The example of a page of devices, in two real browsers and without one."""

from __future__ import annotations

import datetime
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from servers import Memcached
from servers import Redis
from servers import Server
from test_example import ROOT
from test_example import running

pytestmark = pytest.mark.group("memory")

PICTURE = ROOT / "docs" / "images" / "devices.png"

LAPTOP = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)
TABLET = (
    "Mozilla/5.0 (Linux; Android 15; Pixel Tablet) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """Of our own making: the file with it, and that with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(files[0]), str(files[1])


@pytest.fixture
def browser() -> Iterator[Callable[..., Any]]:
    """Starts a browser of its own for each device. Gives a page in it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        reason = "chromium is not on this machine"
        if os.environ.get("REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())

        def start(**options: Any) -> Any:
            started = playwright.chromium.launch(executable_path=program, args=FLAGS)
            stack.callback(started.close)
            return started.new_context(ignore_https_errors=True, **options).new_page()

        yield start


def sign_in(page: Any, address: str, name: str = "ada", password: str = "engine") -> None:
    page.goto(address)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Where you are signed in").wait_for()


def names_on(page: Any) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(".devices h2").all_inner_texts()]


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.group("redis"))])
def address(
    request: pytest.FixtureRequest,
    certificate: tuple[str, str],
    server: Callable[[str], Server],
) -> Iterator[str]:
    """The example over HTTPS, with a cookie that browsers keep to this host."""
    environment = {
        "FLASK_SESSION_COOKIE_NAME": "__Host-session",
        "FLASK_SESSION_COOKIE_SECURE": "true",
        "FLASK_SESSION_TYPE": request.param,
    }
    if request.param == "redis":
        found = server("redis")
        assert isinstance(found, Redis)
        environment["FLASK_SESSION_REDIS"] = found.url
        environment["FLASK_SESSION_KEY_PREFIX"] = f"devices-{secrets.token_hex(8)}:"
    cert, key = certificate
    with running("devices", environment, "--cert", cert, "--key", key) as host:
        yield f"https://{host}"


def test_one_browser_signs_out_the_other(
    address: str, browser: Callable[..., Any], tmp_path: Path
) -> None:
    laptop = browser(user_agent=LAPTOP, viewport={"width": 800, "height": 640})
    phone = browser(
        user_agent=PHONE,
        viewport={"width": 390, "height": 844},
        is_mobile=True,
        java_script_enabled=False,
    )
    sign_in(laptop, address)
    sign_in(phone, address)
    assert names_on(phone) == ["Mobile Safari on iOS This device", "Firefox on Linux"]
    laptop.reload()
    assert names_on(laptop) == ["Firefox on Linux This device", "Mobile Safari on iOS"]

    laptop.get_by_role("button", name="Sign out Mobile Safari on iOS").click()
    laptop.get_by_text("Mobile Safari on iOS is signed out.").wait_for()
    assert names_on(laptop) == ["Firefox on Linux This device"]
    phone.get_by_role("button", name="Sign out all others").click()
    phone.get_by_role("heading", name="Sign in").wait_for()
    assert "Where you are" not in phone.content()
    laptop.reload()
    assert names_on(laptop) == ["Firefox on Linux This device"]

    sign_in(phone, address)
    phone.get_by_role("button", name="Sign out all others").click()
    phone.get_by_text("1 other device is signed out.").wait_for()
    assert names_on(phone) == ["Mobile Safari on iOS This device"]
    laptop.reload()
    laptop.get_by_role("heading", name="Sign in").wait_for()

    sign_in(laptop, address)
    phone.reload()
    phone.get_by_role("button", name="Sign out everywhere").click()
    phone.get_by_text("You are signed out everywhere.").wait_for()
    for page in (laptop, phone):
        page.goto(address)
        page.get_by_role("heading", name="Sign in").wait_for()


def test_the_browser_keeps_the_cookie_as_it_should(
    address: str, browser: Callable[..., Any]
) -> None:
    page = browser()
    page.goto(address)  # a message for who is not signed in begins a session
    [before] = page.context.cookies()
    sign_in(page, address)
    [cookie] = page.context.cookies()
    assert cookie["value"] != before["value"]
    lives = cookie["expires"] - datetime.datetime.now().timestamp()
    assert lives == pytest.approx(31 * 24 * 3600, abs=300)
    assert {key: cookie[key] for key in ("name", "path", "httpOnly", "secure", "sameSite")} == {
        "name": "__Host-session",
        "path": "/",
        "httpOnly": True,
        "secure": True,
        "sameSite": "Lax",
    }
    assert "partitionKey" not in cookie
    assert cookie["domain"] == "127.0.0.1"  # one with a Domain would have a dot in front
    assert page.evaluate("document.cookie") == ""


def test_the_page_fits_a_phone_and_looks_as_in_the_readme(
    browser: Callable[..., Any], tmp_path: Path
) -> None:
    with running("devices", {}) as host:
        address = f"http://{host}"
        for agent in (PHONE, TABLET):
            sign_in(browser(user_agent=agent), address)
        for scheme in ("light", "dark"):
            phone = browser(
                user_agent=PHONE, color_scheme=scheme, viewport={"width": 360, "height": 740}
            )
            sign_in(phone, address)
            width = phone.evaluate("document.documentElement.scrollWidth")
            assert width <= 360
            phone.screenshot(path=tmp_path / f"phone-{scheme}.png", full_page=True)
            phone.get_by_role("button", name="Sign out, Ada").click()
            phone.get_by_role("heading", name="Sign in").wait_for()
        size = {"width": 760, "height": 560}
        laptop = browser(user_agent=LAPTOP, device_scale_factor=2, viewport=size)
        sign_in(laptop, address)
        assert len(names_on(laptop)) == 3
        laptop.screenshot(path=tmp_path / "devices.png")
        laptop.emulate_media(color_scheme="dark")
        laptop.screenshot(path=tmp_path / "devices-dark.png")
    if os.environ.get("SCREENSHOTS") == "1":
        shutil.copy(tmp_path / "devices.png", PICTURE)
    assert (tmp_path / "devices.png").stat().st_size < 250_000


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FlaskClient]:
    """Signs somebody in to the example."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import devices

    app = devices.create_app()
    app.testing = True

    def signed_in(name: str, environ: dict[str, str] | None = None) -> FlaskClient:
        client = app.test_client()
        form = {"name": name, "password": devices.USERS[name]}
        answer = client.post("/sign-in", data=form, environ_overrides=environ)
        assert answer.status_code == 303
        return client

    return signed_in


def handle_of(client: FlaskClient) -> str:
    with client.session_transaction() as session:
        return str(session.handle)


def test_nobody_ends_the_sessions_of_others(clients: Callable[..., FlaskClient]) -> None:
    ada, grace = clients("ada"), clients("grace")
    for handle in (handle_of(ada), "0" * 64, "x", "../of:ada", "%00", "a" * 5000):
        assert grace.post(f"/{handle}/sign-out").status_code == 404
    assert "Where you are" in ada.get("/").text
    assert handle_of(ada) not in grace.get("/").text
    grace.post("/sign-out-others")
    grace.post("/sign-out-everywhere")
    assert "Where you are" in ada.get("/").text


def test_who_is_not_signed_in_sees_and_ends_nothing(
    clients: Callable[..., FlaskClient],
) -> None:
    ada = clients("ada")
    stranger = ada.application.test_client()
    paths = [f"/{handle_of(ada)}/sign-out", "/sign-out-others", "/sign-out-everywhere"]
    answers = [stranger.get("/"), *(stranger.post(path) for path in paths)]
    assert {answer.status_code for answer in answers} == {302}
    assert {answer.location.partition("?")[0] for answer in answers} == {"/sign-in"}
    assert "Where you are" in ada.get("/").text


@pytest.mark.parametrize("agent", ["", "<script>alert(1)</script>", "x" * 999])
def test_a_client_that_says_nothing_of_itself_is_listed(
    clients: Callable[..., FlaskClient], agent: str
) -> None:
    odd = {"HTTP_USER_AGENT": agent, "REMOTE_ADDR": ""}
    clients("ada", odd)
    page = clients("ada", {"HTTP_USER_AGENT": LAPTOP}).get("/").text
    assert page.count("Unknown device") == 2  # in its heading, and on its button
    assert page.count("Unknown address") == 1
    assert "<script>" not in page


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-90_000, "just now"),  # written by a machine whose clock is ahead
        (-2, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7199, "1 hour ago"),
        (7200, "2 hours ago"),
        (86_400, "1 day ago"),
        (2_678_400, "31 days ago"),
    ],
)
def test_a_time_in_words(monkeypatch: pytest.MonkeyPatch, seconds: int, words: str) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import devices

    now = datetime.datetime.now(datetime.UTC)
    assert devices.ago(now - datetime.timedelta(seconds=seconds)) == words


@pytest.fixture
def on_memcached(monkeypatch: pytest.MonkeyPatch, server: Callable[[str], Server]) -> None:
    found = server("memcached")
    assert isinstance(found, Memcached)
    monkeypatch.setenv("FLASK_SESSION_TYPE", "memcached")
    monkeypatch.setenv("FLASK_SESSION_MEMCACHED", found.url)


@pytest.mark.group("memcached")
@pytest.mark.usefixtures("on_memcached")
def test_where_sessions_cannot_be_listed_the_page_says_so_and_ends_nothing(
    clients: Callable[..., FlaskClient],
) -> None:
    ada = clients("ada")
    said = [ada.get("/"), ada.post("/sign-out-others"), ada.post("/sign-out-everywhere")]
    for answer in said:
        assert answer.status_code == 200
        assert "keeps its sessions where they cannot be listed" in answer.text
    assert "signed out" not in ada.get("/").text
    assert ada.post("/sign-out").location == "/sign-in"


def test_the_readme_shows_the_picture() -> None:
    shown = PICTURE.relative_to(ROOT)
    assert f'src="{shown}"' in (ROOT / "README.md").read_text()
    said = subprocess.run(["git", "ls-files", shown], cwd=ROOT, capture_output=True, text=True)
    assert said.stdout.strip() == str(shown)
