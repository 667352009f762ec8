"""What the applications in the tests answer."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask import request
from flask import session


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

    @app.get("/clear")
    def clear() -> str:
        session.clear()
        return "cleared"
