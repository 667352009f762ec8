"""Sessions can be listed, looked at and ended by who does not have their ids."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from datetime import timedelta
from datetime import UTC
from typing import Any
from uuid import UUID

import pytest
from backends import Running
from flask import Flask
from flask.testing import FlaskClient
from test_damage import put_another_type
from test_damage import put_value
from test_life_of_a_request import handle_in
from test_life_of_a_request import is_alive
from test_life_of_a_request import store_of
from test_rotation import GRACE
from test_rotation import heard
from test_rotation import INTERVAL
from test_rotation import rotating
from test_session import cookie_of

from flask_serverside import current_session as session
from flask_serverside import NotSupported
from flask_serverside import Session
from flask_serverside import session_revoked
from flask_serverside import SessionInfo
from flask_serverside import StoreUnavailable
from flask_serverside.testing import at_once
from flask_serverside.testing import Clock
from flask_serverside.testing import new_record

MakeApp = Callable[..., Flask]

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


def sessions_of(app: Flask) -> Session:
    found = app.extensions["flask_serverside"]
    assert isinstance(found, Session)
    return found


@pytest.fixture
def ada() -> str:
    """Somebody whom no other test has signed in on the same server."""
    return f"ada-{secrets.token_hex(8)}"


def signed_in(app: Flask, subject: str, **headers: Any) -> FlaskClient:
    client = app.test_client()
    client.get("/write", query_string={"_user_id": subject}, **headers)
    return client


def handle_of(client: FlaskClient) -> str:
    return handle_in(cookie_of(client))


def app_with_views(
    make_app: MakeApp, running: Running | None = None, **config: Any
) -> tuple[Flask, Session]:
    app = make_app(running, **config)
    sessions = sessions_of(app)

    @app.get("/list")
    def listed() -> list[list[Any]]:
        return [[info.handle, info.current] for info in sessions.list(session["_user_id"])]

    @app.get("/end-others")
    def end_others() -> str:
        return str(sessions.revoke_subject(session["_user_id"], keep_current=True))

    @app.get("/end-all")
    def end_all() -> str:
        return str(sessions.revoke_subject(session["_user_id"]))

    @app.get("/change-password")
    def change_password() -> str:
        session.reauthenticated()
        return str(sessions.revoke_subject(session["_user_id"], keep_current=True))

    @app.get("/sign-in/<name>")
    def sign_in(name: str) -> str:
        session["_user_id"] = name
        return str(sessions.revoke_subject(name, keep_current=True))

    return app, sessions


def test_a_user_sees_where_they_are_signed_in(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    app, sessions = app_with_views(make_app, indexed_backend)
    here, there = signed_in(app, ada), signed_in(app, ada)
    signed_in(app, f"{ada}'s neighbour")
    listed = here.get("/list").json
    assert sorted(listed) == sorted([[handle_of(here), True], [handle_of(there), False]])
    assert sorted(there.get("/list").json) != sorted(listed)
    assert sessions.count(ada) == 2


def test_nothing_but_the_handle_names_a_session(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    app, sessions = app_with_views(make_app, indexed_backend)
    client = signed_in(app, ada)
    [info] = sessions.list(ada)
    assert info.handle == handle_of(client)
    sid = cookie_of(client).partition(".")[0]
    assert sid not in repr(info)
    thief = app.test_client()
    for value in map(str, info):
        for cookie in (value, f"{value}.{cookie_of(client).partition('.')[2]}"):
            thief.set_cookie("session", cookie)
            assert thief.get("/read").json == {}


def test_what_is_told_of_a_session_is_so(make_app: MakeApp, ada: str) -> None:
    clock = Clock()
    app, sessions = app_with_views(make_app, SESSION_RECORD_CLIENT=True)
    store_of(app).clock = clock
    began = datetime.fromtimestamp(clock(), UTC)
    client = signed_in(app, ada, headers={"User-Agent": FIREFOX})
    clock.advance(3600)
    client.get("/read", headers={"User-Agent": FIREFOX})
    later = began + timedelta(hours=1)
    told = SessionInfo(
        handle_of(client),
        ada,
        began,
        later,
        later + timedelta(days=31),
        FIREFOX,
        "127.0.0.1",
        False,
    )
    assert list(sessions.list(ada)) == [told]
    assert sessions.get(told.handle) == told


def test_a_session_that_nobody_has_signed_in_to_is_listed_among_all(
    make_app: MakeApp, indexed_backend: Running
) -> None:
    app, sessions = app_with_views(make_app, indexed_backend)
    client = app.test_client()
    client.get("/write?a=1")
    [info] = [info for info in sessions.list() if info.handle == handle_of(client)]
    assert (info.subject, info.user_agent, info.remote_addr) == (None, None, None)


def test_a_subject_may_be_what_stands_in_the_session(make_app: MakeApp) -> None:
    app, sessions = app_with_views(make_app)
    number, uuid = 42, UUID(int=7)

    @app.get("/as/<kind>")
    def become(kind: str) -> str:
        session["_user_id"] = number if kind == "number" else uuid
        return ""

    for kind in ("number", "uuid"):
        app.test_client().get(f"/as/{kind}")
    assert [info.subject for info in sessions.list(number)] == ["42"]
    assert [info.subject for info in sessions.list(uuid)] == [str(uuid)]
    assert sessions.revoke_subject(number) == 1
    assert sessions.count() == 1


@pytest.mark.parametrize("subject", ["", b"ada", 1.5, True, "a" * 256, "a\nb", ["ada"]])
def test_what_is_no_subject_is_refused_and_never_means_all(
    make_app: MakeApp, subject: Any
) -> None:
    app, sessions = app_with_views(make_app)
    signed_in(app, "ada")
    for act in (sessions.list, sessions.count, sessions.revoke_subject):
        with pytest.raises(ValueError, match="subject="):
            act(subject)
    with pytest.raises(ValueError, match="subject=None"):
        sessions.revoke_subject(None)  # type: ignore[arg-type]
    assert sessions.count() == 1


@pytest.mark.parametrize(
    "handle",
    ["", "x" * 64, "of:ada", "*", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "ä" * 64],
)
def test_what_is_no_handle_does_not_reach_the_store(make_app: MakeApp, handle: str) -> None:
    app, sessions = app_with_views(make_app)
    store_of(app).find = None  # type: ignore[assignment, method-assign]
    assert sessions.get(handle) is None
    assert sessions.revoke(handle) is False


def test_no_handle_reaches_what_else_the_store_keeps(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    app, sessions = app_with_views(make_app, indexed_backend)
    client = signed_in(app, ada)
    assert not sessions.revoke(f"of:{ada}")
    assert sessions.count(ada) == 1
    assert is_alive(app, handle_of(client))


def test_a_user_ends_all_other_sessions(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    app, sessions = app_with_views(make_app, indexed_backend)
    here, *there = (signed_in(app, ada) for _ in range(4))
    neighbour = signed_in(app, f"{ada}'s neighbour")
    told = heard(session_revoked, lambda: here.get("/end-others"))
    assert {(t["handle"], t["subject"], t["reason"]) for t in told} == {
        (handle_of(client), ada, "asked") for client in there
    }
    assert [client.get("/read").json for client in there] == [{}] * 3
    assert here.get("/read").json == {"_user_id": ada}
    assert neighbour.get("/read").json == {"_user_id": f"{ada}'s neighbour"}
    assert [info.handle for info in sessions.list(ada)] == [handle_of(here)]


def test_a_user_ends_all_sessions_this_one_too(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    app, sessions = app_with_views(make_app, indexed_backend)
    clients = [signed_in(app, ada) for _ in range(3)]
    assert clients[0].get("/end-all").text == "3"
    assert [client.get("/read").json for client in clients] == [{}] * 3
    assert sessions.count(ada) == 0
    assert signed_in(app, ada).get("/read").json == {"_user_id": ada}


def test_who_changes_the_password_stays_under_a_new_id(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    app, sessions = app_with_views(make_app, indexed_backend)
    here, there = signed_in(app, ada), signed_in(app, ada)
    before = cookie_of(here)
    assert here.get("/change-password").text == "1"
    assert cookie_of(here) != before
    assert here.get("/read").json == {"_user_id": ada}
    assert there.get("/read").json == {}
    assert [info.handle for info in sessions.list(ada)] == [handle_of(here)]


def test_who_signs_in_may_end_all_others_in_the_same_request(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    app, sessions = app_with_views(make_app, indexed_backend)
    there = signed_in(app, ada)
    here = app.test_client()
    here.get("/write?cart=full")
    assert here.get(f"/sign-in/{ada}").text == "1"
    assert here.get("/read").json == {"cart": "full", "_user_id": ada}
    assert there.get("/read").json == {}
    assert sessions.count(ada) == 1


def test_without_a_request_there_is_nothing_to_be_kept(make_app: MakeApp, ada: str) -> None:
    app, sessions = app_with_views(make_app)
    client = signed_in(app, ada)
    with pytest.raises(RuntimeError, match="keep_current"):
        sessions.revoke_subject(ada, keep_current=True)
    assert is_alive(app, handle_of(client))


def test_one_who_has_it_in_hand_cannot_bring_it_back(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    app, sessions = app_with_views(make_app, indexed_backend)

    @app.get("/slow")
    def slow() -> str:
        session["a"] = session.get("a", 0)
        sessions.revoke_subject(ada)
        session["b"] = 1
        return "written"

    client = signed_in(app, ada)
    assert client.get("/slow").text == "written"
    assert client.get("/read").json == {}
    assert sessions.count(ada) == 0


@pytest.mark.parametrize(
    "path", ["/write?late=1", "/regenerate", "/sign-in/{}", "/append", "/read"]
)
def test_many_at_once_bring_nothing_back(
    make_app: MakeApp, indexed_backend: Running, ada: str, path: str
) -> None:
    app, sessions = app_with_views(make_app, indexed_backend)
    for _ in range(3):
        clients = [signed_in(app, ada) for _ in range(4)]

        def use_or_end(number: int, clients: list[FlaskClient] = clients) -> None:
            if number == 4:
                sessions.revoke_subject(ada)
            elif "sign-in" in path:  # as somebody else
                clients[number].get(path.format("grace"))
            else:
                clients[number].get(path)

        at_once(5, use_or_end)
        for client in clients:
            assert client.get("/read").json.get("_user_id") != ada
        assert sessions.count(ada) == 0


def test_sessions_that_rotate_meanwhile_are_ended_or_kept_as_asked(
    make_app: MakeApp, indexed_backend: Running, ada: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    app = rotating(make_app, clock, indexed_backend)
    sessions, store = sessions_of(app), store_of(app)
    named = store._handles  # type: ignore[attr-defined]

    def rotated_meanwhile(*asked: Any) -> Any:
        found = named(*asked)  # by then it is known what there is
        for client in (here, there):
            client.get("/read")
        return found

    @app.get("/end-others")
    def end_others() -> str:
        with monkeypatch.context() as patch:
            patch.setattr(store, "_handles", rotated_meanwhile)
            sessions.revoke_subject(ada)
        return ""

    here, there = signed_in(app, ada), signed_in(app, ada)
    before = {handle_of(here), handle_of(there)}
    clock.advance(INTERVAL)
    app.test_client().get("/end-others")
    assert not before & {handle_of(here), handle_of(there)}
    assert (here.get("/read").json, there.get("/read").json) == ({}, {})
    assert sessions.count(ada) == 0


def test_the_current_session_is_kept_if_it_rotates_meanwhile(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    clock = Clock()
    app = rotating(make_app, clock, indexed_backend)
    sessions = sessions_of(app)

    @app.get("/end-others")
    def end_others() -> str:
        assert session["_user_id"] == ada
        clock.advance(INTERVAL)
        here.get("/read")
        return str(sessions.revoke_subject(ada, keep_current=True))

    here, there = signed_in(app, ada), signed_in(app, ada)
    slow = app.test_client()
    slow.set_cookie("session", cookie_of(here))
    assert slow.get("/end-others").text == "1"
    assert here.get("/read").json == {"_user_id": ada}
    assert there.get("/read").json == {}


@pytest.mark.parametrize("path", ["/read", "/regenerate"])
def test_the_current_session_is_kept_if_it_moves_while_others_are_ended(
    make_app: MakeApp,
    indexed_backend: Running,
    ada: str,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    clock = Clock()
    app = rotating(make_app, clock, indexed_backend)
    sessions, store = sessions_of(app), store_of(app)
    named = store._handles  # type: ignore[attr-defined]

    @app.get("/end-others")
    def end_others() -> str:
        assert session["_user_id"] == ada

        def moved_before(*asked: Any) -> Any:
            monkeypatch.setattr(store, "_handles", named)
            clock.advance(INTERVAL)
            here.get(path)
            return named(*asked)

        monkeypatch.setattr(store, "_handles", moved_before)
        return str(sessions.revoke_subject(ada, keep_current=True))

    here, there = signed_in(app, ada), signed_in(app, ada)
    slow = app.test_client()
    slow.set_cookie("session", cookie_of(here))
    before = handle_of(here)
    assert slow.get("/end-others").text == "1"
    assert handle_of(here) != before
    assert here.get("/read").json == {"_user_id": ada}
    assert there.get("/read").json == {}


def test_an_id_given_up_long_ago_is_not_counted(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    clock = Clock()
    app = rotating(make_app, clock, indexed_backend)
    client = signed_in(app, ada)
    for _ in range(5):
        clock.advance(INTERVAL)
        client.get("/read")
    clock.advance(GRACE)
    assert [info.handle for info in sessions_of(app).list(ada)] == [handle_of(client)]


def test_who_listens_and_fails_keeps_no_session_alive(make_app: MakeApp, ada: str) -> None:
    app, sessions = app_with_views(make_app)
    for _ in range(3):
        signed_in(app, ada)

    def fail(sender: Flask, **_: Any) -> None:
        raise RuntimeError("a receiver")

    with session_revoked.connected_to(fail), pytest.raises(RuntimeError, match="a receiver"):
        sessions.revoke_subject(ada)
    assert sessions.count(ada) == 0


def test_all_sessions_there_are_can_be_ended(make_app: MakeApp) -> None:
    app, sessions = app_with_views(make_app)
    clients = [signed_in(app, f"user {n}") for n in range(5)]
    clients.append(app.test_client())
    clients[-1].get("/write?a=1")
    assert sessions.revoke_all() == 6
    assert [client.get("/read").json for client in clients] == [{}] * 6
    assert list(sessions.list()) == []


def test_the_client_is_recorded_only_if_asked_for(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    for record in (False, True):
        app, sessions = app_with_views(make_app, indexed_backend, SESSION_RECORD_CLIENT=record)
        client = signed_in(app, f"{ada} {record}", headers={"User-Agent": FIREFOX})
        [info] = sessions.list(f"{ada} {record}")
        recorded = (FIREFOX, "127.0.0.1") if record else (None, None)
        assert (info.user_agent, info.remote_addr) == recorded
        assert (FIREFOX.encode() in store_of(app).load(handle_of(client)).payload) == record  # type: ignore[union-attr]


def test_who_only_reads_from_elsewhere_is_recorded_when_the_session_is_extended(
    make_app: MakeApp, indexed_backend: Running, ada: str
) -> None:
    clock = Clock()
    app, sessions = app_with_views(make_app, indexed_backend, SESSION_RECORD_CLIENT=True)
    store_of(app).clock = clock
    client = signed_in(app, ada, headers={"User-Agent": FIREFOX})
    elsewhere = {"User-Agent": "curl/8.5.0"}, {"REMOTE_ADDR": "203.0.113.9"}

    def read_elsewhere() -> tuple[str | None, str | None]:
        client.get("/read", headers=elsewhere[0], environ_overrides=elsewhere[1])
        [info] = sessions.list(ada)
        return info.user_agent, info.remote_addr

    assert read_elsewhere() == (FIREFOX, "127.0.0.1")
    clock.advance(60)
    assert read_elsewhere() == ("curl/8.5.0", "203.0.113.9")
    assert client.get("/read").json == {"_user_id": ada}


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("x" * 300, "x" * 255),
        ("\x1b[2J\x1b]0;title\x07curl", "[2J]0;titlecurl"),
        ("J\xfcrgen " + "\xfc" * 250, "Jürgen " + "ü" * 123),
        ("", None),
    ],
)
def test_a_user_agent_can_do_no_harm(
    make_app: MakeApp, ada: str, sent: str, told: str | None
) -> None:
    app, sessions = app_with_views(make_app, SESSION_RECORD_CLIENT=True)
    client = app.test_client()
    for _ in range(2):  # the second time it is compared with what is stored
        client.get("/write", query_string={"_user_id": ada}, headers={"User-Agent": sent})
        [info] = sessions.list(ada)
        assert info.user_agent == told


@pytest.mark.group("memcached")
def test_memcached_says_that_it_cannot_list_and_who_can(make_app: MakeApp) -> None:
    from stand_ins import CasMemcacheClient

    app, sessions = app_with_views(
        make_app, SESSION_TYPE="memcached", SESSION_MEMCACHED=CasMemcacheClient()
    )
    client = signed_in(app, "ada")
    for act in (
        lambda: list(sessions.list("ada")),
        lambda: sessions.list(),
        lambda: sessions.count(),
        lambda: sessions.revoke_subject("ada"),
        lambda: sessions.revoke_all(),
    ):
        with pytest.raises(NotSupported, match=r"Memcached.* memory, redis, mongodb .*sqlalch"):
            act()
    info = sessions.get(handle_of(client))
    assert info is not None
    assert info.subject == "ada"
    assert sessions.revoke(info.handle)
    assert client.get("/read").json == {}


@pytest.mark.parametrize("damage", [put_another_type, lambda s, h: put_value(s, h, b"text")])
def test_damage_hides_no_other_session(
    make_app: MakeApp, indexed_backend: Running, ada: str, damage: Callable[[Any, str], None]
) -> None:
    app, sessions = app_with_views(make_app, indexed_backend)
    before, damaged, after = (signed_in(app, ada) for _ in range(3))
    damage(store_of(app), handle_of(damaged))
    healthy = {handle_of(before), handle_of(after)}
    for listed in (sessions.list(), sessions.list(ada)):
        assert healthy <= {info.handle for info in listed}
    assert sessions.revoke_subject(ada) >= 2
    assert (before.get("/read").json, after.get("/read").json) == ({}, {})
    sessions.revoke(handle_of(damaged))
    assert sessions.get(handle_of(damaged)) is None


def test_a_session_that_moves_all_the_time_is_ended(
    indexed_backend: Running, ada: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = indexed_backend.make_store()
    current = new_record(store, subject=ada)
    store.create(current)
    end_many, moves = store._end_many, [1, 2, 3, 4, 5]

    def moved_before(handles: list[str], subject: str | None) -> list[str]:
        nonlocal current
        if current.handle in handles and moves:
            moves.pop()
            old, current = current, new_record(store, subject=ada)
            store.create(current)
            assert store.replace(old.tombstone(store.now(), 30, current.handle))
        return list(end_many(handles, subject))

    monkeypatch.setattr(store, "_end_many", moved_before)
    list(store.end_all(ada))
    assert store.count(ada) == 0
    store.close()


@pytest.mark.parametrize("everybody", [False, True])
def test_nobody_outruns_a_revocation(
    make_app: MakeApp, indexed_backend: Running, ada: str, everybody: bool
) -> None:
    """Nothing is held up here: clients that change their ids as fast as they can."""
    app = make_app(indexed_backend)
    sessions = sessions_of(app)
    for _ in range(5):
        clients, done = [signed_in(app, ada) for _ in range(4)], threading.Event()

        def work(number: int, clients: Any = clients, done: Any = done) -> None:
            if number < 4:
                while not done.is_set():
                    clients[number].get("/regenerate")
                return
            try:
                with app.app_context():
                    sessions.revoke_all() if everybody else sessions.revoke_subject(ada)
            finally:
                done.set()

        at_once(5, work)
        assert [client.get("/read").json for client in clients] == [{}] * 4


def test_those_that_have_ended_are_told_of_though_others_could_not_be_reached(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    store: Any = store_of(app)
    monkeypatch.setattr(store, "BATCH", 2)
    for _ in range(6):
        signed_in(app, "ada")
    end_many, calls = store._end_many, []

    def fail_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise StoreUnavailable("no answer")
        return end_many(*arguments)

    monkeypatch.setattr(store, "_end_many", fail_once)

    def revoke() -> None:
        with app.app_context(), pytest.raises(StoreUnavailable):
            sessions_of(app).revoke_subject("ada")

    assert len(heard(session_revoked, revoke)) == 4
    assert store.count("ada") == 2


def test_who_takes_no_more_of_them_has_been_told_of_all_that_have_ended(
    make_app: MakeApp,
) -> None:
    app = make_app()
    for _ in range(20):
        signed_in(app, "ada")

    def begin_to_revoke() -> None:
        with app.app_context():
            steps: Any = sessions_of(app).revoking("ada")
            next(steps)
            steps.close()

    told = heard(session_revoked, begin_to_revoke)
    store: Any = store_of(app)
    assert len(told) == 20 - store.count("ada")


def test_the_current_session_is_looked_for_once_though_ids_lead_in_a_circle(
    make_app: MakeApp,
) -> None:
    app = make_app()
    store: Any = store_of(app)

    @app.get("/end-others")
    def end_others() -> str:
        assert session["_user_id"] == "ada"
        handle = session.stored_handle
        store._stored[handle] = store._stored[handle].tombstone(store.now(), 60, handle)
        return str(sessions_of(app).revoke_subject("ada", keep_current=True))

    assert signed_in(app, "ada").get("/end-others").text == "0"
