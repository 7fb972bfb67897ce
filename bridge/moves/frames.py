"""Messages between a worker and the process of its shadows: byte strings, each behind its length."""

from __future__ import annotations

import struct

_LENGTH = struct.Struct("!I")


def packed(*texts: bytes) -> bytes:
    """These byte strings, for the socket."""
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


class Frames:
    """Takes apart what came from the socket."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        self._buffer += data

    def take(self) -> bytes | None:
        """The next byte string; None while it is not there as a whole."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        found = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return found
