"""An id is exchanged with time; the old one leads to the new one for a short while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from backends import Running
from flask import Flask
from flask.testing import FlaskClient
from test_life_of_a_request import handle_in
from test_life_of_a_request import is_alive
from test_life_of_a_request import store_of
from test_session import cookie_of
from test_session import in_a_view

from flask_serverside import ConfigurationError
from flask_serverside import current_session as session
from flask_serverside import Session
from flask_serverside import session_regenerated
from flask_serverside import session_rejected
from flask_serverside import session_reused
from flask_serverside import session_revoked
from flask_serverside import StoreUnavailable
from flask_serverside.testing import Clock
from flask_serverside.web.identity import handle_of
from flask_serverside.web.identity import successor_of

MakeApp = Callable[..., Flask]

INTERVAL, GRACE = 100, 10


@pytest.fixture
def clock() -> Clock:
    return Clock()


def rotating(
    make_app: MakeApp, clock: Clock, running: Running | None = None, **config: Any
) -> Flask:
    app = make_app(
        running,
        SESSION_ROTATION_INTERVAL=INTERVAL,
        SESSION_ROTATION_GRACE=GRACE,
        **config,
    )
    store_of(app).clock = clock
    return app


def copy_of(client: FlaskClient) -> FlaskClient:
    """Another browser with the same cookie, or the same one with an older cookie."""
    copy = client.application.test_client()
    copy.set_cookie("session", cookie_of(client))
    return copy


def client_of(app: Flask, path: str = "/write?a=1") -> FlaskClient:
    client = app.test_client()
    client.get(path)
    return client


def heard(signal: Any, act: Callable[[], Any]) -> list[dict[str, Any]]:
    sent = []

    def hear(sender: Flask, **what: Any) -> None:
        sent.append(what)

    with signal.connected_to(hear):
        act()
    return sent


def test_an_id_is_exchanged_at_the_interval_and_not_before(
    make_app: MakeApp, real_backend: Running, clock: Clock
) -> None:
    app = rotating(make_app, clock, real_backend)
    client = client_of(app)
    first = cookie_of(client)
    clock.advance(INTERVAL - 0.001)
    client.get("/read")
    assert cookie_of(client) == first
    clock.advance(0.001)
    sent = heard(session_regenerated, lambda: client.get("/read"))
    second = cookie_of(client)
    assert second != first
    assert sent == [
        {
            "handle": handle_in(second),
            "subject": None,
            "former": handle_in(first),
            "reason": "rotation",
        }
    ]
    assert client.get("/read").json == {"a": "1"}
    assert cookie_of(client) == second
    clock.advance(INTERVAL)
    client.get("/write?b=2")
    assert cookie_of(client) != second
    assert client.get("/read").json == {"a": "1", "b": "2"}


def test_the_old_id_leads_to_the_same_new_one_within_the_grace(
    make_app: MakeApp, real_backend: Running, clock: Clock
) -> None:
    app = rotating(make_app, clock, real_backend)
    client = client_of(app)
    late, later = copy_of(client), copy_of(client)
    clock.advance(INTERVAL)
    client.get("/read")
    assert late.get("/write?b=2").status_code == 200
    assert cookie_of(late) == cookie_of(client)
    clock.advance(GRACE - 0.001)
    assert later.get("/read").json == {"a": "1", "b": "2"}
    assert cookie_of(later) == cookie_of(client)
    assert client.get("/read").json == {"a": "1", "b": "2"}


def test_all_requests_at_once_get_the_same_new_id(
    make_app: MakeApp, real_backend: Running, clock: Clock
) -> None:
    app = rotating(make_app, clock, real_backend)
    client = client_of(app)
    for turn in range(10):
        clock.advance(INTERVAL)
        old = cookie_of(client)
        clients = [copy_of(client) for _ in range(6)]
        start = threading.Barrier(len(clients))

        def request(
            number: int, clients: Any = clients, start: Any = start, turn: Any = turn
        ) -> None:
            start.wait()
            clients[number].get(f"/write?t{turn}n{number}=1")

        threads = [threading.Thread(target=request, args=(n,)) for n in range(len(clients))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cookies = {cookie_of(one) for one in clients}
        assert len(cookies) == 1
        assert cookies != {old}
        client = clients[0]
    data = client.get("/read").json
    assert data == {"a": "1"} | {f"t{t}n{n}": "1" for t in range(10) for n in range(6)}


def test_what_was_begun_before_is_saved_under_the_new_id(
    make_app: MakeApp, real_backend: Running, clock: Clock
) -> None:
    app = rotating(make_app, clock, real_backend)
    client = client_of(app)
    other = copy_of(client)

    def view() -> None:
        session["mine"] = 1
        clock.advance(INTERVAL)
        other.get("/write?theirs=1")
        clock.advance(GRACE + 1)  # it had the session in time, whenever it ends
        session.atomic(lambda session: session.update(atomic=1))

    in_a_view(app, client, view)
    assert cookie_of(client) == cookie_of(other)
    assert client.get("/read").json == {"a": "1", "mine": 1, "theirs": "1", "atomic": 1}


def test_a_request_that_waits_longer_than_the_grace_before_it_looks_is_in_time(
    make_app: MakeApp, clock: Clock
) -> None:
    app = rotating(make_app, clock)
    client = client_of(app)
    other = copy_of(client)

    def view() -> Any:
        clock.advance(INTERVAL)
        other.get("/read")
        clock.advance(GRACE)
        return session.get("a")

    assert in_a_view(app, client, view) == "1"
    assert cookie_of(client) == cookie_of(other)


@pytest.mark.parametrize("revoke", [True, False])
def test_after_the_grace_use_of_the_old_id_is_refused_and_told(
    make_app: MakeApp, real_backend: Running, clock: Clock, revoke: bool
) -> None:
    app = rotating(make_app, clock, real_backend, SESSION_REVOKE_ON_REUSE=revoke)
    client = client_of(app, "/write?a=1&_user_id=ada")
    thief = copy_of(client)
    old = handle_in(cookie_of(client))
    clock.advance(INTERVAL)
    client.get("/read")
    clock.advance(GRACE)
    told: list[Any] = []
    answers: list[Any] = []

    def steal() -> None:
        told.extend(heard(session_revoked, lambda: answers.append(thief.get("/read"))))

    reused = heard(session_reused, steal)
    assert answers[0].json == {}
    assert "Set-Cookie" not in answers[0].headers
    assert reused == [{"handle": old, "subject": "ada"}]
    if revoke:
        assert told == [{"handle": old, "subject": "ada", "reason": "reused"}]
        assert client.get("/read").json == {}
        assert heard(session_reused, lambda: thief.get("/read")) == []
    else:
        assert told == []
        assert client.get("/read").json == {"a": "1", "_user_id": "ada"}
        assert len(heard(session_reused, lambda: thief.get("/read"))) == 1


def test_the_whole_chain_ends_when_any_id_of_it_is_reused(
    make_app: MakeApp, real_backend: Running, clock: Clock
) -> None:
    app = rotating(make_app, clock, real_backend)
    client = client_of(app)
    thief = copy_of(client)
    for _ in range(5):
        clock.advance(INTERVAL)
        client.get("/write?b=1")
    handle = handle_in(cookie_of(client))
    assert is_alive(app, handle)
    clock.advance(GRACE)
    thief.get("/read")
    assert not is_alive(app, handle)
    assert client.get("/read").json == {}
    client.get("/write?new=1")  # who was thrown out may begin again at once
    assert client.get("/read").json == {"new": "1"}


def test_an_old_id_has_no_power_over_who_has_signed_in_since(
    make_app: MakeApp, clock: Clock
) -> None:
    app = rotating(make_app, clock)
    client = client_of(app)
    thief = copy_of(client)
    clock.advance(INTERVAL)
    client.get("/read")
    client.get("/write?_user_id=ada")
    clock.advance(GRACE)
    thief.get("/read")
    assert client.get("/read").json == {"a": "1", "_user_id": "ada"}


def test_reuse_is_noticed_as_long_as_the_old_id_would_have_lived(
    make_app: MakeApp, real_backend: Running, clock: Clock
) -> None:
    app = rotating(make_app, clock, real_backend, PERMANENT_SESSION_LIFETIME=1000)
    client = client_of(app)
    thief = copy_of(client)
    clock.advance(INTERVAL)
    client.get("/read")
    clock.advance(1000 - INTERVAL - 0.001)
    assert len(heard(session_reused, lambda: thief.get("/read"))) == 1
    thief = copy_of(client := client_of(app))
    clock.advance(INTERVAL)
    client.get("/read")
    clock.advance(1000 - INTERVAL)
    assert heard(session_reused, lambda: thief.get("/read")) == []


def test_neither_id_stands_in_the_store_nor_can_be_told_from_it(
    make_app: MakeApp, clock: Clock
) -> None:
    app = rotating(make_app, clock)
    client = client_of(app)
    first = cookie_of(client)
    clock.advance(INTERVAL)
    client.get("/read")
    tombstone = store_of(app).load(handle_in(first))
    assert tombstone is not None
    assert tombstone.successor == handle_in(cookie_of(client))
    everything = b"".join(
        record.pack() + record.handle.encode()
        for record in store_of(app)._stored.values()  # type: ignore[attr-defined]
    )
    for cookie in (first, cookie_of(client)):
        assert cookie.partition(".")[0].encode() not in everything
    # What stands there is not the whole of what the new id is made of.
    assert tombstone.rotation is not None
    for guess in ("", tombstone.handle, "A" * 43):
        assert handle_of(successor_of(guess, tombstone.rotation)) != tombstone.successor
    sid = first.partition(".")[0]
    assert handle_of(successor_of(sid, tombstone.rotation)) == tombstone.successor


def test_rotation_extends_no_deadline(make_app: MakeApp, clock: Clock) -> None:
    app = rotating(make_app, clock, SESSION_ABSOLUTE_LIFETIME=250)
    client = client_of(app)
    for _ in range(2):
        clock.advance(INTERVAL)
        answer = client.get("/read")
        assert answer.json == {"a": "1"}
    assert "Max-Age=50;" in answer.headers["Set-Cookie"]
    client.get("/write?b=1")
    clock.advance(49.999)
    assert client.get("/read").json == {"a": "1", "b": "1"}
    clock.advance(0.001)
    assert client.get("/read").json == {}


def test_a_session_that_is_not_looked_at_is_not_given_a_new_id(
    make_app: MakeApp, clock: Clock
) -> None:
    app = rotating(make_app, clock)
    client = client_of(app)
    clock.advance(INTERVAL)
    assert "Set-Cookie" not in client.get("/untouched").headers


@pytest.mark.parametrize("path", ["/destroy", "/clear", "/write?_user_id=ada", "/regenerate"])
def test_whatever_else_ends_the_old_id_does_so_without_grace(
    make_app: MakeApp, real_backend: Running, clock: Clock, path: str
) -> None:
    app = rotating(make_app, clock, real_backend)
    client = client_of(app)
    late = copy_of(client)
    clock.advance(INTERVAL)
    client.get(path)
    answer = late.get("/read")
    assert answer.json == {}
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/destroy", "/clear"])
def test_who_signs_out_with_the_old_id_is_signed_out(
    make_app: MakeApp, real_backend: Running, clock: Clock, path: str
) -> None:
    app = rotating(make_app, clock, real_backend)
    client = client_of(app, "/write?_user_id=ada")
    late = copy_of(client)
    clock.advance(INTERVAL)
    client.get("/read")
    late.get(path)
    assert late.get_cookie("session") is None
    assert client.get("/read").json == {}


def test_revoking_an_old_handle_ends_the_session(make_app: MakeApp, clock: Clock) -> None:
    app = rotating(make_app, clock)
    client = client_of(app)
    old = handle_in(cookie_of(client))
    for _ in range(3):
        clock.advance(INTERVAL)
        client.get("/read")
    extension: Session = app.extensions["flask_serverside"]
    with app.app_context():
        assert extension.revoke(old)
        assert not extension.revoke(handle_in(cookie_of(client)))
    assert client.get("/read").json == {}


def test_a_new_id_that_could_not_be_put_in_place_leaves_the_old_one_valid(
    make_app: MakeApp, real_backend: Running, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = rotating(make_app, clock, real_backend)
    client = client_of(app)
    old = cookie_of(client)
    clock.advance(INTERVAL)

    def down(record: Any) -> Any:
        raise StoreUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(store_of(app), "replace", down)
        answer = client.get("/read")
    assert answer.status_code == 503
    assert "Set-Cookie" not in answer.headers
    assert cookie_of(client) == old
    assert client.get("/read").json == {"a": "1"}
    assert cookie_of(client) != old


def test_an_old_id_of_a_session_that_is_gone_is_refused_without_reuse(
    make_app: MakeApp, clock: Clock
) -> None:
    app = rotating(make_app, clock)
    client = client_of(app)
    late = copy_of(client)
    clock.advance(INTERVAL)
    client.get("/read")
    store_of(app).delete(handle_in(cookie_of(client)))
    sent = heard(session_rejected, lambda: late.get("/write?b=1"))
    assert [what["reason"] for what in sent] == ["ended"]
    assert late.get("/read").json == {}


def test_an_interval_within_the_grace_is_refused(make_app: MakeApp) -> None:
    with pytest.raises(ConfigurationError, match=r"SESSION_ROTATION_INTERVAL = 10: .*10 s"):
        make_app(SESSION_ROTATION_INTERVAL=10)
    with pytest.raises(ConfigurationError, match=r"SESSION_ROTATION_GRACE"):
        make_app(SESSION_ROTATION_GRACE=-1)


@pytest.mark.parametrize("length", [16, 48])
def test_ids_keep_the_configured_length_and_lead_on(
    make_app: MakeApp, clock: Clock, length: int
) -> None:
    app = rotating(make_app, clock, SESSION_ID_LENGTH=length)
    client = client_of(app)
    late, size = copy_of(client), len(cookie_of(client))
    clock.advance(INTERVAL)
    client.get("/read")
    assert len(cookie_of(client)) == size
    assert late.get("/read").json == {"a": "1"}
    assert cookie_of(late) == cookie_of(client)


@pytest.mark.parametrize("path", ["/read", "/write-after-another"])
def test_a_cookie_that_is_sent_late_lives_no_longer_than_its_session(
    make_app: MakeApp, clock: Clock, path: str
) -> None:
    app = rotating(make_app, clock, PERMANENT_SESSION_LIFETIME=1000)

    @app.get("/write-after-another")
    def write_after_another() -> str:
        session["b"] = 1
        client.get("/read")
        clock.advance(GRACE / 2)
        return ""

    client = client_of(app)
    late = copy_of(client)
    clock.advance(INTERVAL)
    if path == "/read":
        client.get("/read")
        clock.advance(GRACE / 2)
    assert "Max-Age=995;" in late.get(path).headers["Set-Cookie"]
    assert cookie_of(late) == cookie_of(client)
    if path != "/read":
        assert client.get("/read").json == {"a": "1", "b": 1}


def test_a_new_id_that_was_asked_for_is_given_though_others_have_rotated_the_old_one(
    make_app: MakeApp, clock: Clock
) -> None:
    app = rotating(make_app, clock)
    client = client_of(app)
    other = copy_of(client)

    def view() -> None:
        session["b"] = 1
        other.get("/read")
        session.regenerate()

    clock.advance(INTERVAL)
    in_a_view(app, client, view)
    assert client.get("/read").json == {"a": "1", "b": 1}
    assert cookie_of(client) != cookie_of(other)
    assert other.get("/read").json == {}


def test_each_signal_is_sent_by_the_application(make_app: MakeApp, clock: Clock) -> None:
    app = rotating(make_app, clock)
    client = client_of(app)
    late = copy_of(client)
    clock.advance(INTERVAL)
    client.get("/read")
    clock.advance(GRACE)
    senders: list[object] = []

    def hear(sender: object, **what: Any) -> None:
        senders.append(sender)

    with session_reused.connected_to(hear), session_revoked.connected_to(hear):
        late.get("/read")
    with session_rejected.connected_to(hear):
        client.get("/read")
    assert senders == [app, app, app]
