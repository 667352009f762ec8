"""An id from before somebody signed in or out is worth nothing after it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from backends import Running
from flask import Flask
from flask import request
from flask import Response
from flask import stream_with_context
from flask.testing import FlaskClient
from flask_login import confirm_login
from flask_login import login_required
from flask_login import login_user
from flask_login import LoginManager
from flask_login import logout_user
from flask_login import UserMixin
from test_life_of_a_request import handle_in
from test_life_of_a_request import is_alive
from test_life_of_a_request import store_of
from test_session import cookie_of

from flask_serverside import current_session as session
from flask_serverside import session_regenerated
from flask_serverside.testing import Clock

MakeApp = Callable[..., Flask]


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


def with_atomic() -> None:
    session.atomic(lambda session: session.update(_user_id="ada"))


def with_a_new_id_first() -> None:
    session.regenerate()
    session["_user_id"] = "ada"


def with_a_new_id_after() -> None:
    session["_user_id"] = "ada"
    session.regenerate()


def with_nothing_kept() -> None:
    session.regenerate(keep=False)
    session["_user_id"] = "ada"


def with_the_cart_kept() -> None:
    session.regenerate(keep=["cart"])
    session["_user_id"] = "ada"


def with_an_empty_session() -> None:
    session.clear()
    session["_user_id"] = "ada"


def with_a_session_destroyed_before() -> None:
    session.destroy()
    session["_user_id"] = "ada"


def with_a_save() -> None:
    session["_user_id"] = "ada"
    session.save()
    session["later"] = 1


def with_an_or() -> None:
    itself: Any = session
    itself |= {"_user_id": "ada"}


SIGN_INS: dict[str, Callable[[], Any]] = {
    "the key": lambda: session.update(_user_id="ada"),
    "a default": lambda: session.setdefault("_user_id", "ada"),
    "or": with_an_or,
    "atomic": with_atomic,
    "a save": with_a_save,
    "a new id before": with_a_new_id_first,
    "a new id after": with_a_new_id_after,
    "nothing kept": with_nothing_kept,
    "the cart kept": with_the_cart_kept,
    "cleared before": with_an_empty_session,
    "destroyed before": with_a_session_destroyed_before,
    "Flask-Login": lambda: login_user(User("ada")),
    "Flask-Login, remembered": lambda: login_user(User("ada"), remember=True),
    "Flask-Login, confirmed": lambda: (login_user(User("ada"), fresh=False), confirm_login()),
}


def with_login(app: Flask) -> Flask:
    """The application with all ways to sign in, in all places of a request."""
    manager = LoginManager(app)
    manager.user_loader(User)

    @app.before_request
    def before() -> None:
        if request.args.get("where") == "before":
            SIGN_INS[request.args["how"]]()

    @app.after_request
    def after(response: Response) -> Response:
        if request.args.get("where") == "after":
            SIGN_INS[request.args["how"]]()
        return response

    @app.errorhandler(404)
    def error(_: Exception) -> str:
        if request.args.get("where") == "error":
            SIGN_INS[request.args["how"]]()
        return ""

    @app.get("/sign-in")
    def sign_in() -> str:
        if request.args.get("where") == "view":
            SIGN_INS[request.args["how"]]()
        return ""

    @app.get("/sign-in-and-stream")
    def sign_in_and_stream() -> Response:
        SIGN_INS[request.args["how"]]()

        def parts() -> Iterator[str]:
            session["streamed"] = 1
            yield "a"

        return Response(stream_with_context(parts()))

    @app.get("/logout")
    def logout() -> str:
        logout_user()
        return ""

    @app.get("/secret")
    @login_required
    def secret() -> str:
        return str(session["_user_id"])

    return app


@pytest.fixture
def app(make_app: MakeApp, real_backend: Running) -> Flask:
    return with_login(make_app(real_backend))


def planted(app: Flask, attacker: FlaskClient) -> FlaskClient:
    """Somebody whose browser has been given the attacker's cookie."""
    attacker.get("/write?cart=1")
    victim = app.test_client()
    victim.set_cookie("session", cookie_of(attacker))
    return victim


def assert_worthless(app: Flask, attacker: FlaskClient, victim: FlaskClient) -> None:
    old = cookie_of(attacker)
    assert cookie_of(victim) != old
    assert not is_alive(app, handle_in(old))
    assert attacker.get("/secret").status_code == 401
    assert attacker.get("/read").json == {}
    attacker.get("/write?_user_id=mallory")
    attacker.get("/destroy")
    assert victim.get("/secret").text == "ada"
    assert victim.get("/read").json["_user_id"] == "ada"


@pytest.mark.parametrize("how", SIGN_INS)
def test_a_planted_id_is_worthless_after_a_sign_in(app: Flask, how: str) -> None:
    attacker = app.test_client()
    victim = planted(app, attacker)
    assert victim.get("/sign-in", query_string={"how": how, "where": "view"}).status_code == 200
    assert_worthless(app, attacker, victim)


PLACES = [
    ("/sign-in", "before"),
    ("/sign-in", "after"),
    ("/nowhere", "error"),
    ("/sign-in-and-stream", ""),
]


@pytest.mark.parametrize(("path", "where"), PLACES)
@pytest.mark.parametrize("how", ["the key", "a new id before", "Flask-Login", "atomic"])
def test_wherever_in_the_request_that_is(
    make_app: MakeApp, path: str, where: str, how: str
) -> None:
    app = with_login(make_app())
    attacker = app.test_client()
    victim = planted(app, attacker)
    victim.get(path, query_string={"how": how, "where": where})
    assert_worthless(app, attacker, victim)


@pytest.mark.parametrize("how", ["the key", "a new id before", "Flask-Login"])
def test_a_planted_id_is_worthless_within_the_grace_of_a_rotation(
    make_app: MakeApp, real_backend: Running, how: str
) -> None:
    app = with_login(
        make_app(real_backend, SESSION_ROTATION_INTERVAL=100, SESSION_ROTATION_GRACE=50)
    )
    store_of(app).clock = clock = Clock()
    attacker = app.test_client()
    victim = planted(app, attacker)
    clock.advance(100)
    victim.get("/read")
    assert cookie_of(victim) != cookie_of(attacker)
    clock.advance(10)
    assert app.test_client().get("/read").json == {}
    thief = app.test_client()
    thief.set_cookie("session", cookie_of(attacker))
    assert thief.get("/read").json == {"cart": "1"}  # the grace, before anybody signs in
    victim.get("/sign-in", query_string={"how": how, "where": "view"})
    assert_worthless(app, attacker, victim)
    assert thief.get("/secret").status_code == 401


def test_the_remember_me_cookie_signs_in_under_a_new_id(app: Flask) -> None:
    victim = app.test_client()
    victim.get("/sign-in", query_string={"how": "Flask-Login, remembered", "where": "view"})
    attacker = app.test_client()
    attacker.get("/write?cart=1")
    victim.set_cookie("session", cookie_of(attacker))
    assert victim.get("/secret").text == "ada"
    assert_worthless(app, attacker, victim)


def test_a_planted_id_that_is_not_stored_is_not_adopted(app: Flask) -> None:
    attacker = app.test_client()
    attacker.get("/write?cart=1")
    old = cookie_of(attacker)
    attacker.get("/destroy")
    store_of(app).delete(handle_in(old))
    victim = app.test_client()
    victim.set_cookie("session", old)
    attacker.set_cookie("session", old)
    victim.get("/sign-in", query_string={"how": "the key", "where": "view"})
    assert_worthless(app, attacker, victim)


def test_an_id_from_before_a_sign_out_is_worthless_after_it(app: Flask) -> None:
    for path in ("/logout", "/clear", "/destroy"):
        user = app.test_client()
        user.get("/write?cart=1")
        user.get("/sign-in", query_string={"how": "Flask-Login", "where": "view"})
        thief = app.test_client()
        thief.set_cookie("session", cookie_of(user))
        assert thief.get("/secret").text == "ada"
        user.get(path)
        assert thief.get("/secret").status_code == 401
        assert thief.get("/read").json == {}
    user = app.test_client()
    user.get("/write?cart=1&_user_id=ada")
    user.get("/logout")
    assert user.get("/read").json == {"cart": "1"}


def test_an_id_from_before_switching_users_is_worthless_after_it(app: Flask) -> None:
    admin = app.test_client()
    admin.get("/write?_user_id=admin&a=1")
    thief = app.test_client()
    thief.set_cookie("session", cookie_of(admin))
    admin.get("/write?_user_id=ada")
    assert admin.get("/read").json == {"_user_id": "ada", "a": "1"}
    assert_worthless(app, thief, admin)


def test_the_subject_is_under_the_key_that_is_configured(make_app: MakeApp) -> None:
    app = make_app(SESSION_SUBJECT_KEY="user")
    client = app.test_client()
    client.get("/write?a=1")
    first = cookie_of(client)
    client.get("/write?_user_id=1")
    assert cookie_of(client) == first
    client.get("/write?user=1")
    second = cookie_of(client)
    assert second != first
    client.get("/write?user=1&a=2")
    assert cookie_of(client) == second


def test_who_signs_in_again_as_the_same_keeps_the_id(app: Flask) -> None:
    client = app.test_client()
    client.get("/write?_user_id=ada")
    before = cookie_of(client)
    client.get("/sign-in", query_string={"how": "the key", "where": "view"})
    assert cookie_of(client) == before


def test_no_id_is_changed_by_itself_if_that_is_configured(make_app: MakeApp) -> None:
    app = make_app(SESSION_REGENERATE_ON_SUBJECT_CHANGE=False)
    client = app.test_client()
    client.get("/write?a=1")
    before = cookie_of(client)
    client.get("/write?_user_id=ada")
    assert cookie_of(client) == before
    record = store_of(app).load(handle_in(before))
    assert record is not None
    assert record.subject == "ada"


def test_a_double_click_on_sign_in_keeps_nobody_out(make_app: MakeApp) -> None:
    app = with_login(make_app())
    client = app.test_client()
    client.get("/write?cart=1")
    other = app.test_client()
    other.set_cookie("session", cookie_of(client))
    for browser in (client, other):  # the second is sent with the id of before the first
        browser.get("/sign-in", query_string={"how": "Flask-Login", "where": "view"})
        assert browser.get("/secret").text == "ada"
    assert client.get("/read").json["cart"] == "1"
    assert "cart" not in other.get("/read").json


def test_a_remember_me_cookie_does_not_undo_a_sign_out(make_app: MakeApp) -> None:
    app = with_login(make_app())
    client = app.test_client()
    client.get("/write?cart=1")
    client.get("/sign-in", query_string={"how": "Flask-Login, remembered", "where": "view"})
    late = app.test_client()  # a request that was sent before, and arrives after it
    for name in ("session", "remember_token"):
        cookie = client.get_cookie(name)
        assert cookie is not None
        late.set_cookie(name, cookie.value)
    old = cookie_of(late)
    client.get("/logout")
    answer = late.get("/secret")
    assert "session=" not in answer.headers.get("Set-Cookie", "")
    assert cookie_of(late) == old
    assert client.get("/secret").status_code == 401


def test_signing_in_where_no_id_can_be_given_is_not_stored(make_app: MakeApp) -> None:
    app = make_app()

    @app.get("/late")
    def late() -> Response:
        session.get("a")

        def parts() -> Iterator[str]:
            yield "a"
            session["_user_id"] = "ada"

        return Response(stream_with_context(parts()))

    client = app.test_client()
    client.get("/write?a=1")
    with pytest.warns(RuntimeWarning, match=r"Lost from the session.*'_user_id'"):
        client.get("/late", buffered=True)
    assert client.get("/read").json == {"a": "1"}


def test_signing_out_where_no_id_can_be_given_is_stored(make_app: MakeApp) -> None:
    app = make_app()

    @app.get("/late")
    def late() -> Response:
        session.get("a")

        def parts() -> Iterator[str]:
            yield "a"
            del session["_user_id"]

        return Response(stream_with_context(parts()))

    client = app.test_client()
    client.get("/write?a=1&_user_id=ada")
    client.get("/late", buffered=True)
    assert client.get("/read").json == {"a": "1"}


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (True, {"cart": ["x"], "a": 1}),
        (False, {}),
        ([], {}),
        (["cart"], {"cart": ["x"]}),
        (("cart", "nowhere"), {"cart": ["x"]}),
        ({"cart": 1}, {"cart": ["x"]}),
    ],
)
def test_what_is_kept_under_the_new_id(
    make_app: MakeApp, keep: Any, left: dict[str, Any]
) -> None:
    app = make_app()

    @app.get("/renew")
    def renew() -> str:
        session.regenerate(keep=keep)
        session["b"] = 1
        return ""

    client = app.test_client()
    with client.session_transaction() as transaction:
        transaction.update(cart=["x"], a=1)
    old = cookie_of(client)
    heard = []

    def hear(sender: Flask, **what: Any) -> None:
        heard.append(what)

    with session_regenerated.connected_to(hear):
        client.get("/renew")
    assert client.get("/read").json == {**left, "b": 1}
    new = handle_in(cookie_of(client))
    assert heard == [
        {"handle": new, "subject": None, "former": handle_in(old), "reason": "asked"}
    ]


def test_what_others_add_to_what_is_kept_comes_along(make_app: MakeApp) -> None:
    app = make_app()
    client, other = app.test_client(), app.test_client()

    @app.get("/renew")
    def renew() -> str:
        session.regenerate(keep=["cart", "new"])
        session["mine"] = 1
        other.get("/write?cart=2&a=2&new=1&b=1")
        return ""

    client.get("/write?cart=1&a=1")
    other.set_cookie("session", cookie_of(client))
    client.get("/renew")
    assert client.get("/read").json == {"cart": "2", "new": "1", "mine": 1}


def test_a_key_on_its_own_is_not_taken_for_several(make_app: MakeApp) -> None:
    app = make_app()

    @app.get("/renew")
    def renew() -> str:
        with pytest.raises(TypeError, match="keep='cart'"):
            session.regenerate(keep="cart")
        return ""

    client = app.test_client()
    client.get("/write?cart=1")
    client.get("/renew")
    assert client.get("/read").json == {"cart": "1"}
