"""Two requests of one browser at once, around a login, a logout, a new id and a clear: what the
browser is left with, in every order of their steps."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable

import pytest
from flask import flash
from flask import Flask
from flask import get_flashed_messages
from flask import request
from interleaving import Answer
from interleaving import Browser
from interleaving import every_interleaving
from interleaving import Run
from interleaving import SteppedStore

from flask_serverside import current_session as session
from flask_serverside import Session
from flask_serverside import session_conflict
from flask_serverside.stores import Record
from flask_serverside.web.identity import handle_of

pytestmark = pytest.mark.group("memory")

SIGN_INS = (
    "/sign-in?user=grace",
    "/sign-in?user=grace&keep=no",
    "/sign-in-by-key?user=grace",
    "/sign-in-by-atomic?user=grace",
)
SIGN_OUTS = ("/destroy", "/destroy-and-flash", "/clear", "/pop-user")
OTHERS = ("/read", "/write?x=1", "/flash", "/take")
REGENERATE = "/regenerate"
EVERYTHING = (*SIGN_INS, *SIGN_OUTS, *OTHERS, REGENERATE, "/prove")


@functools.cache
def make_app(**config: object) -> Flask:
    app = Flask("interleavings")
    app.config.update(SECRET_KEY="test", TESTING=True, SESSION_TYPE=SteppedStore(), **config)
    Session(app)

    @app.get("/read")
    def read() -> str:
        return str(session.get("user"))

    @app.get("/write")
    def write() -> str:
        session.update(request.args)
        return ""

    @app.get("/flash")
    def add_message() -> str:
        flash("hello")
        return ""

    @app.get("/take")
    def take() -> list[str]:
        return list(get_flashed_messages())

    @app.get("/sign-in")
    def sign_in() -> str:
        session.regenerate(keep="keep" not in request.args)
        session["_user_id"] = request.args["user"]
        return ""

    @app.get("/sign-in-by-key")
    def sign_in_by_key() -> str:
        session["_user_id"] = request.args["user"]
        return ""

    @app.get("/sign-in-by-atomic")
    def sign_in_by_atomic() -> str:
        session.atomic(lambda session: session.update(_user_id=request.args["user"]))
        return ""

    @app.get("/prove")
    def prove() -> str:
        session.reauthenticated()
        return ""

    @app.get("/regenerate")
    def regenerate() -> str:
        session.regenerate()
        return ""

    @app.get("/destroy")
    def destroy() -> str:
        session.destroy()
        return ""

    @app.get("/destroy-and-flash")
    def destroy_and_flash() -> str:
        session.destroy()
        flash("you are signed out")
        return ""

    @app.get("/clear")
    def clear() -> str:
        session.clear()
        return ""

    @app.get("/pop-user")
    def pop_user() -> str:
        session.pop("_user_id", None)
        return ""

    return app


def browser_with(app: Flask | None = None, **data: object) -> Browser:
    """A browser with a session, the only one in the store."""
    app = app or make_app()
    app.config["SESSION_TYPE"].forget_all()
    client = app.test_client()
    with client.session_transaction() as transaction:
        transaction.update(data, kept="yes")
    cookie = client.get_cookie("session")
    assert cookie is not None
    return Browser(app, cookie.value)


def due(**data: object) -> Browser:
    """A browser whose session is to be given a new id by the next request that looks at it."""
    app = make_app(SESSION_ROTATION_INTERVAL=1000, SESSION_ROTATION_GRACE=10)
    store = app.config["SESSION_TYPE"]
    store.clock = time.time
    browser = browser_with(app, **data)
    later = time.time() + 1000
    store.clock = lambda: later
    return browser


def user_due() -> Browser:
    return due(_user_id="ada")


def signed_in() -> Browser:
    return browser_with(_user_id="ada")


def visiting() -> Browser:
    return browser_with()


def without_cookie() -> Browser:
    return Browser(browser_with().app, None)


def data_of(browser: Browser) -> dict[str, object]:
    with browser.client().session_transaction() as transaction:
        return dict(transaction)


def records(app: Flask) -> list[Record]:
    """All sessions that are alive, whoever has their ids."""
    return [record for record in app.config["SESSION_TYPE"].kept() if not record.ended]


def last_cookie(run: Run) -> Answer | None:
    """Whose cookie the browser has kept: of those that set one, the one that came last."""
    setting = [answer for answer in run.answers if answer.cookie is not None]
    return max(setting, key=lambda answer: answer.arrived, default=None)


def pairs(*groups: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each pair of one request out of each group; every order of both will be run."""
    return list(dict.fromkeys(tuple(sorted(pair)) for pair in itertools.product(*groups)))


def all_pairs(paths: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(itertools.combinations_with_replacement(paths, 2))


def of(answers: list[Answer], paths: tuple[str, ...]) -> Answer:
    return next(answer for answer in answers if answer.path in paths)


@pytest.mark.parametrize("begin", [visiting, signed_in, without_cookie])
@pytest.mark.parametrize("paths", pairs(SIGN_INS, OTHERS))
def test_a_sign_in_leaves_the_browser_signed_in(
    begin: Callable[[], Browser], paths: tuple[str, str]
) -> None:
    for run in every_interleaving(begin, paths):
        if begin is without_cookie and last_cookie(run) is not of(run.answers, SIGN_INS):
            # Two requests without a cookie begin two sessions. The browser keeps one.
            continue
        assert data_of(run.browser).get("_user_id") == "grace", run.order
        assert {record.subject for record in records(run.browser.app)} <= {"grace", None}


@pytest.mark.parametrize("paths", pairs(SIGN_OUTS, (*OTHERS, REGENERATE)))
def test_a_sign_out_leaves_nobody_signed_in(paths: tuple[str, str]) -> None:
    for run in every_interleaving(signed_in, paths):
        sign_out = of(run.answers, SIGN_OUTS)
        if paths == ("/pop-user", REGENERATE) and sign_out.dead:
            # To take one key out of a session that has ended is to do nothing.
            assert data_of(run.browser)["_user_id"] == "ada", run.order
            continue
        assert "_user_id" not in data_of(run.browser), run.order
        assert not [r for r in records(run.browser.app) if r.subject], run.order


@pytest.mark.parametrize("paths", all_pairs(SIGN_OUTS))
def test_two_sign_outs_leave_nobody_signed_in(paths: tuple[str, str]) -> None:
    for run in every_interleaving(signed_in, paths):
        assert "_user_id" not in data_of(run.browser), run.order
        assert not [r for r in records(run.browser.app) if r.subject], run.order


@pytest.mark.parametrize("begin", [visiting, signed_in])
@pytest.mark.parametrize(
    "paths",
    [
        (SIGN_INS[0], SIGN_INS[0]),
        (SIGN_INS[0], "/sign-in?user=bob&keep=no"),
        (SIGN_INS[0], "/sign-in-by-key?user=bob"),
        (SIGN_INS[2], "/sign-in-by-key?user=bob"),
    ],
)
def test_of_two_sign_ins_the_one_whose_answer_comes_last_stands(
    begin: Callable[[], Browser], paths: tuple[str, str]
) -> None:
    for run in every_interleaving(begin, paths):
        last = last_cookie(run)
        assert last is not None
        assert f"user={data_of(run.browser)['_user_id']}" in last.path, run.order
        assert all(answer.cookie for answer in run.answers), run.order


@pytest.mark.parametrize("begin", [visiting, signed_in])
@pytest.mark.parametrize("paths", pairs(SIGN_INS, (*SIGN_OUTS, REGENERATE)))
def test_when_both_set_the_cookie_the_last_answer_decides_and_its_session_is_alive(
    begin: Callable[[], Browser], paths: tuple[str, str]
) -> None:
    for run in every_interleaving(begin, paths):
        sign_in, last = of(run.answers, SIGN_INS), last_cookie(run)
        assert last is not None
        data = data_of(run.browser)
        if last is sign_in:
            in_time = sign_in.arrived > of(run.answers, (*SIGN_OUTS, REGENERATE)).arrived
            other_later = not in_time
            # The other one may have been sent after it, with the new cookie, and refused
            # nothing: then it has signed the new session out, by writing to it only.
            assert data.get("_user_id") == "grace" or other_later, run.order
        elif last.path == REGENERATE:
            # It has ended only if grace's sign-in has signed ada out of it.
            assert data or begin is signed_in, run.order
        else:
            assert "_user_id" not in data, run.order


@pytest.mark.parametrize("begin", [visiting, signed_in])
def test_of_two_new_ids_one_is_given_and_the_session_goes_on(
    begin: Callable[[], Browser],
) -> None:
    for run in every_interleaving(begin, (REGENERATE, REGENERATE)):
        assert data_of(run.browser)["kept"] == "yes", run.order
        assert len(records(run.browser.app)) == 1
        if len({answer.sent for answer in run.answers}) == 1:
            assert len([a for a in run.answers if a.cookie]) == 1, run.order


@pytest.mark.parametrize("path", OTHERS)
def test_a_new_id_loses_nothing_that_was_stored(path: str) -> None:
    refused: list[str] = []

    def note(sender: object, reason: str, **more: object) -> None:
        refused.append(reason)

    with session_conflict.connected_to(note):
        for run in every_interleaving(signed_in, (REGENERATE, path)):
            data = data_of(run.browser)
            assert (data["_user_id"], data["kept"]) == ("ada", "yes"), run.order
            if path == "/write?x=1":
                assert ("x" in data) == ("gone" not in refused), run.order
            if path == "/flash":
                assert ("_flashes" in data) == ("gone" not in refused), run.order
            refused.clear()


def test_a_clear_takes_what_was_written_before_it_and_refuses_what_comes_after() -> None:
    for run in every_interleaving(signed_in, ("/clear", "/write?x=1")):
        write = of(run.answers, ("/write?x=1",))
        if write.sent is not None:
            assert data_of(run.browser) == {}, run.order
            assert not records(run.browser.app), run.order


@pytest.mark.parametrize("begin", [visiting, signed_in])
def test_writes_to_different_keys_are_both_there(begin: Callable[[], Browser]) -> None:
    for run in every_interleaving(begin, ("/write?x=1", "/write?y=2")):
        data = data_of(run.browser)
        assert (data["x"], data["y"]) == ("1", "2"), run.order


def test_a_message_is_shown_once() -> None:
    def begin() -> Browser:
        return browser_with(_flashes=[("message", "one"), ("message", "two")])

    for paths in (("/take", "/take"), ("/take", "/flash"), ("/take", REGENERATE)):
        for run in every_interleaving(begin, paths):
            later = run.browser.client().get("/take")
            shown = [a.text for a in run.answers if a.path == "/take"] + [later.text]
            assert sum(text.count("one") for text in shown) == 1, run.order
            assert sum(text.count("two") for text in shown) == 1, run.order
            added = sum(text.count("hello") for text in shown)
            assert added == paths.count("/flash"), run.order


@pytest.mark.parametrize("begin", [visiting, signed_in])
@pytest.mark.parametrize("paths", all_pairs(EVERYTHING))
def test_the_cookie_never_leads_to_a_session_that_has_ended_by_then(
    begin: Callable[[], Browser], paths: tuple[str, str]
) -> None:
    """An answer sets the cookie only to a session of its own, and it is alive unless the
    other request has ended it after that. Who carries an id that has ended sets none, unless
    it signs in."""
    for run in every_interleaving(begin, paths):
        alive = {record.handle for record in records(run.browser.app)}
        for answer, other in (run.answers, run.answers[::-1]):
            if answer.cookie:
                handle = handle_of(answer.cookie.partition(".")[0])
                ends_it = other.path in (*SIGN_INS, *SIGN_OUTS, REGENERATE, "/prove")
                takes_all = (answer.path, other.path) == ("/destroy-and-flash", "/take")
                assert handle in alive or ends_it or takes_all, run.order
            if answer.dead and answer.path not in SIGN_INS:
                assert answer.cookie is None, run.order
            assert answer.status == 200


def test_a_cookie_that_is_sent_again_may_take_the_browser_back() -> None:
    """The limit: an answer that extends the cookie was sent before the sign-in's, with the id
    that was valid then, and arrives after it. So it is sent seldom, and can be ruled out."""

    def begin() -> Browser:
        browser = visiting()
        store = browser.app.config["SESSION_TYPE"]
        [record] = store.kept()
        store.clock = lambda: record.seen / 1000 + 3600  # an hour later
        return browser

    back = []
    for run in every_interleaving(begin, ("/sign-in?user=grace", "/read")):
        read = of(run.answers, ("/read",))
        if data_of(run.browser).get("_user_id") != "grace":
            assert read.cookie == read.sent
            back.append(run)
    assert back
    begin().app.config["SESSION_TYPE"].clock = time.time


@pytest.mark.parametrize("begin", [due, user_due])
@pytest.mark.parametrize("paths", all_pairs(("/read", "/write?x=1", "/write?y=2", "/flash")))
def test_all_who_come_while_an_id_is_exchanged_get_the_same_one(
    begin: Callable[[], Browser], paths: tuple[str, str]
) -> None:
    for run in every_interleaving(begin, paths):
        [record] = records(run.browser.app)
        given = {answer.cookie for answer in run.answers if answer.cookie is not None}
        assert {handle_of(cookie.partition(".")[0]) for cookie in given} == {record.handle}
        data = data_of(run.browser)
        assert data["kept"] == "yes", run.order
        for path in paths:
            assert path != "/write?x=1" or data["x"] == "1", run.order
            assert path != "/write?y=2" or data["y"] == "2", run.order
        assert len(data.get("_flashes", [])) == paths.count("/flash"), run.order


@pytest.mark.parametrize("path", [*OTHERS, "/prove", REGENERATE])
@pytest.mark.parametrize("sign_out", SIGN_OUTS)
def test_a_sign_out_while_an_id_is_exchanged_leaves_nobody_signed_in(
    sign_out: str, path: str
) -> None:
    for run in every_interleaving(user_due, (sign_out, path)):
        popped = run.answers[0]
        if sign_out == "/pop-user" and path in ("/prove", REGENERATE) and popped.dead:
            continue  # there is nothing to be taken out of a session that has ended
        assert not [r for r in records(run.browser.app) if r.subject], run.order
        assert "_user_id" not in data_of(run.browser), run.order


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("sign_in", SIGN_INS)
def test_a_sign_in_while_an_id_is_exchanged_leaves_the_browser_signed_in(
    sign_in: str, path: str
) -> None:
    taken_back = []
    for run in every_interleaving(due, (sign_in, path)):
        assert {record.subject for record in records(run.browser.app)} <= {"grace", None}
        if data_of(run.browser).get("_user_id") != "grace":
            # The limit: the other answer was sent before the sign-in's, and arrives after it.
            other = run.answers[1]
            assert other.cookie
            assert other.arrived > run.answers[0].arrived
            taken_back.append(run.order)
    assert len(taken_back) > 0
