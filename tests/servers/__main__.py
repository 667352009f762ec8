"""How long the servers take to start, cold: ``python -m servers``, in the folder of tests."""

from __future__ import annotations

import time

from . import Servers

servers = Servers()
began = time.monotonic()
servers.begin(set(servers.all))
for name in servers.all:
    if server := servers.get(name):
        print(f"{time.monotonic() - began:5.2f} s  {server.version}  ({server.program})")
servers.stop()
