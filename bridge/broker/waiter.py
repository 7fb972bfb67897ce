"""Waits for whichever comes first: a readable socket, or a wake-up from another thread."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable
from typing import Any


class Waiter:
    """One selector with a socket pair to wake it. ``wake`` is safe in any thread and in a signal handler."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._woken = False
        self._selector.register(self._reader, selectors.EVENT_READ, self._drain)

    def watch(self, sock: Any, ready: Callable[[], None]) -> None:
        """Call ``ready`` when the socket is readable."""
        self._selector.register(sock, selectors.EVENT_READ, ready)

    def unwatch(self, sock: Any) -> None:
        """Stop watching; a socket that is already closed or unknown is fine."""
        try:
            self._selector.unregister(sock)
        except (KeyError, ValueError):
            self._forget_closed()

    def wake(self) -> None:
        """End the current or the next wait."""
        if self._woken:
            return
        self._woken = True
        # A full pipe, or one closed at shutdown: the wait ends all the same.
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def wait(self, timeout_seconds: float) -> bool:
        """Wait and call what became ready. Returns whether anything did."""
        events = self._selector.select(max(0.0, timeout_seconds))
        for key, _ in events:
            key.data()
        return bool(events)

    def close(self) -> None:
        """Close the selector and its own sockets."""
        self._selector.close()
        self._reader.close()
        self._writer.close()

    def _drain(self) -> None:
        try:
            while self._reader.recv(4096):
                pass
        except BlockingIOError:
            pass
        # Flag last: a wake-up that falls between is not written, but what it stands for is seen by the turn that
        # follows every wait. The other way round its byte would be eaten while the flag says that one is under way.
        self._woken = False

    def _forget_closed(self) -> None:
        mapping = self._selector.get_map()
        for key in list(mapping.values() if mapping else ()):
            if getattr(key.fileobj, "fileno", lambda: 0)() == -1:
                self._selector.unregister(key.fileobj)
