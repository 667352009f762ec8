"""Runs two requests of one browser in every order in which their steps can be interleaved.

A request's steps: the browser sends it with the cookie it has then, each operation of the
store, and the answer arrives, with its cookie if it has one. Nothing is left to chance: each
request runs in a greenlet of its own, which stops before each step.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from greenlet import getcurrent
from greenlet import greenlet

from flask_serverside.stores import Record
from flask_serverside.stores.memory import MemoryStore


class SteppedStore(MemoryStore):
    """Waits before each operation until it is the request's turn."""

    def kept(self) -> list[Record]:
        return list(self._stored.values())

    def forget_all(self) -> None:
        self._stored.clear()
        self._queue.clear()

    def create(self, record: Record) -> bool:
        step("create")
        return super().create(record)

    def find(self, handle: str) -> Record | None:
        step("load")
        record = super().find(handle)
        stepper = getcurrent()
        if isinstance(stepper, _Stepper) and stepper.answer.dead is None:
            stepper.answer.dead = record is None or record.ended
        return record

    def replace(self, record: Record) -> Record | None:
        step("replace")
        return super().replace(record)

    def touch(self, record: Record) -> bool:
        step("touch")
        return super().touch(record)

    def delete(self, handle: str) -> bool:
        step("delete")
        return super().delete(handle)


def step(name: str) -> None:
    stepper = getcurrent()
    if isinstance(stepper, _Stepper):
        stepper.wait_for_turn(name)


class Browser:
    """What a browser keeps of the session: one cookie."""

    def __init__(self, app: Flask, cookie: str | None) -> None:
        self.app = app
        self.cookie = cookie

    def client(self) -> FlaskClient:
        client = self.app.test_client()
        if self.cookie is not None:
            client.set_cookie("session", self.cookie)
        return client


@dataclass
class Answer:
    """What became of one request."""

    path: str
    sent: str | None = None
    status: int = 0
    text: str = ""
    #: The cookie it set, "" if it cleared it, None if it left it alone.
    cookie: str | None = None
    #: Whether the session under the cookie it sent had ended when it looked.
    dead: bool | None = None
    #: When it did what, counted in steps of both requests: its last "load", "replace" ...
    steps: dict[str, int] = field(default_factory=dict)

    @property
    def arrived(self) -> int:
        return self.steps["arrive"]


class _Stepper(greenlet):
    """One request, a step at a time."""

    def __init__(self, browser: Browser, path: str) -> None:
        super().__init__()
        self.answer = Answer(path)
        self.next_step = ""
        self._browser = browser
        self.switch()  # to the first step

    def wait_for_turn(self, name: str) -> None:
        self.next_step = name
        assert self.parent is not None
        self.parent.switch()

    def run(self) -> None:
        self.wait_for_turn("send")
        self.answer.sent = self._browser.cookie
        client = self._browser.client()
        response = client.get(self.answer.path)
        self.answer.status, self.answer.text = response.status_code, response.text
        self.wait_for_turn("arrive")
        if "Set-Cookie" in response.headers:
            cookie = client.get_cookie("session")
            self.answer.cookie = cookie.value if cookie else ""
            self._browser.cookie = self.answer.cookie or None


@dataclass
class Run:
    """One order of the steps, and what came of it."""

    browser: Browser
    answers: list[Answer]
    #: Which request moved, step by step.
    order: list[int] = field(default_factory=list)


def every_interleaving(
    make_browser: Callable[[], Browser], paths: tuple[str, str]
) -> Iterator[Run]:
    """Each order once, each on a browser and an application of its own."""
    prefix: list[int] | None = []
    while prefix is not None:
        run, choices = _run(make_browser(), paths, prefix)
        yield run
        prefix = _next(run.order, choices)


def _run(
    browser: Browser, paths: tuple[str, str], prefix: list[int]
) -> tuple[Run, list[list[int]]]:
    steppers = [_Stepper(browser, path) for path in paths]
    run, choices = Run(browser, [stepper.answer for stepper in steppers]), []
    while waiting := [n for n, stepper in enumerate(steppers) if not stepper.dead]:
        number = prefix[len(run.order)] if len(run.order) < len(prefix) else waiting[0]
        choices.append(waiting)
        run.order.append(number)
        run.answers[number].steps[steppers[number].next_step] = len(run.order)
        steppers[number].switch()
    return run, choices


def _next(order: list[int], choices: list[list[int]]) -> list[int] | None:
    """The order's beginning, up to the last step at which there was another choice left."""
    for position in reversed(range(len(order))):
        left: list[Any] = [n for n in choices[position] if n > order[position]]
        if left:
            return [*order[:position], left[0]]
    return None
