"""What comes of disturbances for those who use the servers meanwhile.

``python tests/outcomes.py [NAME ...]`` measures the table of docs/operations.md anew.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field

from disturbances import ALL
from disturbances import Disturbance
from disturbances import TIMEOUT
from flask import Flask
from history import Connect
from history import Event
from history import Reply
from history import run
from history import Send
from history_app import create_app
from test_history import in_threads
from test_life_of_a_request import store_of
from violations import violations

#: Seconds within which requests must succeed again.
PATIENCE = 15.0
#: Requests that must succeed before it is disturbed again.
CALM = 100
#: Seconds between two requests of a worker: what waits for a failover is no load test.
PAUSE = 0.01


class Disturber(threading.Thread):
    """Disturbs again and again, whenever so many requests have succeeded in a row since."""

    def __init__(self, disturb: Callable[[], None], times: int, between: int) -> None:
        super().__init__()
        self._disturb = disturb
        self._times = times
        self._between = between
        self._succeeded = 0
        self._changed = threading.Condition()
        #: When it was disturbed.
        self.moments: list[float] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._calm()
            for _ in range(self._times):
                self.moments.append(time.monotonic())
                self._disturb()
                self._calm()
        except BaseException as error:
            self.error = error

    def heard(self, status: int) -> None:
        with self._changed:
            self._succeeded = self._succeeded + 1 if status < 500 else 0
            self._changed.notify()

    def _calm(self) -> None:
        """Wait until requests succeed, one after the other. That some do is not enough: what
        takes no writes may answer reads.
        """
        with self._changed:
            self._succeeded = 0
            for number, seconds in ((CALM, PATIENCE), (self._between, 10 * PATIENCE)):
                if not self._changed.wait_for(lambda: self._succeeded >= number, seconds):  # noqa: B023
                    raise TimeoutError(f"it does not work again within {seconds} seconds")


@dataclass
class Outcome:
    history: list[Event]
    #: When it was disturbed.
    moments: list[float]
    #: What stopped it from being disturbed.
    error: BaseException | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Event]:
        return [event for event in self.history if event.unknown]

    @property
    def recovery(self) -> float:
        """Seconds from a disturbance to the last request that failed after it, at the most."""
        ends = [*self.moments[1:], float("inf")]
        spans = zip(self.moments, ends, strict=True)
        return max(
            (
                event.end - begin
                for begin, end in spans
                for event in self.failed
                if begin <= event.end < end
            ),
            default=0.0,
        )

    @property
    def slowest(self) -> float:
        return max(event.end - event.start for event in self.history)

    @property
    def broken(self) -> list[str]:
        """What nobody may be answered."""
        return [line for line in self.problems if " was answered " in line]

    @property
    def lost(self) -> list[str]:
        """What was acknowledged, and is gone; what was ended, and is alive."""
        return [line for line in self.problems if line not in self.broken]


def go_through(disturbance: Disturbance, operations: int) -> Outcome:
    """The history of an application while its servers are disturbed."""
    with disturbance.scene() as scene:
        app = create_app({"SESSION_STORE_TIMEOUT": TIMEOUT} | scene.config)
        with contextlib.closing(store_of(app)):
            return disturbed(app, scene.disturb, disturbance.times, operations)


def disturbed(
    app: Flask, disturb: Callable[[], None], times: int, operations: int, seed: int = 1
) -> Outcome:
    disturber = Disturber(disturb, times, max(CALM, operations // (times + 1)))
    connect = in_threads(app)
    with connect() as send:
        send({"op": "read"}, None)  # a table or an index takes its time
    disturber.start()
    try:
        history = run(seed, operations, heard_by(disturber, connect), disturber.is_alive)
    finally:
        disturber.join()
    problems = violations(history, disturbed=True)
    return Outcome(history, disturber.moments, disturber.error, problems)


def heard_by(disturber: Disturber, connect: Connect) -> Connect:
    @contextmanager
    def connect_and_tell() -> Iterator[Send]:
        with connect() as send:

            def send_and_tell(arguments: dict[str, str], cookie: str | None) -> Reply:
                reply = send(arguments, cookie)
                disturber.heard(reply.status)
                if disturber.is_alive():
                    time.sleep(PAUSE)
                return reply

            yield send_and_tell

    return connect_and_tell


def row(disturbance: Disturbance, outcome: Outcome) -> str:
    seconds = f"{outcome.recovery:.1f} s" if outcome.recovery >= 0.05 else "under 0.1 s"
    found = f"**{len(outcome.lost)} violations**" if outcome.lost else "nothing"
    lost = disturbance.loses or found
    if outcome.error is not None:
        again = f"**not within {PATIENCE:g} s**"
    elif outcome.broken:
        again = f"{seconds}, **with answers of 500**"
    elif not outcome.failed:
        again = f"no request fails; the slowest takes {outcome.slowest:.1f} s"
    else:
        again = seconds
    return f"| {disturbance.name} | {lost} | {again} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="those whose name contains one")
    parser.add_argument("--operations", type=int, default=1600)
    parser.add_argument("--verbose", action="store_true", help="what was lost, and the log")
    chosen = parser.parse_args()
    if not chosen.verbose:
        logging.disable()
    print("| disturbance | what is lost | how long until it works again |\n|---|---|---|")
    for disturbance in ALL:
        if chosen.names and not any(name in disturbance.name for name in chosen.names):
            continue
        began = time.monotonic()
        outcome = go_through(disturbance, chosen.operations)
        print(row(disturbance, outcome), flush=True)
        if chosen.verbose:
            counted = f"{len(outcome.history)} requests, {len(outcome.failed)} failed"
            print(f"  {time.monotonic() - began:.1f} s, {counted}", file=sys.stderr)
            for line in [*outcome.problems[:10], outcome.error or ""]:
                print(f"  {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
