"""Whether the time of an answer tells anything about a cookie that is refused.

.. code-block:: text

    python benchmarks/refused_cookies.py [--samples NUMBER]

Prints medians, in microseconds, of samples taken in random order. The first kind is measured
twice: what differs by no more than these two do does not differ.
"""

from __future__ import annotations

import argparse
import random
import secrets
import statistics
import time
from collections.abc import Callable

from flask import Flask
from flask import session

from flask_serverside import ServerSideSessionInterface
from flask_serverside import Session
from flask_serverside.testing import Clock
from flask_serverside.web.identity import Identity
from flask_serverside.web.identity import new_id


def measure(kinds: dict[str, Callable[[], object]], samples: int) -> dict[str, list[float]]:
    """Microseconds of each call, the kinds in random order."""
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(samples):
        for kind in random.sample(list(kinds), len(kinds)):
            start = time.perf_counter_ns()
            kinds[kind]()
            taken = time.perf_counter_ns() - start
            if number > samples // 20:  # it is warm
                times[kind].append(taken / 1000)
    return times


def show(title: str, times: dict[str, list[float]]) -> None:
    print(title)
    for kind, values in times.items():
        quarter, median, _ = statistics.quantiles(values, n=4)
        print(f"  {kind:24} median {median:8.3f}   quartile {quarter:8.3f}")


def signatures(samples: int) -> dict[str, list[float]]:
    identity = Identity([secrets.token_hex()])
    cookie = identity.sign(new_id())
    sid, _, signature = cookie.partition(".")

    def wrong_at(position: int) -> Callable[[], object]:
        other = "B" if signature[position] != "B" else "C"
        changed = f"{sid}.{signature[:position]}{other}{signature[position + 1 :]}"
        assert identity.verify(changed) is None
        return lambda: identity.verify(changed)

    kinds = {f"wrong at {position}": wrong_at(position) for position in (0, 10, 20, 30, 41)}
    return measure({**kinds, "wrong at 0, again": wrong_at(0)}, samples)


def lookups(samples: int) -> dict[str, list[float]]:
    app = Flask("timing")
    app.config.update(SECRET_KEY=secrets.token_hex(), PERMANENT_SESSION_LIFETIME=1000)
    Session(app)
    assert isinstance(app.session_interface, ServerSideSessionInterface)
    app.session_interface.store.clock = clock = Clock()
    app.add_url_rule("/", "read", lambda: str(len(session)))
    app.add_url_rule("/write", "write", lambda: str(session.update(a=1)))
    client = app.test_client()
    client.get("/write")
    cookie = client.get_cookie("session")
    assert cookie is not None
    clock.advance(1000)
    unknown = Identity([app.config["SECRET_KEY"]]).sign(new_id())
    plain = app.test_client(use_cookies=False)

    def asking(value: str) -> Callable[[], object]:
        headers = {"Cookie": f"session={value}"}
        return lambda: plain.get("/", headers=headers)

    kinds = {"unknown": asking(unknown), "expired": asking(cookie.value)}
    return measure({**kinds, "unknown, again": asking(unknown)}, samples)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=20_000)
    samples = parser.parse_args().samples
    show("Verifying a signature that is wrong in one character:", signatures(samples))
    show("A request with an id that is not stored, or has expired:", lookups(samples // 5))
