"""Two requests have changed the same session: what is to be kept. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MISSING = object()


def merge(
    base: dict[str, Any],
    mine: dict[str, Any],
    theirs: dict[str, Any],
    same: Callable[[Any, Any], bool],
) -> dict[str, Any]:
    """What ``theirs`` becomes with the top-level keys that differ between ``base`` and
    ``mine`` set, or deleted, as they are in ``mine``.

    :param base: what both sides loaded.
    :param same: whether two values are the same, in type too and however deep.
    """
    merged = dict(theirs)
    for key in base.keys() | mine.keys():
        before, after = base.get(key, _MISSING), mine.get(key, _MISSING)
        if after is _MISSING:
            merged.pop(key, None)
        elif before is _MISSING or not same(before, after):
            merged[key] = after
    return merged
