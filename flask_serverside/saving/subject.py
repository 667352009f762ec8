"""Whose session it is: what stands under ``SESSION_SUBJECT_KEY``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from ..errors import SerializationError

_LONGEST = 255


def subject_of(data: Mapping[str, Any], key: str | None) -> str | None:
    """The subject as a string; ``None``: nobody has signed in, or no key says who.

    :raises SerializationError: the value under the key is none that could be looked up.
    """
    value = None if key is None else data.get(key)
    if value is None or value == "":
        return None
    if type(value) is str and len(value) <= _LONGEST and value.isprintable():
        return value  # as most are
    huge = isinstance(value, int) and value.bit_length() > _LONGEST * 4
    subject = "" if huge else str(value)
    if (
        not isinstance(value, str | int | UUID)
        or isinstance(value, bool)
        or not 0 < len(subject) <= _LONGEST
        or not subject.isprintable()
    ):
        raise SerializationError(
            f"session[{key!r}] says whose session it is: expected a string of 1 to 255 "
            "printable characters, an int or a UUID. Set SESSION_SUBJECT_KEY to None if "
            "it is something else. The stored session is unchanged."
        )
    return subject
