"""A wire to a server that is cut at any message: that is lost, or its answer is."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType


def _end(end: socket.socket) -> None:
    """Close a socket, also where another thread waits for what comes from it.

    To close it alone would not wake that thread, which would keep the connection open: a server
    that has as many as it takes then keeps the next test waiting.
    """
    with suppress(OSError):  # closed already, by either side
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class Wire:
    """A TCP proxy to a port of this host. All of its threads and connections end with it.

    `cut(n)` closes the connection at the n-th message from now, which the server does not get;
    with `late`, it gets the message, and its answer is lost.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.messages = 0
        self._cut_at: int | None = None
        self._late = False
        self._open: list[socket.socket] = []

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def cut(self, message: int, *, late: bool) -> None:
        """Cut once, at the n-th message from now (from 1)."""
        self.messages = 0
        self._cut_at, self._late = message, late

    @property
    def was_cut(self) -> bool:
        """Whether the cut that was asked for has been made."""
        return self._cut_at is None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            self._open += [client, server]
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Message by message: redis-py sends one and waits for all of its answer."""
        lose = threading.Event()
        back = threading.Thread(target=_back, args=(server, client, lose), daemon=True)
        back.start()
        try:
            with suppress(OSError):
                while data := client.recv(1 << 20):
                    self.messages += 1
                    if self.messages == self._cut_at:
                        if self._late:
                            lose.set()
                            server.sendall(data)
                            back.join(30)  # until the server has answered
                        self._cut_at = None
                        return
                    server.sendall(data)
        finally:
            _end(client)
            _end(server)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _end(self._listening)
        for each in self._open:
            _end(each)


def _back(server: socket.socket, client: socket.socket, lose: threading.Event) -> None:
    with suppress(OSError):
        while data := server.recv(1 << 20):
            if lose.is_set():
                return
            client.sendall(data)
    if not lose.is_set():
        _end(client)  # the server has closed: the client is not to wait for it
