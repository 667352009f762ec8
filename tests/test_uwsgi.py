"""uWSGI forks after the application was imported and runs none of Python's fork hooks. What
was connected before is used by no process after it: nobody gets another user's session.
"""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import pytest
from backends import Running
from servers import UWSGI
from test_history import value_in

from flask_serverside.testing import at_once

pytestmark = pytest.mark.alone

USERS = ("ada", "alan", "barbara", "edsger", "grace", "tony")
REQUESTS = 2000
CLIENTS = 8
#: Seconds; a request that was not answered by then never will be.
PATIENT = 15
#: One in so many requests writes.
WRITE = 5


@pytest.fixture(params=["processes", "threads"])
def options(request: pytest.FixtureRequest) -> list[str]:
    return ["--threads", "2"] if request.param == "threads" else []


@pytest.fixture(params=["made", "given"])
def served(
    server_backend: Running, options: list[str], request: pytest.FixtureRequest
) -> Iterator[UWSGI]:
    """With a client that the store has made, or that the application has."""
    told = {"config": server_backend.app_config(), "client": request.param == "given"}
    server = UWSGI("uwsgi_app:app", {"UWSGI_APP": json.dumps(told)}, *options)
    assert server.program is not None, "pip install pyuwsgi"
    try:
        server.start()
        yield server
    finally:
        server.stop()


def get(port: int, path: str, cookie: str = "", **arguments: object) -> tuple[int, Any, str]:
    """The status, the body if all is well, and the cookie from now on."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENT)) as connection:
        url = f"{path}?{urlencode(arguments)}"
        connection.request("GET", url, headers={"Cookie": f"session={cookie}"})
        response = connection.getresponse()
        body = response.read()
        given = value_in(response.headers["Set-Cookie"])
        said = json.loads(body) if response.status == 200 else None
        return response.status, said, given or cookie


def fault(user: str, status: int, said: Any) -> str | None:
    if status != 200:
        return f"answered {status}"
    if said["user"] is None:
        return "signed out"
    if said["user"] != user or said["written"].split()[0] != user:
        return "another's session"
    return None


def test_nobody_gets_anothers_session(served: UWSGI) -> None:
    cookies = {}
    for user in USERS:
        status, _, cookies[user] = get(served.port, "/sign-in", user=user)
        assert status == 200, served.log[-3000:]

    def work(client: int) -> tuple[Counter[str], set[int]]:
        faults, processes = Counter[str](), set()
        for number in range(client, REQUESTS, CLIENTS):
            user = USERS[number % len(USERS)]
            path = "/read" if number % WRITE else "/write"
            try:
                status, said, _ = get(served.port, path, cookies[user], number=number)
            except (OSError, http.client.HTTPException) as error:
                faults[f"not answered: {error!r}"] += 1
                break
            if found := fault(user, status, said):
                faults[found] += 1
            if said:
                processes.add(said["pid"])
        return faults, processes

    faults: Counter[str] = Counter()
    processes = set()
    for found, served_by in at_once(CLIENTS, work):
        faults += found
        processes |= served_by
    assert not faults, f"{dict(faults)} in {REQUESTS} requests\n{served.log[-3000:]}"
    assert len(processes) == 4
