"""Sends signed requests to Puma workers, over connections that are kept."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge import errors
from bridge.sidecar.fleet import Fleet, Member
from bridge.sidecar.http import BadReply, HttpConnection, Reply, request_bytes
from bridge.sidecar.protocol import trace_headers
from bridge.sidecar.signature import PROTOCOL, Signer


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``full`` is how long to wait for a slot while the sidecar is merely full."""

    connect: float = 2.0
    read: float = 40.0
    """How long one reply may take; more than a request waits for its job."""
    full: float = 20.0
    command: float = 3.0
    """How long one Puma worker may take to answer a command that all are given."""
    repeat: float = 10.0
    """How long to ask again for the outcome of a job whose reply was lost."""


class SignedRequests:
    """Safe for threads and greenlets."""

    def __init__(
        self,
        fleet: Fleet,
        signer: Signer,
        timeouts: Timeouts = Timeouts(),
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.fleet = fleet
        self._signer = signer
        self._timeouts = timeouts
        self._tls = tls
        self._sleep = sleep

    def _connection(self, member: Member) -> HttpConnection:
        return member.kept() or self._fresh(member)

    def _fresh(self, member: Member) -> HttpConnection:
        return HttpConnection(member.worker.address, self._timeouts.connect, self._tls())

    def _send(
        self,
        connection: HttpConnection,
        member: Member,
        method: str,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes,
        timeout_seconds: float | None = None,
    ) -> Reply:
        base = [("X-Bridge-Protocol", str(PROTOCOL)), ("X-Bridge-Boot", member.worker.boot)]
        signed = self._signer.request(method, path, base + headers, body)
        headers = [*signed.headers, *trace_headers()]
        try:
            request = request_bytes(method, path, member.worker.address.authority, headers, body)
            reply = signed.check(connection.exchange(request, timeout_seconds or self._timeouts.read))
        except BaseException:
            # Also when a time limit or a shutdown ends this job's thread: a half-read connection serves
            # no other job.
            connection.close()
            raise
        if reply.keep_alive and reply.authentic:
            member.keep(connection)
        else:
            connection.close()
        return reply

    def _tell_all(self, path: str, body: bytes) -> None:
        """A command, to those as well that take no more jobs."""
        for member in self.fleet.everyone:
            try:
                # The other side may have closed a kept connection, and the request has one attempt.
                connection = self._fresh(member)
                self._send(connection, member, "POST", path, [], body, self._timeouts.command)
            except (OSError, BadReply, errors.SidecarUnavailable):
                continue  # it is gone or going, or hangs: the others must be told
