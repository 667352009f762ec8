"""Many workers do random things to few sessions at once, and what they were told is checked.

Workers share browsers, and each browser has one cookie: so most requests meet others on the
same session. Each operation is recorded with its start and its end. Afterwards
:mod:`violations` finds what cannot have been.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from dataclasses import field
from itertools import count
from typing import Any
from typing import NamedTuple

from history_app import LIFE

WORKERS = 8
BROWSERS = 3
#: How often each operation comes up, in a thousand.
WEIGHTS = {
    "read": 220,
    "set": 230,
    "delete": 60,
    "nested": 120,
    "atomic": 150,
    "flash": 70,
    "show": 60,
    "regenerate": 60,
    "destroy": 14,
    "revoke": 8,
    "expire": 8,
}
ENDINGS = ("destroy", "revoke", "expire")
FOREVER = float("inf")


class Reply(NamedTuple):
    status: int
    body: dict[str, Any]
    #: The cookie that it set, "" if it cleared it, None if it left it alone.
    cookie: str | None


#: Sends an operation, with the browser's cookie, to the application.
Send = Callable[[dict[str, str], str | None], Reply]
#: A worker's own way to the application.
Connect = Callable[[], AbstractContextManager[Send]]


@dataclass
class Event:
    """One operation, as its worker saw it."""

    op: str
    key: str
    value: str
    start: float = 0.0
    sent: str | None = None
    end: float = 0.0
    status: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    cookie: str | None = None
    #: If nobody knows: when it was surely done, if it was. It may wait in the server.
    done_by: float = FOREVER

    @property
    def done(self) -> bool:
        return self.status == 200

    @property
    def unknown(self) -> bool:
        """Whether it may have been done or not."""
        return self.status >= 500

    @property
    def refused(self) -> bool:
        return not self.done and not self.unknown

    @property
    def seen(self) -> dict[str, Any] | None:
        """The session when the request looked at it; None if it was not told."""
        return self.body.get("seen")

    @property
    def life(self) -> str | None:
        """The session that it saw or, if there was none, has begun."""
        return (self.seen or {}).get(LIFE, self.begun) if self.done else None

    @property
    def begun(self) -> str | None:
        """The session that it begins if it finds none."""
        return None if self.op in ("read", "show", "delete") else f"life of {self.value}"


def run(
    seed: int,
    operations: int,
    connect: Connect,
    going_on: Callable[[], bool] = lambda: False,
) -> list[Event]:
    """The history of so many operations, shared among the workers.

    :param going_on: whether there shall be more of them.
    """
    cookies: list[str | None] = [None] * BROWSERS
    lock = threading.Lock()
    history: list[Event] = []
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        chance = random.Random(f"{seed} {worker}")
        mine: list[Event] = []
        try:
            with connect() as send:
                for number in count():
                    if number >= operations // WORKERS and not going_on():
                        break
                    browser = chance.randrange(BROWSERS)
                    event = _choose(chance, worker, f"{seed}-{worker}-{number}")
                    mine.append(event)
                    _ask(send, event, cookies[browser])
                    if event.cookie is not None:
                        cookies[browser] = event.cookie or None
                    elif event.status == 410 and chance.random() < 0.2:
                        cookies[browser] = None  # else it would be locked out for long
        except BaseException as error:
            errors.append(error)
        with lock:
            history.extend(mine)

    threads = [threading.Thread(target=work, args=[number]) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    with connect() as send:
        history.extend(_last_look(send, {e.cookie for e in history if e.cookie}))
    return sorted(history, key=lambda event: event.start)


def _choose(chance: random.Random, worker: int, value: str) -> Event:
    [op] = chance.choices([*WEIGHTS], [*WEIGHTS.values()])
    own = op == "nested" or chance.random() < 0.5
    key = f"{op if op == 'nested' else 'key'}-{worker if own else 'shared'}"
    return Event(op, key, value)


def _ask(send: Send, event: Event, cookie: str | None) -> None:
    event.sent = cookie
    event.start = time.monotonic()
    reply = send({"op": event.op, "key": event.key, "value": event.value}, cookie)
    event.end = time.monotonic()
    event.status, event.body, event.cookie = reply


def _last_look(send: Send, cookies: Iterable[str]) -> Iterator[Event]:
    """What stands behind each cookie that was ever given, when all is over."""
    for number, cookie in enumerate(cookies):
        event = Event("show", "", f"last-{number}")  # which says what it saw before, as all do
        _ask(send, event, cookie)
        yield event
