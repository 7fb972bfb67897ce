"""Sends sidecars all that is not a job: probes, cancel, interrupt and promotion, over ``requests``.

A job goes over a stream or by :mod:`bridge.sidecar.http`: ``requests`` costs about 0.6 ms of CPU a call
(``docs/performance.md``). A probe every five seconds does not notice that.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bridge.sidecar.address import Address
from bridge.sidecar.bounded_socket import BoundedSocket, Bounds
from bridge.sidecar.messages import Reply, refuse_unsafe
from bridge.sidecar.signature import PROTOCOL, Headers, Signer

if TYPE_CHECKING:
    from bridge.sidecar.requests_session import RequestsSession

#: Bytes. A ``/health`` of a hundred Puma workers has 20 kB.
LARGEST_ANSWER = 1024 * 1024


class Conversation:
    """One connection to one address, open for as long as its questions need it. For one thread."""

    def __init__(self, address: Address, signer: Signer, connect: Callable[[], socket.socket]) -> None:
        self._address = address
        self._signer = signer
        self._connect = connect
        self._bounds = Bounds()
        self._session: RequestsSession | None = None
        # Connected before the library is asked: a refused connection costs much less without it.
        self._opened = [BoundedSocket(connect(), self._bounds)]
        self._unused = self._opened[:]

    def ask(
        self,
        method: str,
        path: str,
        boot: str | None,
        body: bytes = b"",
        *,
        timeout_seconds: float,
        unsigned: Headers | None = None,
        largest: int = LARGEST_ANSWER,
    ) -> Reply:
        """Send a signed request to the Puma worker with this boot id and return its proven reply.

        ``timeout_seconds`` is for the whole exchange, ``largest`` is the most bytes that its body may have.
        ``unsigned`` are further headers.

        Raises:
            OSError: the connection broke, or the reply was late (TimeoutError).
            BadReply: what came is not a reply, is too large, or has a wrong signature.
            SidecarUnavailable: the request holds what no header may hold.
        """
        named = [("X-Bridge-Boot", boot)] if boot else []
        plain = [("Host", self._address.authority), *(unsigned or [])]
        refuse_unsafe([path, *(f"{name}: {value}" for name, value in [*named, *plain])], path)
        signed = self._signer.request(method, path, [("X-Bridge-Protocol", str(PROTOCOL)), *named], body)
        self._bounds.allow(time.monotonic() + timeout_seconds, largest)
        headers = dict([*plain, *signed.headers])
        return signed.check(self._library().exchange(method, path, headers, body, largest))

    def close(self) -> None:
        """Close all connections."""
        for opened in self._opened:
            opened.end()

    def _library(self) -> RequestsSession:
        if self._session is None:
            # A worker without Ruby jobs never reaches a sidecar, and never pays for the library.
            from bridge.sidecar.requests_session import RequestsSession

            self._session = RequestsSession(self._next_socket)
        return self._session

    def _next_socket(self) -> BoundedSocket:
        """The connection for the next request: another one where the sidecar closed the first."""
        if self._unused:
            return self._unused.pop()
        self._opened.append(BoundedSocket(self._connect(), self._bounds))
        return self._opened[-1]


class ControlClient:
    """Safe for threads and after a fork: each call opens its own connection.

    The sidecar may close a kept connection at any moment, and a command has no second attempt. A probe over
    a new connection says whether the next job would get through, with the present certificates.
    """

    def __init__(
        self,
        signer: Signer,
        connect_timeout_seconds: float,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        self._signer = signer
        self._connect_timeout = connect_timeout_seconds
        self._tls = tls

    @contextmanager
    def conversation(self, address: Address) -> Iterator[Conversation]:
        """Connect, for questions that follow each other. Raises OSError."""
        talk = Conversation(
            address, self._signer, lambda: address.connect(self._connect_timeout, self._tls())
        )
        try:
            yield talk
        finally:
            talk.close()
