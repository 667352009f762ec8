"""Handles may be shortened, like git's names of commits."""

from __future__ import annotations

import re
from itertools import islice

import click

from ..stores import IndexedStore
from ..stores import Store
from ..web.identity import is_handle
from .exit_codes import Failure
from .exit_codes import NOT_DONE
from .exit_codes import WRONG_USAGE

#: Characters that are asked for.
_FEWEST = 4
#: Handles that are named when several begin alike.
_NAMED = 10


def whole(store: Store, text: str) -> str:
    """The one handle that begins so, among the sessions that are alive.

    :raises Failure: there is none, or there are several.
    """
    text = text.lower()
    if is_handle(text):
        return text
    if not re.fullmatch(rf"[0-9a-f]{{{_FEWEST},63}}", text):
        expected = f"expected {_FEWEST} to 64 hexadecimal digits."
        raise click.BadParameter(f"{text!r}: {expected}", param_hint="HANDLE")
    if not isinstance(store, IndexedStore):
        name = type(store).__name__
        raise Failure(f"{name} cannot list sessions. Give all 64 digits.", WRONG_USAGE)
    found = [entry.record.handle for entry in islice(store.entries(beginning=text), _NAMED + 1)]
    if not found:
        raise unknown(text)
    if len(found) > 1:
        names = (*sorted(found[:_NAMED]), *("and more" for _ in found[_NAMED:]))
        raise Failure(f"Several handles begin with {text}:", WRONG_USAGE, names)
    return found[0]


def unknown(handle: str) -> Failure:
    why = (
        "It has expired, or was revoked; it ended more than 30 s ago; or it never was."
        if is_handle(handle)
        else "One that has ended is found by its whole handle."
    )
    return Failure(f"There is no session {handle}. {why}", NOT_DONE)
