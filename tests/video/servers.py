"""Small servers on the loopback for the tests of network streams."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Server:
    """Listens on a free port of 127.0.0.1 and runs ``serve(connection, number)`` for each connection in turn.

    ``number`` counts connections from 0. ``stop`` is set when the server is closed, so that a ``serve``
    that keeps silent can wait on it.
    """

    def __init__(self, serve: Callable[[socket.socket, int, threading.Event], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.stop = threading.Event()
        self.connections = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            number, self.connections = self.connections, self.connections + 1
            with connection:
                try:
                    self._serve(connection, number, self.stop)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    continue  # the client left

    def close(self) -> None:
        self.stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
