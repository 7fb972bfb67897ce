"""A TCP proxy that loses an answer after the request has arrived; slow, or lying, if it is asked to be."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable


class Proxy:
    """Between a client and a Redis on loopback."""

    def __init__(
        self,
        port: int,
        alter: Callable[[bytes], bytes] = lambda answer: answer,
        delay_seconds: float = 0.0,
    ) -> None:
        self._target, self._alter, self._delay = port, alter, delay_seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lose: bytes | None = None
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answer_to(self, text: bytes) -> None:
        """The next request that holds this text is carried out, its answer and its connection are lost."""
        self._lose = text

    def aim_at(self, port: int) -> None:
        """Lead new connections there, as a name does after a failover; those that are open stay."""
        self._target = port

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._copy, args=(source, sink, source is client), daemon=True
                    ).start()

    def _copy(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 20):
                lose = is_request and self._lose is not None and self._lose in chunk
                if lose:
                    self._lose = None
                    # No answer gets through from here on; the server sees the whole request, then the end.
                    source.shutdown(socket.SHUT_RDWR)
                if not is_request:
                    time.sleep(self._delay)
                sink.sendall(chunk if is_request else self._alter(chunk))
                if lose:
                    self.lost += 1
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_WR)
