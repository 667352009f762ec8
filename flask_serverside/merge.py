"""Two requests have changed the same session: what is to be kept. Pure functions.

A three-way merge, one top-level key at a time: what one side has left as both loaded it is
taken from the other side. Only a key that both have changed is a matter of policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from enum import auto
from enum import Enum
from typing import Any
from typing import Final

from .errors import SessionConflict

#: The key under which Flask queues the messages of :func:`flask.flash`.
FLASHES = "_flashes"


#: Types whose values are the same if they are equal, which is quickly found out.
_PLAIN = {str, bytes, int, bool}


class _Missing(Enum):
    MISSING = auto()

    def __repr__(self) -> str:
        return "MISSING"


#: Stands for the value of a key that is not there.
MISSING: Final = _Missing.MISSING

#: Decides about one key that both sides have changed: (key, base, mine, theirs) -> value.
#: :data:`MISSING` stands for no value, on either side of the arrow.
Resolve = Callable[[str, Any, Any, Any], Any]

#: What two values have in common if, and only if, they are the same: in type and however deep.
Fingerprint = Callable[[Any], Hashable]


def mine_wins(key: str, base: Any, mine: Any, theirs: Any) -> Any:
    """The later save wins, for this key alone."""
    return mine


def refuse(key: str, base: Any, mine: Any, theirs: Any) -> Any:
    """:raises SessionConflict: always."""
    raise SessionConflict(
        f"session[{key!r}] was changed by another request while this one was changing it, too. "
        "What this request changed is not stored. To have the later save win for such a key, "
        'set SESSION_ON_CONFLICT to "merge", or to a function that decides.'
    )


def merge(
    base: Mapping[str, Any],
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    fingerprint: Fingerprint,
    resolve: Resolve = mine_wins,
) -> dict[str, Any]:
    """What becomes of ``theirs`` when the changes from ``base`` to ``mine`` are applied.

    :param base: what both sides loaded.
    :param mine: what is to be saved. Where ``theirs`` has the same value, the result holds
        the object that is in ``mine``, since a view may have hold of it; but for messages.
    :param theirs: what was saved in between.
    :param resolve: called for each key that both have changed, and not alike.
    """

    def same(a: Any, b: Any) -> bool:
        if a is b or a is MISSING or b is MISSING:
            return a is b
        if type(a) is type(b) and type(a) in _PLAIN:
            return bool(a == b)
        return fingerprint(a) == fingerprint(b)

    merged = {}
    for key in dict.fromkeys([*theirs, *mine]):
        b, m, t = (side.get(key, MISSING) for side in (base, mine, theirs))
        if same(m, b):
            value = m if same(m, t) else t
        elif same(t, b):
            value = m
        elif key == FLASHES and _are_queues(b, m, t):
            b, m, t = ([] if value is MISSING else value for value in (b, m, t))
            value = _merge_queues(b, m, t, fingerprint) or MISSING
        elif same(m, t):
            value = m
        else:
            value = resolve(key, b, m, t)
        if value is not MISSING:
            merged[key] = value
    return merged


def _are_queues(*values: Any) -> bool:
    return all(value is MISSING or isinstance(value, list) for value in values)


def _merge_queues(
    base: list[Any], mine: list[Any], theirs: list[Any], fingerprint: Fingerprint
) -> list[Any]:
    """Their queue without what I have taken from the one we both loaded, and with what I
    have added at its end.
    """
    loaded = Counter(map(fingerprint, base))
    taken = loaded - Counter(map(fingerprint, mine))
    return [*_without(taken, theirs, fingerprint), *_without(loaded, mine, fingerprint)]


def _without(
    counts: Counter[Hashable], values: Iterable[Any], fingerprint: Fingerprint
) -> list[Any]:
    """The values that are left when each is left out as often as it is counted."""
    left, rest = Counter(counts), []
    for value in values:
        mark = fingerprint(value)
        if left[mark] > 0:
            left[mark] -= 1
        else:
            rest.append(value)
    return rest
