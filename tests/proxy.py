"""A TCP proxy before a real server: counts round trips, and can cut or freeze the line."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Proxy:
    """Listens on :attr:`port` and passes everything on to ``target``.

    A trip is what one side waits for: bytes from the client after bytes from the server.
    """

    def __init__(self, target: int) -> None:
        self.trips = 0
        #: Seconds before each answer.
        self.delay = 0.0
        #: Seconds after each byte of an answer.
        self.trickle = 0.0
        self._target = target
        self._lock = threading.Lock()
        self._frozen = False
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def cut(self) -> None:
        """Close all connections and refuse new ones."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Close all connections, as a server does that restarts."""
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def mend(self) -> None:
        """Listen again, on the same port, and pass everything on."""
        self._frozen = False
        if self._listener.fileno() == -1:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def lead_to(self, target: int) -> None:
        """Pass new connections on to another server. Those that there are stay where they
        are, as they do if a name or an address is given to another server.
        """
        self._target = target

    def freeze(self) -> None:
        """Go on accepting, but pass nothing on any more."""
        self._frozen = True

    def close(self) -> None:
        self.cut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self._frozen:
                with self._lock:
                    self._connections.add(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # it is not there
                client.close()
                continue
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections |= {client, server}
            heard = [True]  # whether the server spoke last, shared by both directions
            for source, sink, asks in ((client, server, True), (server, client, False)):
                arguments = (source, sink, asks, heard)
                threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(
        self, source: socket.socket, sink: socket.socket, asks: bool, heard: list[bool]
    ) -> None:
        while True:
            try:
                data = source.recv(65536)
                if not data:
                    break
                if self._frozen:
                    continue
                with self._lock:
                    if asks and heard[0]:
                        self.trips += 1
                    heard[0] = not asks
                if not asks:
                    time.sleep(self.delay)
                    for byte in data if self.trickle else b"":
                        sink.sendall(bytes([byte]))
                        time.sleep(self.trickle)
                if asks or not self.trickle:
                    sink.sendall(data)
            except OSError:
                break
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
