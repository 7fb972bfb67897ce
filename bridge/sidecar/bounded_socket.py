"""A socket that keeps a deadline and a limit of bytes, whatever the library above it does."""

from __future__ import annotations

import io
import socket
import time
from typing import Any

from bridge.sidecar.messages import BadReply

LARGEST_HEAD = 65536


class Bounds:
    """When an exchange must have ended, and how much may come in it."""

    def __init__(self) -> None:
        self._deadline = 0.0
        self._bytes_left = 0

    def allow(self, deadline: float, largest_body: int) -> None:
        """For the next exchange: the monotonic time of its end, and bytes."""
        self._deadline = deadline
        # Chunks bring lines of their own.
        self._bytes_left = 2 * largest_body + LARGEST_HEAD

    @property
    def seconds_left(self) -> float:
        """Until the deadline; raises TimeoutError behind it."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the exchange timed out")
        return left

    def count(self, size: int) -> None:
        """Count bytes that came; raises BadReply above the limit."""
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise BadReply("the reply is too large")


class BoundedSocket:
    """What ``http.client`` and urllib3 use of a socket.

    Their time-outs are for each read: a sidecar that sends a byte a second would hold the probing thread.
    Their limits leave a body unlimited, and a head may have 6 MB.
    """

    def __init__(self, sock: socket.socket, bounds: Bounds) -> None:
        self._socket = sock
        self._bounds = bounds

    def recv_into(self, buffer: memoryview) -> int:
        """Raises TimeoutError behind the deadline, BadReply behind the limit."""
        self._socket.settimeout(self._bounds.seconds_left)
        count = self._socket.recv_into(buffer)
        self._bounds.count(count)
        return count

    def sendall(self, data: bytes) -> None:
        """Raises TimeoutError behind the deadline."""
        self._socket.settimeout(self._bounds.seconds_left)
        self._socket.sendall(data)

    def makefile(self, mode: str, *_: object) -> io.BufferedReader:
        """What ``http.client`` reads replies from."""
        return io.BufferedReader(_Received(self))

    def settimeout(self, seconds: float | None) -> None:
        """The deadline decides."""

    def fileno(self) -> int:
        """For ``poll``."""
        return self._socket.fileno()

    def close(self) -> None:
        """The library closes before it has read the body; ``end`` closes."""

    def end(self) -> None:
        """Close the connection."""
        self._socket.close()


class _Received(io.RawIOBase):
    def __init__(self, bounded: BoundedSocket) -> None:
        self._bounded = bounded

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._bounded.recv_into(buffer)
