"""Parts of both HTTP clients of the sidecars: replies, their limits, and a check of requests."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bridge import errors

READ_SIZE = 65536
#: No reply of the protocol comes near this: an iterable job's payload is the largest.
LARGEST_REPLY = 128 * 1024 * 1024
#: Chunks of a few bytes cost more CPU than their bytes are worth: 30 MB in chunks of one byte took 12 s.
SMALLEST_MEAN_CHUNK = 64
FREE_CHUNKS = 1024
_UNSAFE = re.compile(r"[^\x20-\x7e]")


class BadReply(Exception):
    """The reply is cut, garbage, too large or too late. Whether the request was carried out is unknown."""


@dataclass
class Reply:
    """Status, headers (names in lower case) and body."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True
    authentic: bool = True
    """False for a refusal without a signature though there is a secret: any process can have written it."""

    def unproven(self) -> Reply:
        """This reply, marked as one that no signature proves."""
        self.authentic = False
        return self


class Body:
    """The body of a reply, chunk by chunk, with a limit in bytes."""

    def __init__(self, largest: int = LARGEST_REPLY) -> None:
        self._largest = largest
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Raises BadReply where the body is too large, or comes in tiny chunks."""
        self._size += len(chunk)
        if self._size > self._largest:
            raise BadReply(f"the reply is larger than {self._largest} bytes")
        self._chunks.append(chunk)
        if self._size < SMALLEST_MEAN_CHUNK * (len(self._chunks) - FREE_CHUNKS):
            raise BadReply("the reply comes in chunks of a few bytes")

    @property
    def joined(self) -> bytes:
        """The whole body."""
        return b"".join(self._chunks)


def refuse_unsafe(lines: list[str], path: str) -> None:
    """Refuse lines of a request that would begin a header, or a request, of another's choice.

    Raises:
        SidecarUnavailable: a part holds what is not printable ASCII.
    """
    if _UNSAFE.search("".join(lines)) or " " in path:
        raise errors.SidecarUnavailable(f"no request was sent: {lines!r} holds what no header may hold")
