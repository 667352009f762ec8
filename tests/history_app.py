"""The application whose history is checked: each request does one thing to its session, and
says what it saw before and what came of it."""

from __future__ import annotations

import json
import os
from typing import Any

from flask import flash
from flask import Flask
from flask import get_flashed_messages
from flask import request

from flask_serverside import current_session as session
from flask_serverside import Session
from flask_serverside import SessionConflict
from flask_serverside import SessionGone

#: What a session must be to stay itself, whatever id it has: set when it begins.
LIFE = "life"

#: What says that nothing was stored.
REFUSED = {SessionConflict: 409, SessionGone: 410}


def create_app(config: dict[str, Any] | None = None) -> Flask:
    app = Flask("history")
    app.config.update(SECRET_KEY="test", SESSION_ON_GONE="raise", SESSION_STORE_TIMEOUT=20)
    app.config.update(json.loads(os.environ["HISTORY_APP"]) if config is None else config)
    sessions = Session(app)

    @app.get("/")
    def act() -> dict[str, Any]:
        seen = {key: value for key, value in session.items() if key != "_flashes"}
        operation, key, value = (request.args.get(name, "") for name in ("op", "key", "value"))
        result: Any = None
        if operation not in ("read", "show", "destroy", "revoke", "delete"):
            begin(value)
        if operation == "set":
            session[key] = value
        elif operation == "delete":
            session.pop(key, None)
        elif operation == "nested":
            session.setdefault(key, {"in": []})["in"].append(value)
        elif operation == "atomic":
            result = session.atomic(lambda session: count(session, value))
        elif operation == "flash":
            flash(value)
        elif operation == "show":
            result = get_flashed_messages()
        elif operation == "regenerate":
            session.regenerate()
        elif operation == "destroy":
            session.destroy()
        elif operation == "revoke":
            result = not session.new and sessions.revoke(session.handle)
        elif operation == "expire":
            session.lifetime = 0.02
        return {"seen": seen, "result": result}

    for error, status in REFUSED.items():
        app.register_error_handler(error, lambda error, status=status: ({}, status))
    app.register_error_handler(503, lambda error: ({}, 503))
    app.register_error_handler(500, lambda error: ({}, 500))
    return app


def begin(value: str) -> None:
    session.setdefault(LIFE, f"life of {value}")


def count(session: Any, value: str) -> int:
    session.setdefault(LIFE, f"life of {value}")
    session["count"] = session.get("count", 0) + 1
    number: int = session["count"]
    return number
