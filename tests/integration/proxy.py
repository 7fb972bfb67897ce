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
        self._hold: bytes | None = None
        self._late: list[tuple[socket.socket, bytes]] = []
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answer_to(self, text: bytes) -> None:
        """The next request that holds this text is carried out, its answer and its connection are lost."""
        self._lose = text

    def hold(self, text: bytes) -> None:
        """The next request that holds this text stays on the way; its client sees the connection end."""
        self._hold = text

    @property
    def holds(self) -> int:
        """How many requests are on the way."""
        return len(self._late)

    def deliver(self) -> set[str]:
        """The network heals: what it held arrives. Returns the addresses whose connections end after that."""
        late, self._late = self._late, []
        addresses = set()
        for sink, request in late:
            addresses.add("{}:{}".format(*sink.getsockname()))
            sink.sendall(request)
            with contextlib.suppress(OSError):  # Redis has answered already, and the other thread hung up
                sink.shutdown(socket.SHUT_WR)
        return addresses

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
                if is_request and self._hold is not None and self._hold in chunk:
                    self._hold = None
                    self._late.append((sink, chunk))
                    source.shutdown(socket.SHUT_RDWR)
                    return
                if not is_request:
                    time.sleep(self._delay)
                sink.sendall(chunk if is_request else self._alter(chunk))
                if lose:
                    self.lost += 1
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_WR)
