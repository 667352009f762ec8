"""What an application writes, for the type checker: run by ``tox -e types``."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from typing import Any
from typing import assert_type

from flask import Flask

from flask_serverside import ConfigurationError
from flask_serverside import current_session
from flask_serverside import MISSING
from flask_serverside import ServerSideSession
from flask_serverside import Session
from flask_serverside import session_conflict
from flask_serverside import session_rejected
from flask_serverside import StoreUnavailable
from flask_serverside.stores import Record
from flask_serverside.stores import Store
from flask_serverside.stores.memory import MemoryStore

app = Flask(__name__)
session = Session(app)
later = Session()
later.init_app(app)

assert_type(session.store, Store)
assert_type(session.purge(), int)
assert_type(session.revoke("handle"), bool)
assert_type(session.store.load("handle"), Record | None)


def count(session: ServerSideSession) -> int:
    return int(session.get("count", 0))


def both(key: str, base: Any, mine: Any, theirs: Any) -> Any:
    return theirs if mine is MISSING else mine


app.config["SESSION_ON_CONFLICT"] = both


@session_conflict.connect
def hear(sender: Flask, handle: str, subject: str | None, reason: str) -> None: ...


@session_rejected.connect
def count_rejected(sender: Flask, handle: str | None, reason: str, **more: Any) -> None: ...


def view() -> None:
    assert_type(current_session["a"], Any)
    assert_type(current_session.sid, str)
    assert_type(current_session.handle, str)
    assert_type(current_session.subject, str | None)
    assert_type(current_session.new, bool)
    assert_type(current_session.permanent, bool)
    assert_type(current_session.created_at, datetime | None)
    assert_type(current_session.expires_at, datetime | None)
    assert_type(current_session.lifetime, timedelta)
    assert_type(current_session.authenticated_at, datetime | None)
    assert_type(current_session.fresh(timedelta(minutes=5)), bool)
    assert_type(current_session.copy(), dict[str, Any])
    current_session.permanent = True
    current_session.modified = True
    current_session.lifetime = timedelta(days=30)
    current_session.regenerate(keep=False)
    current_session.regenerate(keep=["cart"])
    current_session.reauthenticated()
    current_session.destroy()
    current_session.save()
    current_session.reload()
    current_session.touch()
    assert_type(current_session.atomic(count), int)


def mistakes() -> None:
    # Each of these must be an error: an unused "type: ignore" is one, too.
    current_session.sid = "mine"  # type: ignore[misc]
    current_session.lifetime = "a month"  # type: ignore[assignment]
    Session("app")  # type: ignore[arg-type]
    MemoryStore(timeout="2")  # type: ignore[arg-type]
    MemoryStore(limit=2)  # type: ignore[call-arg]
    current_session.atomic(both)  # type: ignore[arg-type]


error: Exception = ConfigurationError("KEY", 1, "something else")
assert StoreUnavailable("down").code == 503
