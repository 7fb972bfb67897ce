"""No test needs a fixed port to be free: while tests run, every port that a default names is taken."""

from __future__ import annotations

import contextlib
import socket

#: Defaults of the bridge (9292 and the ports after it, 9394), of the demo, and of what works beside them.
PORTS = (3000, 5555, 6379, 6390, 9090, 9292, 9293, 9294, 9295, 9394)

_held: list[socket.socket] = []


def hold() -> None:
    """Listen on them until this process ends. A port that another process has taken is as good."""
    for port in PORTS:
        listener = socket.socket()
        with contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            listener.listen(1)
            _held.append(listener)
