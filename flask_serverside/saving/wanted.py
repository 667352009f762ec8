"""What a request asks for, frozen once for each try to store it."""

from __future__ import annotations

from typing import NamedTuple
from typing import Protocol

from ..config import Settings
from .state import current
from .state import Held
from .state import Moving
from .state import Snapshot
from .state import State
from .state import stored


class Asked(Protocol):
    """What can be asked of a draft as well, without encoding it."""

    @property
    def lifetime(self) -> int | None: ...

    @property
    def proved(self) -> int | None: ...

    @property
    def subject(self) -> str | None: ...

    @property
    def begun_anew(self) -> bool: ...


class Wanted(NamedTuple):
    """The draft, as it was at one moment. Times in milliseconds."""

    #: The data; empty: nothing is to be kept.
    encoded: bytes
    #: Whose session it is to be.
    subject: str | None
    permanent: bool
    #: If it was set.
    lifetime: int | None = None
    #: When somebody has proved who they are, if they have.
    proved: int | None = None
    #: What is to be kept of what was there before and of what others add, by its keys;
    #: ``None``: all of it.
    kept: frozenset[str] | None = None
    #: Whether the subject's key is among what is kept.
    subject_kept: bool = True
    #: Whether the view has emptied it, which is to sign out, whatever it has written since.
    cleared: bool = False
    #: Whether the view has taken the subject away, or has written that there is none.
    disowned: bool = False

    @property
    def emptied(self) -> bool:
        """Whether nothing is to be left of it."""
        return not self.encoded and (self.cleared or self.kept == frozenset())

    @property
    def signed_out(self) -> bool:
        """Whether the view has emptied it, and nobody has signed in since."""
        return self.cleared and self.subject is None

    @property
    def gives_up(self) -> bool:
        """Whether the view wants the session that the client has the id of to end, or to belong
        to nobody, also where it has seen nothing of it.
        """
        return self.cleared or self.kept is not None or (self.disowned and self.subject is None)

    @property
    def begun_anew(self) -> bool:
        """Whether whoever is signed in has signed in after it was emptied."""
        return not self.subject_kept and self.subject is not None


def is_another(wanted: Asked, snapshot: Snapshot) -> bool:
    """Whether somebody has signed in or out since it was stored."""
    return wanted.subject != snapshot.subject or wanted.begun_anew


def asks_for_nothing(state: State, wanted: Wanted, snapshot: Snapshot) -> bool:
    """Whether all that is asked for is what stands there already."""
    # That time has passed is not asked for by anybody.
    unmoved = not isinstance(state, Moving) or state.move.rotation != b""
    return (
        unmoved
        and wanted.kept is None
        and wanted.proved is None
        and wanted.lifetime in (None, snapshot.record.lifetime)
        and wanted.encoded == snapshot.contents.data
    )


def is_as_stored(state: Held, wanted: Wanted) -> bool:
    """Whether this request has changed nothing, nor is anything to be stored anew."""
    return not state.snapshot.contents.outdated and asks_for_nothing(
        state, wanted, state.snapshot
    )


def is_changed(state: State, wanted: Wanted, settings: Settings) -> bool:
    """Whether the session differs from what stands there under its id."""
    snapshot = current(state)
    if snapshot is None:
        return bool(wanted.encoded)
    return (
        wanted.encoded != snapshot.contents.data
        or lifetime_of(state, wanted, settings) != snapshot.record.lifetime
        or snapshot.contents.outdated
        or wanted.kept is not None  # somebody may have added what is to be taken, too
    )


def lifetime_of(state: State, wanted: Asked, settings: Settings) -> int:
    """How long the session lives without being used. In milliseconds."""
    if wanted.lifetime is not None:
        return wanted.lifetime
    snapshot = stored(state)
    if snapshot is None or is_another(wanted, snapshot):
        return default_lifetime(settings)
    return snapshot.record.lifetime


def default_lifetime(settings: Settings) -> int:
    """That of a new session. In milliseconds."""
    return int(settings.lifetime * 1000)


def authenticated_at(state: State, wanted: Asked, now: int, settings: Settings) -> int:
    """When somebody last proved who they are, in milliseconds since the epoch; 0: never."""
    anybody = settings.subject_key is None
    if wanted.proved is not None and (anybody or wanted.subject is not None):
        return wanted.proved
    snapshot = stored(state)
    if snapshot is not None and not is_another(wanted, snapshot):
        return snapshot.contents.authenticated
    return now if wanted.subject is not None else 0
