"""``flask session``: what an operator asks of the sessions, and does to them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from itertools import islice
from typing import Any
from typing import TYPE_CHECKING

import click
from flask import current_app

from ..errors import SerializationError
from ..interface import NAME
from ..saving.subject import subject_of
from ..saving.times import date_of
from ..stores import indexed
from . import report
from .check import check
from .exit_codes import Failure
from .exit_codes import NO_STORE
from .exit_codes import NOT_DONE
from .exit_codes import Sessions
from .exit_codes import WRONG_USAGE
from .handles import unknown
from .handles import whole
from .show import described
from .stats import census
from .terminal import counted
from .terminal import say
from .terminal import watched

if TYPE_CHECKING:
    from ..extension import Session


@click.group("session", cls=Sessions)
def sessions() -> None:
    """Look at the sessions of this application, and end them.

    A HANDLE names a session. It stands in the log, and is of no use as a cookie. Its first
    characters are enough, four at least, if no other session's handle begins so.
    """


def _subject(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        if value is not None and subject_of({"": value}, "") is None:
            raise click.BadParameter("it is empty, and nobody's.")
    except SerializationError as error:
        raise click.BadParameter("expected 1 to 255 printable characters.") from error
    return value


_json = click.option("--json", "as_json", is_flag=True, help="For programs; times in UTC.")
_of = click.option("--subject", metavar="S", callback=_subject, help="Those of this user.")


@sessions.command("list")
@_of
@click.option(
    "--limit",
    type=click.IntRange(0),
    help="At most so many; 0: all. Default: 100; JSON: 0.",
)
@_json
def list_(subject: str | None, limit: int | None, as_json: bool) -> None:
    """The sessions that are alive.

    With --json one object a line, as they are found.
    """
    session = _session()
    found = session.list(subject)
    if as_json:
        say(_json_of(report.row(info)) for info in islice(found, limit or None))
    else:
        say(report.table(found, limit, date_of(session.store.now())))


@sessions.command()
@click.argument("handle")
@_json
def show(handle: str, as_json: bool) -> None:
    """All that is known of one session, and never what is in it.

    Also whether it has ended or was given a new id, as long as that is remembered; then give
    the whole HANDLE.
    """
    store = _session().store
    handle = whole(store, handle)
    record = store.find(handle)
    if record is None:
        raise unknown(handle)
    told = described(record, store.now())
    say([_json_of(told)] if as_json else report.facts(told, date_of(store.now())))


@sessions.command()
@click.argument("handles", nargs=-1, metavar="[HANDLE]...")
@_of
@click.option("--all", "everybody", is_flag=True, help="All sessions that there are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json
def revoke(
    handles: tuple[str, ...], subject: str | None, everybody: bool, yes: bool, as_json: bool
) -> None:
    """End sessions: those named, those of one user, or all. They are dead at once.

    Asks before it ends more than one. With --json one object a line.
    """
    if bool(handles) + (subject is not None) + everybody != 1:
        raise click.UsageError("Give handles, or --subject, or --all.")
    session = _session()
    named = list(dict.fromkeys(whole(session.store, handle) for handle in handles))
    number = len(named) if named else _number(session, subject)
    if number > 1 and not yes:
        click.confirm(f"End {counted(number)}?", abort=True, err=True)
    ended: Iterable[tuple[str, bool]]
    if named:
        ended = ((handle, session.revoke(handle)) for handle in named)
    else:
        ended = ((handle, True) for handle in session.revoking(subject))
    done, missing = 0, []
    for handle, was in watched(ended, "Revoking", number, hidden=as_json):
        done += was
        if as_json:
            say([_json_of({"handle": handle, "revoked": was})])
        if not was:
            missing.append(handle)
    if subject is not None and not done:
        raise Failure(f"There is no session of {subject}.", NOT_DONE)
    if not as_json:
        say([f"{counted(done)} ended."])
    for handle in missing:
        unknown(handle).show()
    if missing:
        sys.exit(NOT_DONE)


@sessions.command()
@_json
def purge(as_json: bool) -> None:
    """Remove expired sessions where the server does not: from a SQL database."""
    removed = _session().purge()
    say(
        [_json_of({"removed": removed})]
        if as_json
        else [f"{counted(removed, 'expired session')} removed."]
    )


@sessions.command()
@_json
def stats(as_json: bool) -> None:
    """How many sessions there are, of whom, how large and how old. Reads all of them."""
    store = indexed(_session().store)
    now = store.now()
    told = census(watched(store.entries(), "Counting", hidden=as_json), now)
    say([_json_of(told)] if as_json else report.statistics(told, date_of(now)))


@sessions.command("check")
@_json
def check_(as_json: bool) -> None:
    """Whether sessions work here: the configuration as it was understood, the server, a record
    that is stored, read, changed and removed again, and what is to be changed.
    """
    store = _session().store
    found = check(current_app._get_current_object(), store)  # type: ignore[attr-defined]
    say([_json_of(found.as_dict())] if as_json else report.checkup(found))
    if found.error is not None:
        raise Failure(found.error, NO_STORE)
    if found.warnings:
        sys.exit(NOT_DONE)


def _session() -> Session:
    session: Session | None = current_app.extensions.get(NAME)
    if session is None:
        name = current_app.import_name
        raise Failure(f"The application {name} does not call Session(app).", WRONG_USAGE)
    if session.store.one_process and not current_app.testing:
        click.echo("In memory, each process has its own sessions. This one is new.", err=True)
    return session


def _number(session: Session, subject: str | None) -> int:
    """How many sessions are to be ended."""
    alive = session.count(subject)
    if alive > 1:
        return alive
    # The clock of this machine may be ahead of those that use the sessions.
    return sum(1 for _ in indexed(session.store).entries(subject, expired=True))


def _json_of(told: Any) -> str:
    return json.dumps(told, default=report.plain)
