"""What the applications in the tests answer."""

from __future__ import annotations

from typing import Any

from flask import flash
from flask import Flask
from flask import get_flashed_messages
from flask import request

from flask_serverside import current_session as session


def add_views(app: Flask) -> None:
    @app.get("/untouched")
    def untouched() -> str:
        return "untouched"

    @app.get("/read")
    def read() -> dict[str, Any]:
        return dict(session)

    @app.route("/write", methods=["GET", "POST"])
    def write() -> str:
        session.update(request.args)
        return "written"

    @app.get("/append")
    def append() -> list[int]:
        session.setdefault("deep", {}).setdefault("list", []).append(1)
        numbers: list[int] = session["deep"]["list"]
        return numbers

    @app.get("/flash")
    def add_message() -> str:
        flash("hello")
        return "flashed"

    @app.get("/messages")
    def messages() -> list[str]:
        return list(get_flashed_messages())

    @app.get("/count")
    def count() -> dict[str, int]:
        def increment(session: Any) -> None:
            session["count"] = session.get("count", 0) + 1

        session.atomic(increment)
        return {"count": session["count"]}

    @app.get("/regenerate")
    def regenerate() -> str:
        session.regenerate()
        return "regenerated"

    @app.get("/anew")
    def anew() -> str:
        session.regenerate(keep=False)
        session["a"] = "anew"
        return "begun anew"

    @app.get("/destroy")
    def destroy() -> str:
        session.destroy()
        return "destroyed"

    @app.get("/clear")
    def clear() -> str:
        session.clear()
        return "cleared"
