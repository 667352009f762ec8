"""A tea shop that keeps who has signed in, the cart and the messages in the session.

.. code-block:: text

    flask --app examples/shop run
    FLASK_SESSION_TYPE=redis flask --app examples/shop run

Every other key of the configuration can be set in the environment that way, too.
"""

from __future__ import annotations

from datetime import datetime
from datetime import UTC
from decimal import Decimal
from typing import NamedTuple

from flask import abort
from flask import Blueprint
from flask import flash
from flask import Flask
from flask import redirect
from flask import render_template
from flask import request
from flask import url_for
from flask.typing import ResponseReturnValue

from flask_serverside import current_session as session
from flask_serverside import ServerSideSession
from flask_serverside import Session


class Tea(NamedTuple):
    name: str
    taste: str
    price: Decimal
    colour: str


TEAS = {
    "sencha": Tea("Sencha", "Green, grassy, from Uji", Decimal("8.50"), "#b9c24b"),
    "darjeeling": Tea("Darjeeling", "First flush, muscat", Decimal("12.90"), "#d9953f"),
    "assam": Tea("Assam", "Strong, malty, takes milk", Decimal("6.20"), "#9c4a1f"),
    "hibiscus": Tea("Hibiscus", "No tea at all, but very red", Decimal("4.75"), "#b3173f"),
}
USERS = {"ada": "engine", "grace": "compiler"}

shop = Blueprint("shop", __name__)


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY="demo",  # noqa: S106 - a real application takes it from its environment
        SESSION_COOKIE_SECURE="auto",
        SESSION_SUBJECT_KEY="user",
        SESSION_TYPE="memory",
    )
    app.config.from_prefixed_env()
    Session(app)
    app.register_blueprint(shop)
    return app


@shop.get("/")
def shelf() -> ResponseReturnValue:
    return render_template("shelf.html", teas=TEAS)


@shop.get("/cart")
def cart() -> ResponseReturnValue:
    items = session.get("cart", {})
    total = sum((item["price"] * item["quantity"] for item in items.values()), Decimal())
    return render_template("cart.html", items=items, total=total)


@shop.post("/cart/<sku>/add")
def add(sku: str) -> ResponseReturnValue:
    tea = TEAS.get(sku) or abort(404)

    def one_more(session: ServerSideSession) -> None:
        items = session.setdefault("cart", {})
        if sku not in items:
            now = datetime.now(UTC)
            items[sku] = {"name": tea.name, "price": tea.price, "quantity": 0, "added_at": now}
        # Deep inside the session, without session.modified = True: it is noticed all the same.
        items[sku]["quantity"] += 1

    session.atomic(one_more)  # two clicks at once are two packets
    flash(f"{tea.name} is in your cart.")
    return redirect(url_for(".shelf", _anchor=sku), 303)


@shop.post("/cart/<sku>/change")
def change(sku: str) -> ResponseReturnValue:
    items = session.get("cart", {})
    if sku in items:  # not if it was taken out in another tab
        items[sku]["quantity"] += 1 if request.form.get("by") == "+1" else -1
        if items[sku]["quantity"] < 1:
            del items[sku]
    return redirect(url_for(".cart"), 303)


@shop.post("/order")
def order() -> ResponseReturnValue:
    if "user" not in session:
        flash("Sign in to order. Your cart comes along.")
        return redirect(url_for(".sign_in"), 303)
    if session.pop("cart", None):
        flash("Thank you! No money was taken and no tea will come: this is a demo.")
    return redirect(url_for(".shelf"), 303)


@shop.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template("sign_in.html", users=USERS)
    name = request.form.get("name", "").strip().lower()
    if USERS.get(name) != request.form.get("password", ""):
        flash("This name and password do not go together.")
        return redirect(url_for(".sign_in", name=name), 303)
    # A new id: one that was planted or seen before is worth nothing then. The cart of a
    # visitor comes along, that of another user does not.
    session.regenerate(keep="user" not in session)
    session["user"] = name
    flash(f"Welcome, {name.title()}.")
    return redirect(url_for(".cart" if session.get("cart") else ".shelf"), 303)


@shop.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    session.destroy()
    flash("You are signed out, and your cart is gone.")  # begins a new session
    return redirect(url_for(".shelf"), 303)
