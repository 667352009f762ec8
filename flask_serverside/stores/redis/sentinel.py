"""The one of several servers that takes writes now, as sentinels know it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from typing import TYPE_CHECKING

import redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import NoPermissionError
from redis.exceptions import RedisError
from redis.exceptions import ResponseError
from redis.sentinel import MasterNotFoundError

from ..time_limit import TimeLimit
from .connections import class_of
from .connections import Encrypted
from .connections import Limited
from .connections import make_client
from .connections import options_of
from .connections import Plain
from .line import Own
from .urls import Address
from .urls import Place

#: Seconds for which an answer is good for other connections, too, unless it turns out wrong.
_GOOD = 1.0
#: Seconds for which nobody asks again after no sentinel has answered, while the server that
#: was the primary then still serves.
_SILENT = 5.0
#: Seconds after which a connection in use is no proof that its server still is the primary: one
#: that is cut off from the sentinels goes on as if it was. The most that it may take to ask.
_SURE, _BRIEF = 3.0, 0.5


class Sentinels:
    """Asks one after the other where the primary is, and remembers it."""

    def __init__(self, place: Place, limit: TimeLimit) -> None:
        self._addresses = list(place.addresses)
        self._service = place.service
        self._kind = class_of(place)
        options = {k: v for k, v in place.options.items() if k.startswith("ssl_")}
        servers = place._replace(options=options | dict(place.sentinel_options))
        self._options = options_of(servers, limit)
        self._limit = limit
        self._known: Address | None = None
        self._good_until = 0.0
        self._told_at = 0.0
        self._told_by: Address | None = None
        self._asking = threading.Lock()
        #: Called when the primary is another one than before.
        self.changed: Callable[[], None] = lambda: None

    def expire(self) -> None:
        """It may be another one by now."""
        self._good_until = 0.0

    def doubt(self) -> None:
        """What the last answer has said has turned out wrong: others are asked first."""
        wrong, self._told_by = self._told_by, None
        if wrong is not None:
            self._addresses = sorted(self._addresses, key=lambda other: other == wrong)
        self.expire()

    def primary(self) -> Address:
        """:raises RedisError: none of them says so, and nobody has before."""
        known = self._known
        if known is not None and time.monotonic() < self._good_until:
            return known
        return self._learned(self._limit.left)

    def still(self, address: Address) -> bool:
        """Whether this is the primary. One thread asks every few seconds, for all of them."""
        if time.monotonic() > self._told_at + _SURE and self._asking.acquire(blocking=False):
            try:
                self._learned(min(_BRIEF, self._limit.left))
            finally:
                self._asking.release()
        return address == self._known

    def _learned(self, seconds: float) -> Address:
        known, found = self._known, self._asked(seconds)
        self._told_at = time.monotonic()
        if found is None:
            assert known is not None
            self._good_until = self._told_at + _SILENT
            return known
        self._known, self._good_until = found, self._told_at + _GOOD
        if known is not None and known != found:
            self.changed()
        return found

    def _asked(self, seconds: float) -> Address | None:
        """``None``: nobody says so, and there is one that is known."""
        errors: list[RedisError] = []
        unknown = False
        addresses, ends = self._addresses, time.monotonic() + seconds
        for number, address in enumerate(addresses):
            # One that is frozen leaves time for the others, and for the server itself.
            left = max(0.001, ends - time.monotonic())
            try:
                found = self._ask(address, left / (len(addresses) - number + 1))
            except RedisError as error:
                errors.append(error)
                continue
            if found is not None:
                self._told_by = address
                # In place, it would be empty for others meanwhile.
                self._addresses = sorted(addresses, key=lambda other: other != address)
                return found
            unknown = True
        if self._known is not None:
            return None
        for refusal in errors:
            if isinstance(refusal, AuthenticationError | ResponseError):
                raise refusal
        if unknown:
            raise ResponseError(f"No such master with name {self._service!r}")
        reasons = ", ".join(str(error) for error in errors)
        raise MasterNotFoundError(f"No sentinel tells where {self._service!r} is: {reasons}")

    def _ask(self, address: Address, seconds: float) -> Address | None:
        host, port = address
        limits = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        connection = self._kind(**self._options | limits, host=host, port=port)
        try:
            connection.connect()  # type: ignore[no-untyped-call]
            connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            found = connection.read_response()
        finally:
            connection.disconnect()
        return found and (found[0].decode(), int(found[1]))


if TYPE_CHECKING:
    _Limited = Limited
else:
    _Limited = object


class _ToPrimary(_Limited):
    """A connection to whichever server is the primary when it is made."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options, redis_connect_func=self._greet)

    def _connect(self) -> Any:
        self.host, self.port = self._sentinels.primary()
        try:
            return super()._connect()
        except OSError:
            self._sentinels.doubt()
            raise

    def elsewhere(self) -> bool:
        return not self._sentinels.still((self.host, self.port))

    def _greet(self, connection: Any) -> None:
        """A server that was demoted goes on answering reads, as of then."""
        connection.on_connect()
        connection.send_command("ROLE")
        try:
            role = connection.read_response()[0]
        except NoPermissionError:
            return
        if role not in (b"master", "master"):
            self._sentinels.doubt()
            raise NoConnection(f"{self.host}:{self.port} is no primary any more")


class PlainToPrimary(_ToPrimary, Plain):
    pass


class EncryptedToPrimary(_ToPrimary, Encrypted):
    pass


class Watched(Own):
    """The primary, whichever server that is."""

    def __init__(self, place: Place, limit: TimeLimit) -> None:
        self._place = place
        self._limit = limit
        super().__init__(self._client)

    def _client(self) -> redis.Redis:
        kind = EncryptedToPrimary if self._place.tls else PlainToPrimary
        options = options_of(self._place, self._limit, sentinels=self._sentinels)
        return make_client(kind, options)

    def forget(self) -> None:
        self._sentinels = Sentinels(self._place, self._limit)
        self._sentinels.changed = partial(Own.renew, self)
        super().forget()

    def renew(self) -> None:
        self._sentinels.expire()
        super().renew()

    def suspect(self) -> None:
        self._sentinels.doubt()
        super().renew()
