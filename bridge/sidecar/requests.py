"""Sends the signed requests of jobs to Puma workers, over connections that are kept."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any

from bridge.sidecar.commands import Commands
from bridge.sidecar.control_client import ControlClient
from bridge.sidecar.fleet import Fleet, Member
from bridge.sidecar.http import HttpConnection, request_bytes
from bridge.sidecar.messages import Reply
from bridge.sidecar.protocol import trace_headers
from bridge.sidecar.signature import PROTOCOL, Signer
from bridge.sidecar.timeouts import DEFAULTS, Timeouts


class SignedRequests:
    """Safe for threads and greenlets."""

    def __init__(
        self,
        fleet: Fleet,
        signer: Signer,
        timeouts: Timeouts = DEFAULTS,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.fleet = fleet
        self._signer = signer
        self._timeouts = timeouts
        self._tls = tls
        self._sleep = sleep
        self._commands = Commands(fleet, ControlClient(signer, timeouts.connect, tls), timeouts)

    @property
    def parts(self) -> tuple[Any, ...]:
        """The arguments that make another client of the same sidecars."""
        return self.fleet, self._signer, self._timeouts, self._tls, self._sleep

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
    ) -> Reply:
        base = [("X-Bridge-Protocol", str(PROTOCOL)), ("X-Bridge-Boot", member.worker.boot)]
        signed = self._signer.request(method, path, base + headers, body)
        headers = [*signed.headers, *trace_headers()]
        try:
            request = request_bytes(method, path, member.worker.address.authority, headers, body)
            reply = signed.check(connection.exchange(request, self._timeouts.read))
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
