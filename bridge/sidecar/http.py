"""One keep-alive HTTP/1.1 connection for jobs: send ``execute``, read the reply, or change to a stream.

Not ``requests``, which serves all other calls (:mod:`bridge.sidecar.control_client`): it costs several times
the CPU. The parsing is httptools'; sockets are plain ones, so gevent's patched sockets work as well.
"""

from __future__ import annotations

import select
import socket
import ssl
import time

import httptools

from bridge.sidecar.address import Address
from bridge.sidecar.messages import READ_SIZE, BadReply, Body, Reply, refuse_unsafe

LARGEST_HEAD = 8192

#: Seconds without a request after which a connection is replaced: a firewall may have dropped it silently.
REST_SECONDS = 10.0


class _Collector:
    """httptools' callbacks. The reply is the first that is final, and nothing may follow it."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.reply = Reply()
        self.complete = False
        self._body = Body()

    def on_message_begin(self) -> None:
        if self.complete:
            # Taken for the reply to the next request, it would tell one job how another has ended.
            raise BadReply("more than one reply came")
        self.reply = Reply()

    def on_headers_complete(self) -> None:
        self.reply.status = self.parser.get_status_code()
        if self.reply.status == 101:
            raise BadReply("the protocol was changed without a request for that")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.reply.headers[name.lower()] = value

    def on_body(self, chunk: bytes) -> None:
        self._body.add(chunk)

    def on_message_complete(self) -> None:
        if self.reply.status < 200:
            return  # informational (100, 102, 103): the reply is still to come
        self.complete = True
        self.reply.body = self._body.joined
        # Not parser.should_keep_alive(): behind the end of a message it is always false.
        closes = self.reply.headers.get(b"connection", b"").lower() == b"close"
        self.reply.keep_alive = self.parser.get_http_version() == "1.1" and not closes


class HttpConnection:
    """A connection to one Puma worker. Not for several threads at once."""

    def __init__(self, address: Address, connect_timeout_seconds: float, tls: ssl.SSLContext | None) -> None:
        self._socket = address.connect(connect_timeout_seconds, tls)
        self._used_at = time.monotonic()

    def exchange(self, request: bytes, timeout_seconds: float) -> Reply:
        """Send a request and read its reply.

        Raises:
            OSError: the connection broke, or nothing came within ``timeout_seconds`` (TimeoutError).
            BadReply: the bytes are not a reply.
        """
        deadline = time.monotonic() + timeout_seconds
        self._socket.settimeout(timeout_seconds)
        self._socket.sendall(request)
        collector = _Collector()
        while not collector.complete:
            self._feed(collector.parser, deadline)
        self._used_at = time.monotonic()
        return collector.reply

    def upgrade(self, request: bytes, timeout_seconds: float) -> Reply:
        """Send a request that changes the protocol. Returns the head of the reply, whose status is 101.

        After that the connection belongs to the new protocol: ``detach`` it.

        Raises:
            OSError: the connection broke, or no head came within ``timeout_seconds`` (TimeoutError).
            BadReply: the reply is not 101.
        """
        deadline = time.monotonic() + timeout_seconds
        self._socket.settimeout(timeout_seconds)
        self._socket.sendall(request)
        head = b""
        # Byte by byte: what follows the head belongs to the new protocol.
        while not head.endswith(b"\r\n\r\n") and len(head) < LARGEST_HEAD:
            byte = self._receive(deadline, 1)
            if not byte:
                break
            head += byte
        if not (head.startswith(b"HTTP/1.1 101 ") and head.endswith(b"\r\n\r\n")):
            raise BadReply(f"no stream: {head[:80].decode('latin-1')!r}")
        return Reply(101, _headers(head))

    def detach(self) -> socket.socket:
        """The socket, which is no longer ours."""
        return self._socket

    @property
    def rested(self) -> bool:
        """Whether it has rested too long to be used again."""
        return time.monotonic() - self._used_at > REST_SECONDS

    @property
    def stale(self) -> bool:
        """Whether it should not be used any more: it rested for long, was closed, or has more to say."""
        if self.rested or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _feed(self, parser: httptools.HttpResponseParser, deadline: float) -> None:
        chunk = self._receive(deadline)
        if not chunk:
            raise BadReply("the connection was closed before the reply was complete")
        try:
            parser.feed_data(chunk)
        except httptools.HttpParserError as error:
            # Raised for garbage, and for what our own callbacks refuse.
            cause = error.__context__
            raise cause if isinstance(cause, BadReply) else BadReply(f"not HTTP: {error}") from error

    def _receive(self, deadline: float, size: int = READ_SIZE) -> bytes:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            # A peer that sends a byte a second must not hold a slot without end.
            raise TimeoutError("the reply took too long")
        self._socket.settimeout(remaining)
        return self._socket.recv(size)


def _headers(head: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found[name.lower()] = value.strip()
    return found


def request_bytes(method: str, path: str, host: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    """The request as it goes over the wire.

    The one place where request lines and headers are written.

    Raises:
        SidecarUnavailable: a part holds more than printable ASCII. A line break would begin a header, or a
            request, of another's choice.
    """
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in headers]
    refuse_unsafe(lines, path)
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body
