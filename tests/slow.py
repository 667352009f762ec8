"""A server that is slow: each answer, or each piece of one, comes late."""

from __future__ import annotations

import contextlib
import socket
import threading


class SlowLine:
    """Passes everything on to ``target``; what comes back waits ``delay`` seconds, and goes on
    in pieces of ``piece`` bytes, each of them as late.
    """

    def __init__(self, target: int, delay: float, piece: int = 65536) -> None:
        self._target = target
        self._delay = delay
        self._piece = piece
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for source, sink, piece in ((client, server, 0), (server, client, self._piece)):
                arguments = (source, sink, piece)
                threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, piece: int) -> None:
        with contextlib.closing(source), contextlib.closing(sink), contextlib.suppress(OSError):
            while data := source.recv(65536):
                for start in range(0, len(data), piece or len(data)):
                    if piece and self._over.wait(self._delay):
                        return
                    sink.sendall(data[start : start + (piece or len(data))])
