"""One stream to one Puma worker: many jobs under way at once on one connection, without HTTP's cost for each.

Non-blocking, and only ever touched by the thread that owns its event loop.
"""

from __future__ import annotations

import functools
import itertools
import logging
import socket
import ssl
import time
from collections.abc import Callable
from urllib.parse import quote

from bridge.event_loop import EventLoop
from bridge.sidecar.http import LARGEST_REPLY, HttpConnection, request_bytes
from bridge.sidecar.protocol import trace_word
from bridge.sidecar.signature import Signer
from bridge.sidekiq.fetch.unit_of_work import Delivery

logger = logging.getLogger(__name__)

PATH = "/jobs/stream"
READ_SIZE = 65_536
#: So many bytes go out at once: the sidecar begins while the rest is being made.
EAGER_BYTES = 1024
LONGEST_LINE = 4096
#: A probe that is not answered within this ends the stream: the peer is gone though nobody said so.
PROBE_TIMEOUT_SECONDS = 15.0

#: Called with status and body of the reply, or with None when the stream was cut.
OnReply = Callable[[int | None, bytes], None]


def open_socket(
    connection: HttpConnection, authority: str, boot: str, signer: Signer, timeout_seconds: float
) -> socket.socket:
    """Upgrade a connection to a stream.

    Raises:
        OSError: it broke.
        BadReply: the sidecar does not offer streams, or refuses us.
    """
    signed = signer.sign("POST", PATH, [("X-Bridge-Protocol", "1"), ("X-Bridge-Boot", boot)], b"")
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "bridge-jobs")]
    return connection.upgrade(request_bytes("POST", PATH, authority, upgrade + signed, b""), timeout_seconds)


@functools.lru_cache(maxsize=1024)
def _quoted(queue: str) -> str:
    return quote(queue, safe="")


def _checked(size: int) -> int:
    if not 0 <= size <= LARGEST_REPLY:
        raise ValueError(f"a frame of {size} bytes")
    return size


class Stream:
    """Sends jobs and calls back with their replies."""

    def __init__(
        self, sock: socket.socket, event_loop: EventLoop, on_cut: Callable[[], None], *, traced: bool = False
    ) -> None:
        self._socket = sock
        self._event_loop = event_loop
        self._on_cut = on_cut
        self._traced = traced
        self._ids = itertools.count(1)
        self._pending: dict[int, OnReply] = {}
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._flushing = False
        self._blocked = False
        """Whether the peer takes no more at present: what is left goes out when it does."""
        self._probed_at: float | None = None
        self._retiring = False
        self.closed = False
        sock.setblocking(False)
        event_loop.watch(sock, self._readable)

    def send(self, delivery: Delivery, on_reply: OnReply) -> None:
        """Send a job; ``on_reply`` is called once, now or later."""
        if self.closed:
            on_reply(None, b"")
            return
        number = next(self._ids)
        self._pending[number] = on_reply
        payload = delivery.payload
        queue = _quoted(delivery.queue)
        line = (
            f"E {number} {len(payload)} {delivery.identity} {delivery.token} {delivery.claimed_at_ms} "
            f"{delivery.recovered} {queue}{trace_word() if self._traced else ''}\n"
        )
        self._outgoing += line.encode("latin-1", "replace")
        self._outgoing += payload
        if len(self._outgoing) >= EAGER_BYTES and not self._blocked:
            self._flush()
        else:
            self._flush_soon()

    def probe(self) -> None:
        """Ask whether the peer is there; one that has not answered the last probe for long is cut off."""
        if self._probed_at is not None:
            if time.monotonic() - self._probed_at > PROBE_TIMEOUT_SECONDS:
                self._cut("it does not answer")
            return
        self._probed_at = time.monotonic()
        number = next(self._ids)
        self._pending[number] = self._probe_answered
        self._outgoing += f"P {number} 0\n".encode()
        self._flush_soon()

    def close(self) -> None:
        """End the stream; what is under way is called back with None."""
        self._cut("closed by this side")

    def retire(self) -> None:
        """End the stream as soon as nothing is under way on it."""
        self._retiring = True
        if not self._pending:
            self.close()

    def _probe_answered(self, status: int | None, body: bytes) -> None:
        self._probed_at = None

    # -- writing

    def _flush_soon(self) -> None:
        # Not at once: small frames of one turn go out together, in one system call.
        if not self._flushing and not self._blocked:
            self._flushing = True
            self._event_loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self) -> None:
        if self.closed or not self._outgoing:
            return
        try:
            sent = self._socket.send(self._outgoing)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError as error:
            # Not here: a task that is just sending would be told from within itself.
            self._event_loop.call_soon(functools.partial(self._cut, str(error)))
            return
        del self._outgoing[:sent]
        if bool(self._outgoing) is not self._blocked:
            self._blocked = not self._blocked
            self._event_loop.watch(self._socket, self._readable, self._flush if self._blocked else None)

    # -- reading

    def _readable(self) -> None:
        try:
            # TLS may hold more than one read's worth that the selector does not see.
            while (chunk := self._socket.recv(READ_SIZE)) and not self.closed:
                self._incoming += chunk
                if len(chunk) < READ_SIZE and not isinstance(self._socket, ssl.SSLSocket):
                    break
        except (BlockingIOError, ssl.SSLWantReadError):
            chunk = b"more"
        except OSError as error:
            self._cut(str(error))
            return
        self._take_frames()
        if not chunk:
            self._cut("the sidecar closed it")

    def _take_frames(self) -> None:
        buffer, start = self._incoming, 0
        try:
            while (end := buffer.find(b"\n", start)) >= 0:
                number, status, size = buffer[start:end].split(b" ")
                body_end = end + 1 + _checked(int(size))
                if len(buffer) < body_end:
                    break
                body = bytes(buffer[end + 1 : body_end])
                start = body_end
                self._deliver(int(number), int(status), body)
        except ValueError:
            self._cut("it sent what is no frame")
            return
        del buffer[:start]
        if len(buffer) > LONGEST_LINE and b"\n" not in buffer[:LONGEST_LINE]:
            self._cut("it sent a line without end")

    def _deliver(self, number: int, status: int, body: bytes) -> None:
        on_reply = self._pending.pop(number, None)
        if on_reply is not None:
            on_reply(status, body)
        if self._retiring and not self._pending:
            self.close()

    def _cut(self, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        self._event_loop.unwatch(self._socket)
        self._socket.close()
        pending, self._pending = self._pending, {}
        if pending:
            logger.warning(
                "the stream to the sidecar was cut with %d jobs under way: %s", len(pending), reason
            )
        self._on_cut()
        for on_reply in pending.values():
            on_reply(None, b"")
