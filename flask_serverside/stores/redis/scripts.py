"""The Lua scripts that run in the server, and all the commands it takes to use it."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

from ..record import _MAGIC
from ..record import HEADER
from ..record import LONGEST_HEADER
from ..record import PLACES

_CALL = re.compile(r"redis\.p?call\('(\w+)'")


def _text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text("utf-8")


def _constants() -> str:
    sizes = {"HEADER": HEADER, "LONGEST_HEADER": LONGEST_HEADER}
    places = {name.upper(): place for name, place in PLACES.items()}
    magic = "".join(f"\\{byte:03}" for byte in _MAGIC)
    lines = [f"local {name} = {value}" for name, value in (sizes | places).items()]
    return "\n".join([*lines, f"local MAGIC = '{magic}'", ""])


class Script:
    """One of them, as it is sent."""

    def __init__(self, name: str) -> None:
        self.text = _constants() + _text("common") + _text(name)
        # EVALSHA names a script by its SHA-1; nothing rests on it.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


CREATE = Script("create")
REPLACE = Script("replace")
TOUCH = Script("touch")
DELETE = Script("delete")
NOTE = Script("note")
END = Script("end")

#: What the store itself sends. The server runs the scripts with the same permissions.
SENT = frozenset(
    ("GET", "SET", "GETRANGE", "STRLEN", "ZSCAN", "SCAN", "ZREM", "EVALSHA", "EVAL")
)
#: What the scripts call.
CALLED = frozenset(
    name.upper()
    for script in (CREATE, REPLACE, TOUCH, DELETE, NOTE, END)
    for name in _CALL.findall(script.text)
)
#: The permissions that the store needs, whatever kind of server it is.
COMMANDS = SENT | CALLED
#: One that asks a cluster which server has which keys, and finds its way while they are moved.
CLUSTER_COMMANDS = frozenset(("CLUSTER|SLOTS", "ASKING"))
#: One that has asked sentinels for the server asks it whether it is the primary.
SENTINEL_COMMANDS = frozenset(("ROLE",))
