"""Jobs whose code is in Python and whose middleware is in Ruby (``docs/protocol.md``, Python code).

The sidecar runs the server middleware and asks for the code where the instance would perform. The worker
runs it and reports its end. The calling thread runs the code, so the job goes as a request, never over a
stream.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bridge import errors
from bridge.sidecar import schema, schema_middleware
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.fleet import Member
from bridge.sidecar.messages import BadReply, Reply
from bridge.sidecar.protocol import WAIT_MS, execute_headers, path_of
from bridge.sidecar.result import JobResult, check_same
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.payload import splice
from bridge.sidekiq.payload.job import SidekiqJob

ALIVE = "/jobs/alive"
_ASKS = b'{"status":"body",'


@dataclass(frozen=True, slots=True)
class CodeEnding:
    """How the code ended: ``done``, ``failed``, ``cancelled`` (revoked) or ``released`` (given back)."""

    status: str
    error_class: str = ""
    message: str = ""
    backtrace: tuple[str, ...] = ()
    limit: int | None = None
    """The task's own number of retries; the job's counts where that is lower."""

    def report(self, turn: int) -> bytes:
        """The body that reports it."""
        said = {"turn": turn, "status": self.status, "class": self.error_class, "message": self.message}
        limit = {} if self.limit is None else {"limit": max(0, self.limit)}
        return json.dumps({**said, **limit, "backtrace": self.backtrace}).encode()


#: Runs the code for the payload that middleware has left, and returns its end.
Perform = Callable[[bytes], CodeEnding]


class PythonCodeClient(SidecarClient):
    """Executes one delivery. ``lease_seconds``: how long the sidecar waits for a silent worker."""

    def __init__(self, client: SidecarClient, perform: Perform, lease_seconds: float) -> None:
        super().__init__(*client.parts)
        self._perform = perform
        self._lease_ms = int(lease_seconds * 1000)
        self._turn = 0
        self._ending = CodeEnding("done")

    def _execute_once(self, delivery: Delivery) -> JobResult:
        self._turn = 0
        return super()._execute_once(delivery)

    def _acquire(self) -> Member:
        return self.fleet.acquire(python_code=True)

    def _headers(self, delivery: Delivery) -> list[tuple[str, str]]:
        lease = ("X-Bridge-Lease-Ms", str(self._lease_ms))
        return [*execute_headers(delivery), ("X-Bridge-Body", "python"), lease]

    def _concluded(self, member: Member, delivery: Delivery, reply: Reply) -> JobResult:
        if not reply.body.startswith(_ASKS):
            return super()._concluded(member, delivery, reply)
        asked = _read(reply, delivery)
        if asked.turn != self._turn:
            # The same turn again: the sidecar has not received the report.
            self._turn = asked.turn
            self._ending = self._perform(_changed(delivery, asked))
        return self._outcome(member, delivery, self._report(member, delivery), started=True)

    def _report(self, member: Member, delivery: Delivery) -> Reply:
        """Report the end until the sidecar has it. Its reply is the outcome, or asks for another turn."""
        body = self._ending.report(self._turn)
        headers = [("X-Bridge-Wait-Ms", str(WAIT_MS))]
        deadline, pause = time.monotonic() + self._timeouts.repeat, 0.05
        while True:
            try:
                connection = self._fresh(member)
                return self._send(connection, member, "POST", f"{path_of(delivery)}/body", headers, body)
            except (OSError, BadReply) as error:
                gone = isinstance(error, ConnectionRefusedError | FileNotFoundError)
                if gone or time.monotonic() > deadline:
                    self.fleet.forget(member)
                    text = f"{member.worker.address} cannot be told how the Python code ended: {error!r}"
                    raise errors.OutcomeUnknown(text) from error
            self._sleep(pause)
            pause = min(1.0, pause * 2)


def report_alive(client: SidecarClient, deliveries: Iterable[Delivery]) -> None:
    """Tell every Puma worker which deliveries' code this worker runs: their runs go on waiting."""
    names = [delivery.name for delivery in deliveries]
    if names:
        client.tell_all(ALIVE, json.dumps({"deliveries": names}).encode())


def _read(reply: Reply, delivery: Delivery) -> schema_middleware.BodyReply:
    try:
        asked = schema.read(schema_middleware.BODY, reply.body)
        check_same(asked, delivery, SidekiqJob.parse(delivery.payload))
    except (ValueError, errors.PayloadError) as error:
        raise errors.OutcomeUnknown(f"the sidecar's reply makes no sense: {error}") from None
    return asked


def _changed(delivery: Delivery, asked: schema_middleware.BodyReply) -> bytes:
    """The payload as middleware has left it."""
    if not asked.fields and not asked.removed:
        return delivery.payload
    changed = SidekiqJob.parse(delivery.payload).with_fields(asked.fields)
    return splice.remove(changed, asked.removed)
