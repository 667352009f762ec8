"""What an application may listen to: blinker signals, sent by the application.

Each is sent with ``handle`` and ``subject``, some with a ``reason``, after the store has
confirmed what it tells, and is logged. The id is in none of them.
"""

from __future__ import annotations

import logging
from typing import Any

from blinker import NamedSignal
from blinker import Namespace

log = logging.getLogger("flask_serverside")

_signals = Namespace()

#: A session was stored for the first time.
session_created = _signals.signal("session-created")

#: What has changed in a session was stored.
session_saved = _signals.signal("session-saved")

#: A session was given a new id. ``handle`` is the new one, ``former`` the old one. What has
#: changed is stored along with it, and :data:`session_saved` is not sent as well. The
#: ``reason``:
#:
#: - ``"asked"``: :meth:`~flask_serverside.ServerSideSession.regenerate` was called;
#: - ``"subject"``: somebody has signed in or out;
#: - ``"rotation"``: ``SESSION_ROTATION_INTERVAL`` has passed.
session_regenerated = _signals.signal("session-regenerated")

#: A session was ended by a request that had it: destroyed, or emptied.
session_destroyed = _signals.signal("session-destroyed")

#: A session was ended from elsewhere. The ``reason``:
#:
#: - ``"asked"``: :meth:`~flask_serverside.Session.revoke` was called;
#: - ``"reused"``: an id of it was used that had been exchanged before;
#: - ``"overflow"``: its user has more than ``SESSION_MAX_PER_SUBJECT``.
session_revoked = _signals.signal("session-revoked")

#: What a client presented is not accepted, and its session begins empty. ``handle`` is
#: ``None`` where nothing says which session was meant. The ``reason``:
#:
#: - ``"malformed"``: it does not look like an id with a signature;
#: - ``"bad signature"``: it does, and was not signed with ``SECRET_KEY``;
#: - ``"ambiguous"``: there were several, and different ones;
#: - ``"unknown"``: there is no such session, or the server has removed it when it expired;
#: - ``"expired"``: it has expired, and the server has not removed it yet;
#: - ``"ended"``: it was ended, or given another id, a moment ago;
#: - ``"undecodable"``: what is stored cannot be read;
#: - ``"binding"``: it is bound to another client.
session_rejected = _signals.signal("session-rejected")

#: An id was used that had been exchanged longer ago than ``SESSION_ROTATION_GRACE``: somebody
#: has a copy of the cookie, or an answer was lost.
session_reused = _signals.signal("session-reused")

#: A save met somebody else's. The ``reason``:
#:
#: - ``"merged"``: the changes of both are kept, as ``SESSION_ON_CONFLICT`` says;
#: - ``"overwritten"``: all of the later save is kept, since that is what
#:   ``SESSION_ON_CONFLICT`` says or the request has cleared the session;
#: - ``"refused"``: :exc:`~flask_serverside.SessionConflict` is raised, and nothing stored;
#: - ``"gone"``: the session has ended, and the changes are dropped, or
#:   :exc:`~flask_serverside.SessionGone` is raised, as ``SESSION_ON_GONE`` says.
session_conflict = _signals.signal("session-conflict")

_LEVELS: dict[NamedSignal, tuple[int, str]] = {
    session_created: (logging.DEBUG, "Session %s is new%s."),
    session_saved: (logging.DEBUG, "Session %s is saved%s."),
    session_regenerated: (logging.INFO, "Session %s is the new name of one%s."),
    session_destroyed: (logging.INFO, "Session %s is ended%s."),
    session_revoked: (logging.INFO, "Session %s is ended from elsewhere%s."),
    session_rejected: (logging.INFO, "Session %s is rejected%s."),
    session_reused: (logging.WARNING, "Session %s is used under an id exchanged before%s."),
    session_conflict: (logging.DEBUG, "Session %s was saved, or ended, by others%s."),
}


def tell(
    signal: NamedSignal, app: object, handle: str | None, subject: str | None, **more: Any
) -> None:
    """Log it, and send it to whoever listens."""
    level, text = _LEVELS[signal]
    if log.isEnabledFor(level):
        log.log(level, text, handle, "".join(f", {key} {value}" for key, value in more.items()))
    signal.send(app, handle=handle, subject=subject, **more)
