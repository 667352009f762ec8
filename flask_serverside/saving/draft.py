"""What a request has made of its session, as long as it is not stored."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextlib import contextmanager
from contextlib import nullcontext
from typing import Any

from ..config import Settings
from ..merge import merge
from ..merge import mine_wins
from ..sealing.codec import Codec
from .subject import subject_of
from .wanted import Wanted

#: The key under which Flask keeps ``session.permanent``. Alone it makes no session.
PERMANENT = "_permanent"


def permanent_in(data: Mapping[str, Any], settings: Settings) -> bool:
    """Whether the cookie of a session with this data outlives the browser."""
    return bool(data.get(PERMANENT, settings.permanent))


Doing = AbstractContextManager[Callable[[], None]]

_NOTHING: Doing = nullcontext(lambda: None)


class Draft:
    """The data as the request sees it, and what else it has asked for."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self.reset()

    def reset(self) -> None:
        """Be empty, with nothing asked for."""
        self.data: dict[str, Any] = {}
        #: In milliseconds, if it was set.
        self.lifetime: int | None = None
        self.is_stored()

    def is_stored(self) -> None:
        """Nothing is asked for any more that others' changes would have to give way to."""
        #: When somebody has proved who they are, in milliseconds, if they have.
        self.proved: int | None = None
        #: What is to be kept of what was there before and of what others add, by its keys;
        #: ``None``: all of it.
        self.kept: frozenset[str] | None = None
        #: Whether the view has emptied it, which is to sign out, whatever it has written since.
        self.cleared = False
        #: Whether the view has taken the subject away, also if there was none.
        self.disowned = False

    def frozen(self) -> Wanted:
        """What is asked for at this moment."""
        key = self._settings.subject_key
        return Wanted(
            self.encoded(),
            self.subject,
            self.permanent,
            self.lifetime,
            self.proved,
            self.kept,
            self.kept is None or key in self.kept,
            self.cleared,
            self.disowned or key in self.data,
        )

    @property
    def permanent(self) -> bool:
        return permanent_in(self.data, self._settings)

    @property
    def subject(self) -> str | None:
        return subject_of(self.data, self._settings.subject_key)

    @property
    def begun_anew(self) -> bool:
        """Whether whoever is signed in has signed in after it was emptied."""
        emptied = self.kept is not None and self._settings.subject_key not in self.kept
        return emptied and self.subject is not None

    def be(self, encoded: bytes) -> None:
        """Be what is stored so."""
        self.data = self._codec.decode(encoded)

    def encoded(self) -> bytes:
        """The data as bytes; none at all if there is nothing to be kept."""
        if not self.data or (len(self.data) == 1 and PERMANENT in self.data):
            return b""
        return self._codec.encode(self.data)

    def keep(self, keys: Iterable[str]) -> None:
        """Drop all but these, also of what others are adding meanwhile."""
        self.kept = frozenset(keys)
        for key in self.data.keys() - self.kept:
            del self.data[key]

    def pop(self, key: str, *default: Any) -> Any:
        self.disowned = self.disowned or key == self._settings.subject_key
        return self.data.pop(key, *default)

    def clear(self) -> None:
        self.keep(())
        self.cleared = True

    def doing(self, change: Callable[[], object] | None) -> Doing:
        """Do a change, and undo it if what follows fails. Gives what undoes it."""
        return _NOTHING if change is None else self._doing(change)

    @contextmanager
    def _doing(self, change: Callable[[], object]) -> Iterator[Callable[[], None]]:
        data, lifetime = self.data, self.lifetime
        given_up = self.kept, self.cleared, self.disowned
        before = self._codec.encode(data)

        def undo() -> None:
            if self.data is data:  # not if others' changes were merged, or it has ended
                self.data = self._as_before(before)
                self.kept, self.cleared, self.disowned = given_up
                self.lifetime = lifetime

        try:
            change()
            yield undo
        except BaseException:
            undo()
            raise

    def _as_before(self, encoded: bytes) -> dict[str, Any]:
        """The data as it was, with the very objects that have not changed since: a view may
        have hold of them.
        """
        before = self._codec.decode(encoded)
        return merge(self.data, self.data, before, self._codec.fingerprint)

    def apply_to(self, theirs: dict[str, Any], base: bytes, in_part: bool) -> bool:
        """Be what somebody else has stored, with my changes.

        :param base: what I have changed, encoded.
        :param in_part: never overwrite all of theirs, even if that is what is configured.
        :returns: whether theirs is kept where I have changed nothing.
        :raises SessionConflict: ``SESSION_ON_CONFLICT`` says so.
        """
        before = self._codec.decode(base)
        resolve, key = self._settings.resolve, self._settings.subject_key
        # Nobody's data goes to who has signed in meanwhile, nor is a sign-out undone.
        somebody_else = key is not None and before.get(key) != theirs.get(key)
        if resolve is None and (in_part or somebody_else or self.encoded() == base):
            resolve = mine_wins
        if resolve is None or self.kept == frozenset():
            return False
        before, theirs = self._of_what_is_kept(before), self._of_what_is_kept(theirs)
        self.data = merge(before, self.data, theirs, self._codec.fingerprint, resolve)
        return True

    def forget_others(self, base: bytes) -> None:
        """Be only what I have set myself."""
        before = self._of_what_is_kept(self._codec.decode(base))
        self.data = merge(before, self.data, {}, self._codec.fingerprint)

    def _of_what_is_kept(self, data: dict[str, Any]) -> dict[str, Any]:
        if self.kept is None:
            return data
        return {key: value for key, value in data.items() if key in self.kept}
