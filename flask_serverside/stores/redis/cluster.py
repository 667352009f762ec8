"""A cluster: which of its servers has a key, and what to do when that has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import AuthenticationError
from redis.exceptions import ClusterDownError
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as NoAnswer
from redis.exceptions import TryAgainError

from ..time_limit import TimeLimit
from . import faults
from .connections import drop
from .line import Command
from .line import key_of
from .line import Line
from .line import RAW
from .line import sent_together
from .urls import Address

#: How often a command is sent on. Twice is usual while keys are moved.
_REDIRECTS = 8
_SLOTS = 16384
#: Seconds until it is worth trying a command again whose keys are just being moved.
_MOVING = 0.05

#: What is answered while keys are moved, and after that.
_ELSEWHERE = ("ASK", "MOVED", "TRYAGAIN")


class Map:
    """Which server has which slots, as one of the servers has told."""

    def __init__(self, slots: Sequence[tuple[int, int, Address]]) -> None:
        self._slots = dict[int, Address]()
        for first, last, address in slots:
            self._slots |= dict.fromkeys(range(first, last + 1), address)
        self.primaries = tuple(dict.fromkeys(address for _, _, address in slots))
        self.size = len(self._slots)

    def known(self, key: str) -> Address | None:
        return self._slots.get(key_slot(key.encode()))

    def where(self, key: str) -> Address:
        found = self.known(key)
        if found is None:
            slot = key_slot(key.encode())
            raise ClusterDownError(f"No server of the cluster has slot {slot}")
        return found


class OwnCluster(Line):
    cluster = True

    def __init__(
        self,
        seeds: Sequence[Address],
        make: Callable[..., redis.Redis],
        limit: TimeLimit,
    ) -> None:
        """
        :param seeds: some of the servers.
        :param make: a client for a server, from its address and, if that is shorter than the
            time limit, the seconds that each answer may take.
        """
        self._seeds = seeds
        self._make = make
        self._limit = limit
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._clients: dict[Address, redis.Redis] = {}
        self._map: Map | None = None
        self._doubted = False
        #: The last server that did not answer.
        self._failed: Address | None = None
        #: Who has told the map, and whose map has turned out wrong last: it may have left.
        self._told_by: Address | None = None
        self._misled: Address | None = None
        #: How often the map was made.
        self._edition = 0

    def send(self, *command: Any) -> Any:
        address, asking = self._where(self._current(), command), False
        for _ in range(_REDIRECTS):
            try:
                return self._tell(address, asking, command)
            except ResponseError as error:
                found = faults.code(error)
                if found not in _ELSEWHERE:
                    raise
                if self._limit.left <= _MOVING:
                    break  # for the next time: "moved" says that the cluster is changing
                if found == "TRYAGAIN":
                    time.sleep(_MOVING)
                    continue
                self._doubted = self._doubted or found == "MOVED"
                address, asking = _named(error, address), found == "ASK"
        raise TryAgainError("The servers of the cluster send this key around.")

    def send_all(self, commands: Sequence[Command]) -> list[Any]:
        current = self._current()
        together: dict[Address, list[int]] = {}
        for number, command in enumerate(commands):
            together.setdefault(self._where(current, command), []).append(number)
        answers: list[Any] = [None] * len(commands)
        for address, numbers in together.items():
            theirs = [commands[number] for number in numbers]
            given = self._with(address, partial(_together, theirs))
            for number, answer in zip(numbers, given, strict=True):
                moved = isinstance(answer, Exception) and faults.code(answer) in _ELSEWHERE
                answers[number] = self._by_itself(commands[number]) if moved else answer
        return answers

    def _by_itself(self, command: Command) -> Any:
        try:
            return self.send(*command)
        except ResponseError as error:
            return error

    def _tell(self, address: Address, asking: bool, command: Command) -> Any:
        if not asking:
            return self._with(address, partial(_answer, command))
        answer = self._with(address, partial(_together, [("ASKING",), command]))
        if isinstance(answer[1], Exception):
            raise answer[1]
        return answer[1]

    def _with(self, address: Address, work: Callable[[redis.Redis], Any]) -> Any:
        """Have this server do it. If it cannot, another may have taken its place."""
        client = self._client(address)
        try:
            return work(client)
        except ResponseError as error:
            if faults.code(error) == "CLUSTERDOWN":
                self._doubted, self._misled = True, self._told_by
            raise
        except (NoConnection, NoAnswer):
            self._doubted, self._failed = True, address
            raise

    def _client(self, address: Address) -> redis.Redis:
        with self._lock:
            if address not in self._clients:
                self._clients[address] = self._make(address)
            return self._clients[address]

    def clients(self) -> dict[str, Any]:
        primaries = self._current().primaries
        return {f"{host}:{port}": self._client((host, port)) for host, port in primaries}

    def server_of(self, key: str) -> Any:
        return self._map and self._map.known(key)

    def renew(self) -> None:
        """The map, too: another server may have taken the place of one."""
        self._doubted = True
        self._close_all_but(())

    def suspect(self) -> None:
        self._doubted = True

    def close(self) -> None:
        self._close_all_but(())

    def _close_all_but(self, used: Sequence[Address]) -> None:
        with self._lock:
            gone = [self._clients.pop(address) for address in self._clients.keys() - {*used}]
        for client in gone:
            drop(client)

    # -- the map

    def _where(self, current: Map, command: Command) -> Address:
        try:
            return current.where(key_of(command))
        except ClusterDownError:
            self._doubted = True
            raise

    def _current(self) -> Map:
        known, edition = self._map, self._edition
        if known is not None and not self._doubted:
            return known
        if not self._asking.acquire(timeout=self._limit.left):
            raise NoAnswer("The cluster does not tell which server has which keys")
        try:
            if self._edition == edition:  # nobody else was faster
                self._map = self._asked()
                self._edition += 1
                self._doubted = False
                self._close_all_but(self._map.primaries)
        finally:
            self._asking.release()
        assert self._map is not None
        return self._map

    def _asked(self) -> Map:
        primaries = self._map.primaries if self._map is not None else ()
        addresses = list(dict.fromkeys((*primaries, *self._seeds)))
        # One that did not answer, or whose map was wrong, comes last.
        addresses.sort(key=lambda address: address in (self._failed, self._misled))
        errors: list[RedisError] = []
        fullest: Map | None = None
        for number, address in enumerate(addresses):
            # One that is frozen leaves time for the others, and for the command itself.
            share = self._limit.left / (len(addresses) - number + 1)
            client = self._make(address, share)
            try:
                # In two words: of the answer to "CLUSTER SLOTS" redis-py makes other things.
                told = _answer(("CLUSTER", "SLOTS"), client)
                found = Map([_range(part, address[0]) for part in told])
                if fullest is None or found.size > fullest.size:
                    fullest, self._told_by = found, address
                if found.size == _SLOTS:
                    break
            except RedisError as error:
                errors.append(error)
            finally:
                drop(client)
        if fullest is not None and fullest.size:
            return fullest
        if self._map is not None:
            return self._map
        for refusal in errors:
            if isinstance(refusal, AuthenticationError | ResponseError):
                raise refusal
        reasons = ", ".join(str(error) for error in errors) or "none has any keys"
        raise NoConnection(f"No server of the cluster can be asked: {reasons}")


def _answer(command: Command, client: Any) -> Any:
    return client.execute_command(*command, **RAW)


def _together(commands: Sequence[Command], client: Any) -> list[Any]:
    return sent_together(client.pipeline(transaction=False), commands)


def _named(error: Exception, asked: Address) -> Address:
    """Where the command is to go: ``MOVED 3999 host:port``."""
    host, _, port = str(error).split()[-1].rpartition(":")
    return _host(host, asked[0]), int(port)


def _range(part: Any, asked: str) -> tuple[int, int, Address]:
    first, last, (host, port, *_), *_ = part
    return int(first), int(last), (_host(host.decode() if host else "", asked), int(port))


def _host(told: str, asked: str) -> str:
    """A server that does not know a name for another one, or for itself, means the host that
    it was asked at.
    """
    return asked if told in ("", "?") else told
