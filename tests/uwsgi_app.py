"""The application that uWSGI imports and then forks: each answer says whose session it saw.

Sessions are used before the fork, so that there are connections which all processes have.
"""

from __future__ import annotations

import json
import os
from typing import Any

from backends import with_client
from flask import Flask
from flask import request

from flask_serverside import current_session as session
from flask_serverside import NotSupported
from flask_serverside import Session

given = json.loads(os.environ["UWSGI_APP"])

app = Flask("uwsgi")
app.config.update(SECRET_KEY="test", SESSION_STORE_TIMEOUT=5)
app.config.update(with_client(given["config"]) if given["client"] else given["config"])
sessions = Session(app)


def seen() -> dict[str, Any]:
    return {"user": session.get("user"), "written": session.get("written"), "pid": os.getpid()}


@app.get("/sign-in")
def sign_in() -> dict[str, Any]:
    session["user"] = session["user_id"] = request.args["user"]
    session["written"] = f"{session['user']} 0"
    return seen()


@app.get("/read")
def read() -> dict[str, Any]:
    return seen()


@app.get("/write")
def write() -> dict[str, Any]:
    answer = seen()
    session["written"] = f"{session['user']} {request.args['number']}"
    return answer


def use_before_the_fork() -> None:
    try:
        with app.app_context():
            sessions.count()
    except NotSupported:  # Memcached cannot count
        client = app.test_client()
        client.get("/sign-in?user=nobody")
        assert client.get("/read").json["user"] == "nobody"  # type: ignore[index]


use_before_the_fork()
