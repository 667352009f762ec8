"""What an application may listen to: blinker signals, sent by the application."""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: A save met somebody else's. Sent with ``handle``, ``subject`` and ``reason``:
#:
#: - ``"merged"``: the changes of both are kept, as ``SESSION_ON_CONFLICT`` says;
#: - ``"overwritten"``: all of the later save is kept, since that is what
#:   ``SESSION_ON_CONFLICT`` says or the request has cleared the session;
#: - ``"refused"``: :exc:`~flask_serverside.SessionConflict` is raised, and nothing stored;
#: - ``"gone"``: the session has ended, and the changes are dropped, or
#:   :exc:`~flask_serverside.SessionGone` is raised, as ``SESSION_ON_GONE`` says.
session_conflict = _signals.signal("session-conflict")
