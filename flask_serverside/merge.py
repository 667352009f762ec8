"""Two requests have changed the same session: what is to be kept. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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
    merged = {key: value for key, value in theirs.items() if key in mine or key not in base}
    for key, value in mine.items():
        if key not in base or not same(base[key], value):
            merged[key] = value
    return merged
