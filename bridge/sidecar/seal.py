"""The frames of a stream carry a code that only the two ends can make (``docs/protocol.md``, Frames).

A relay between worker and sidecar can forward frames or drop them. It cannot write, change, repeat or reorder
one, and the next frame shows that one is missing. It costs 5 us of CPU a job here and 13 us in the sidecar
(``docs/performance.md``). A stream without a secret, on a Unix socket, pays nothing.
"""

from __future__ import annotations

import hashlib
import hmac

#: Half of a SHA-256, in hex digits.
TAG_LENGTH = 32


def stream_key(secret: bytes, request_nonce: str, reply_nonce: str, boot: str) -> bytes:
    """The key of one stream: nonces of both ends, so that no end can be made to use a key twice."""
    text = f"bridge-v2-stream\n{request_nonce}\n{reply_nonce}\n{boot}"
    return hmac.digest(secret, text.encode(), "sha256")


class Seal:
    """Makes or checks the codes of one direction of one stream. ``direction`` is the sender's name."""

    def __init__(self, key: bytes, direction: str) -> None:
        self._keyed = hmac.new(hmac.digest(key, direction.encode(), "sha256"), digestmod=hashlib.sha256)
        self._number = 0

    def tag(self, line: bytes, body: bytes) -> bytes:
        """The code of the next frame: its number, its line without code and newline, and its body."""
        code = self._keyed.copy()
        code.update(b"%d %b\n" % (self._number, line))
        code.update(body)
        self._number += 1
        return code.hexdigest()[:TAG_LENGTH].encode()

    def opened(self, line: bytes, body: bytes) -> bytes:
        """A sealed line without its code.

        Raises:
            ValueError: this end of the stream did not expect that frame from the other.
        """
        bare = line[TAG_LENGTH + 1 :]
        if not hmac.compare_digest(line[: TAG_LENGTH + 1], self.tag(bare, body) + b" "):
            raise ValueError("a frame has a wrong code")
        return bare
