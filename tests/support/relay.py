"""A process between worker and sidecar that knows no secret: it passes bytes on, or changes them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

Change = Callable[[bytes], bytes]


def unchanged(data: bytes) -> bytes:
    return data


class Relay:
    """Listens on a port of its own and leads to another one. ``up`` and ``down`` change what passes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.up: Change = unchanged
        """What the worker sends, on its way to the sidecar."""
        self.down: Change = unchanged
        self.seen_up: list[bytes] = []
        self.seen_down: list[bytes] = []
        self.upstreams: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def honest(self) -> None:
        self.up = self.down = unchanged

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                worker, _ = self._listener.accept()
                sidecar = socket.create_connection(("127.0.0.1", self._port))
                self.upstreams.append(sidecar)
                for source, target, names in (
                    (worker, sidecar, ("up", "seen_up")),
                    (sidecar, worker, ("down", "seen_down")),
                ):
                    threading.Thread(target=self._pass, args=(source, target, *names), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, change: str, seen: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                getattr(self, seen).append(data)
                target.sendall(getattr(self, change)(data))
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
