"""The example, as a person uses it: a browser-like client, and an app that is restarted."""

from __future__ import annotations

import contextlib
import http.cookiejar
import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import Running
from servers import free_port

ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def running(name: str, environment: dict[str, str], *options: str) -> Iterator[str]:
    """An example, started as the README says. Gives its host and port."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "flask", "--app", f"examples/{name}", "run"),
            *("--port", str(port), *options),
        ],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()  # also where Control-C is ignored, as in the background
        process.wait()


@contextlib.contextmanager
def shop(environment: dict[str, str]) -> Iterator[str]:
    with running("shop", environment) as host:
        yield f"http://{host}"


class Browser:
    def __init__(self) -> None:
        jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))

    def get(self, url: str) -> str:
        with self._opener.open(url) as answer:
            text: str = answer.read().decode()
            return text

    def post(self, url: str, **form: str) -> str:
        with self._opener.open(url, urllib.parse.urlencode(form).encode()) as answer:
            text: str = answer.read().decode()
            return text


@pytest.fixture
def environment(server_backend: Running) -> dict[str, str]:
    return {f"FLASK_{key}": value for key, value in server_backend.app_config().items()}


def test_a_cart_outlives_the_application(environment: dict[str, str]) -> None:
    browser = Browser()
    with shop(environment) as address:
        browser.post(f"{address}/cart/sencha/add")
        browser.post(f"{address}/cart/sencha/add")
        assert "Welcome, Ada" in browser.post(
            f"{address}/sign-in", name="ada", password="engine"
        )
        browser.post(f"{address}/cart/assam/add")
        before = browser.get(f"{address}/cart")
    assert "Sencha" in before
    assert "23.20" in before
    with shop(environment) as address:
        assert without_flashes(browser.get(f"{address}/cart")) == without_flashes(before)
        assert "signed out" in browser.post(f"{address}/sign-out")
        assert "Sencha" not in browser.get(f"{address}/cart")


def test_memory_is_the_default() -> None:
    browser = Browser()
    with shop({}) as address:
        browser.post(f"{address}/cart/sencha/add")
        assert "8.50" in browser.get(f"{address}/cart")


def without_flashes(page: str) -> str:
    return re.sub(r"(?s)<(\w+)[^>]*class=\"[^\"]*(flash|message)[^\"]*\".*?</\1>", "", page)
