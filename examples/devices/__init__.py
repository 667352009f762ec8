"""Where a user is signed in, and how to end it from there, with Flask-Login.

.. code-block:: text

    flask --app examples/devices run
    FLASK_SESSION_TYPE=redis flask --app examples/devices run

Every other key of the configuration can be set in the environment that way, too. Sign in from a
second browser, or a private window, to see two devices.
"""

from __future__ import annotations

from datetime import datetime
from datetime import UTC

from flask import abort
from flask import Blueprint
from flask import current_app
from flask import flash
from flask import Flask
from flask import redirect
from flask import render_template
from flask import request
from flask import url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_login import login_required
from flask_login import login_user
from flask_login import LoginManager
from flask_login import UserMixin
from ua_parser import parse

from flask_serverside import current_session as session
from flask_serverside import NotSupported
from flask_serverside import Session
from flask_serverside import SessionInfo

USERS = {"ada": "engine", "grace": "compiler"}

devices = Blueprint("devices", __name__)
login_manager = LoginManager()
login_manager.login_view = "devices.sign_in"
login_manager.login_message = "Please sign in."


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


@login_manager.user_loader
def user(name: str) -> User | None:
    return User(name) if name in USERS else None


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY="demo",  # noqa: S106 - a real application takes it from its environment
        SESSION_COOKIE_SECURE="auto",
        SESSION_RECORD_CLIENT=True,
        SESSION_TYPE="memory",
    )
    app.config.from_prefixed_env()
    Session(app)
    login_manager.init_app(app)
    app.register_blueprint(devices)
    app.add_template_filter(ago)
    app.add_template_filter(device)
    return app


# The forms carry no token against cross-site requests: the cookie is SameSite=Lax by default,
# and browsers do not send it with what other sites post.


@devices.get("/")
@login_required
def listed() -> ResponseReturnValue:
    found = list(sessions().list(current_user.get_id()))
    found.sort(key=lambda info: (not info.current, -info.last_seen_at.timestamp()))
    return render_template("devices.html", devices=found)


@devices.errorhandler(NotSupported)
def not_listed(error: NotSupported) -> ResponseReturnValue:
    return render_template("devices.html", reason=error)


@devices.post("/<handle>/sign-out")
@login_required
def end(handle: str) -> ResponseReturnValue:
    info = sessions().get(handle)
    # A handle is no secret. Without this, whoever has seen one could sign its owner out.
    if info is None or info.subject != current_user.get_id():
        abort(404)
    sessions().revoke(handle)
    flash(f"{device(info)} is signed out.")
    return redirect(url_for(".listed"), 303)


@devices.post("/sign-out-others")
@login_required
def end_others() -> ResponseReturnValue:
    ended = sessions().revoke_subject(current_user.get_id(), keep_current=True)
    flash("1 other device is signed out." if ended == 1 else f"{ended} others are signed out.")
    return redirect(url_for(".listed"), 303)


@devices.post("/sign-out-everywhere")
@login_required
def end_all() -> ResponseReturnValue:
    sessions().revoke_subject(current_user.get_id(), keep_current=True)
    session.destroy()
    flash("You are signed out everywhere.")
    return redirect(url_for(".sign_in"), 303)


@devices.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    session.destroy()
    flash("You are signed out.")
    return redirect(url_for(".sign_in"), 303)


@devices.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template("sign_in.html", users=USERS)
    name = request.form.get("name", "").strip().lower()
    if USERS.get(name) != request.form.get("password", ""):
        flash("This name and password do not go together.")
        return redirect(url_for(".sign_in", name=name), 303)
    login_user(User(name))  # gives the session a new id by itself, and enters it in the list
    return redirect(url_for(".listed"), 303)


def sessions() -> Session:
    found: Session = current_app.extensions["flask_serverside"]
    return found


def device(info: SessionInfo) -> str:
    """The client in words, as far as it says what it is."""
    found = parse(info.user_agent or "")
    parts = [part.family for part in (found.user_agent, found.os) if part is not None]
    return " on ".join(parts) or "Unknown device"


def ago(moment: datetime) -> str:
    """A time in words."""
    seconds = int((datetime.now(UTC) - moment).total_seconds())
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        number = seconds // length
        if number > 0:  # not if another machine's clock is ahead
            return f"{number} {name}{'s' if number > 1 else ''} ago"
    return "just now"
