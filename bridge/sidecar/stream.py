"""One stream to one Puma worker: many jobs under way at once on one connection, without HTTP's cost for each.

Non-blocking, and only ever touched by the thread that owns its event loop.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterable
from urllib.parse import quote

from bridge.event_loop import EventLoop
from bridge.sidecar.messages import LARGEST_REPLY
from bridge.sidecar.protocol import trace_word
from bridge.sidecar.stream_upgrade import OpenStream
from bridge.sidekiq.fetch.unit_of_work import Delivery

logger = logging.getLogger(__name__)

READ_SIZE = 65_536
#: Jobs, or bytes, that go out at once: the sidecar begins while the rest is being made.
#: To send each job by itself, and wake a thread there, costs more than a small job.
EAGER_JOBS = 5
EAGER_BYTES = 65_536
LONGEST_LINE = 4096
#: A probe that is not answered within this ends the stream: the peer is gone without a word.
PROBE_TIMEOUT_SECONDS = 15.0

#: Called with status and body of the reply, or with None when the stream was cut.
OnReply = Callable[[int | None, bytes], None]
#: The number of a reply to all frames that have none, and its status.
ALL_OTHERS = 0
LEAVES = 503
_REPLY = re.compile(rb"([0-9a-f]{32} )?(\d{1,19}) (\d{3}) (\d{1,15})\n")
_quoted = functools.lru_cache(maxsize=1024)(functools.partial(quote, safe=""))


class Stream:
    """Sends jobs and calls back with their replies."""

    def __init__(
        self,
        opened: OpenStream,
        event_loop: EventLoop,
        on_cut: Callable[[], None],
        *,
        traced: bool = False,
        report_words: tuple[str, str] = ("", ""),
    ) -> None:
        self._socket, self._sending, self._receiving = opened
        self._event_loop = event_loop
        self._on_cut = on_cut
        self._traced = traced
        self._report_words = report_words
        self._ids = itertools.count(1)
        self._pending: dict[int, OnReply] = {}
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._flushing = False
        self._jobs_to_send = 0
        self._blocked = False
        """Whether the peer takes no more at present: what is left goes out when it does."""
        self._probed_at: float | None = None
        self._retiring = False
        self.closed = False
        self._socket.setblocking(False)
        event_loop.watch(self._socket, self._readable)

    def send(self, delivery: Delivery, on_reply: OnReply) -> None:
        """Send a job; ``on_reply`` is called once, later."""
        if self.closed:
            self._event_loop.soon.append(functools.partial(on_reply, None, b""))
            return
        number = next(self._ids)
        self._pending[number] = on_reply
        identity, token, queue, payload, claimed_at_ms, recovered, tracked, shadowed = delivery
        line = f"E {number} {len(payload)} {identity} {token} {claimed_at_ms} {recovered} {_quoted(queue)}"
        if tracked or shadowed:
            line += self._report_words[shadowed]
        if self._traced:
            line += trace_word()
        self._add(line.encode("latin-1", "replace"), payload)
        self._jobs_to_send += 1
        if (self._jobs_to_send >= EAGER_JOBS or len(self._outgoing) >= EAGER_BYTES) and not self._blocked:
            self._flush()
        else:
            self._flush_soon()

    def probe(self) -> None:
        """Ask whether the peer is there; one that has not answered the last probe for long is cut off."""
        if self.closed:
            return
        if self._probed_at is not None:
            if time.monotonic() - self._probed_at > PROBE_TIMEOUT_SECONDS:
                self._readable()  # its answer may have come while this thread was busy
                if self._probed_at is not None:
                    self._cut("it does not answer")
            return
        self._probed_at = time.monotonic()
        number = next(self._ids)
        self._pending[number] = self._probe_answered
        self._add(b"P %d 0" % number, b"")
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

    def _add(self, line: bytes, body: bytes) -> None:
        if self._sending is not None:
            self._outgoing += self._sending.tag(line, body) + b" "
        self._outgoing += line + b"\n"
        self._outgoing += body

    def _flush_soon(self) -> None:
        # Not at once: small frames of one turn go out together, in one system call.
        if not self._flushing and not self._blocked:
            self._flushing = True
            # Ahead of all else: the sidecar works meanwhile.
            self._event_loop.soon.appendleft(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self) -> None:
        if self.closed or not self._outgoing:
            return
        try:
            self._jobs_to_send = 0
            sent = self._socket.send(self._outgoing)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError as error:
            # Not here: a task that is just sending would be told from within itself.
            self._event_loop.soon.append(functools.partial(self._end, str(error)))
            return
        del self._outgoing[:sent]
        if bool(self._outgoing) is not self._blocked:
            self._blocked = not self._blocked
            self._event_loop.watch(self._socket, self._readable, self._flush if self._blocked else None)

    # -- reading

    def _readable(self) -> None:
        end = self._read()
        self._take_frames()
        if end is not None:
            self._cut(end)

    def _read(self) -> str | None:
        """Take what has come. Returns why no more will come, None while more may."""
        try:
            # TLS may hold more than one read's worth that the selector does not see.
            while chunk := self._socket.recv(READ_SIZE):
                self._incoming += chunk
                if len(chunk) < READ_SIZE and not isinstance(self._socket, ssl.SSLSocket):
                    return None
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError as error:
            return str(error)
        return "the sidecar closed it"

    def _end(self, reason: str) -> None:
        """Cut the stream after reading what has come: a job that has ended must not run again."""
        self._readable()
        self._cut(reason)

    def _take_frames(self) -> None:
        buffer, start = self._incoming, 0
        data = bytes(buffer) if len(buffer) <= READ_SIZE else buffer  # a bytearray's pieces are copied twice
        try:
            while (found := _REPLY.match(data, start)) is not None:
                code, number, status, length = found.groups()
                if (size := int(length)) > LARGEST_REPLY:
                    raise ValueError(f"a frame of {size} bytes")
                body_end = found.end() + size
                if len(data) < body_end:
                    break
                body = bytes(data[found.end() : body_end])
                if self._receiving is not None:
                    self._receiving.opened(bytes(data[start : found.end() - 1]), body)
                elif code is not None:
                    raise ValueError("a code, and no secret")
                start = body_end
                self._deliver(int(number), int(status), body)
            if found is None and data.find(b"\n", start) >= 0:
                raise ValueError("a line that is not a reply's")
        except ValueError as error:
            self._cut(f"it sent bytes that are not a frame ({error})")
            return
        del buffer[:start]
        if len(buffer) > LONGEST_LINE and b"\n" not in buffer[:LONGEST_LINE]:
            self._cut("it sent a line without end")

    def _deliver(self, number: int, status: int, body: bytes) -> None:
        if number == ALL_OTHERS:
            self._take_leave(status, body)
            return
        if (on_reply := self._pending.pop(number, None)) is not None:
            on_reply(status, body)
        if self._retiring and not self._pending:
            self.close()

    def _take_leave(self, status: int, body: bytes) -> None:
        """The sidecar ends the stream: no job without a reply has begun there, or will."""
        if status != LEAVES:
            raise ValueError(f"status {status} for all other frames")
        pending, self._pending = self._pending, {}
        self._cut("the sidecar goes down")
        self._tell(pending.values(), status, body)

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
        self._tell(pending.values(), None, b"")

    def _tell(self, waiting: Iterable[OnReply], status: int | None, body: bytes) -> None:
        for on_reply in waiting:
            try:
                on_reply(status, body)
            except Exception:
                # A fault in one job must not leave the others without a reply while the worker lives.
                logger.exception("a job could not be told that its stream has ended")
