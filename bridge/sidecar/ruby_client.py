"""Pushes through Sidekiq's own client in the Rails app (``docs/protocol.md``, ``POST /jobs/push``).

The class's ``sidekiq_options`` and the app's client middleware apply: locks, tenants, batches. The sidecar
writes the job, and remembers each push by an id: a lost reply is asked for again at the same Puma worker.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection, Iterator

from bridge import errors
from bridge.sidecar import refusals, schema, schema_middleware
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.fleet import Member
from bridge.sidecar.messages import BadReply, Reply
from bridge.sidekiq.payload import splice

PATH = "/jobs/push"
#: Seconds for which a lost reply is asked for again.
REPEAT_SECONDS = 10.0
NO_SIDECAR = (
    "{0}: ruby_client needs a sidecar, and the job was not pushed: {1}. "
    "Start the sidecar, or push with ruby_client=False"
)


class RubyClient:
    """Safe for threads. ``client`` gives the client of the sidecars, when the first job is pushed."""

    def __init__(self, client: Callable[[], SidecarClient]) -> None:
        self._client = client

    def push(self, job_class: str, payload: bytes, at: float | None, implied: Collection[str]) -> str | None:
        """Push a job. Returns its queue, or None where client middleware stopped it.

        ``implied``: default fields of the payload, which no caller gave. Options of the Ruby class replace
        them.
        ``at``: epoch seconds.

        Raises:
            PushRefused: no sidecar could take it, or the app raised. The job was not pushed.
            OutcomeUnknown: the job may have been pushed.
        """
        job = payload if at is None else splice.splice(payload, {"at": at})
        said = {
            "id": secrets.token_hex(12),
            "job": job.decode("utf-8", "surrogatepass"),
            "implied": [*implied],
        }
        body = json.dumps(said).encode()
        try:
            reply = self._send(body)
            found = schema.read(schema_middleware.PUSHED, reply.body)
        except (errors.SidecarUnavailable, errors.SidecarRejected, errors.JobRefused) as error:
            raise errors.PushRefused(NO_SIDECAR.format(job_class, error)) from error
        except ValueError as error:
            raise errors.OutcomeUnknown(
                f"{job_class} may have been pushed: the reply makes no sense: {error}"
            ) from None
        if found.error is not None:
            raise errors.PushRefused(f"{job_class}: the Rails app did not push it: {found.error}")
        return None if found.halted or found.queue is None else found.queue

    def _send(self, body: bytes) -> Reply:
        client = self._client()
        failure: errors.SidecarError = errors.SidecarUnavailable("no sidecar is ready")
        for member in self._members(client):
            try:
                reply = self._ask(client, member, body)
            except (ConnectionRefusedError, FileNotFoundError) as error:
                failure = errors.SidecarUnavailable(f"{member.worker.address} cannot be reached: {error}")
                continue
            if reply.status == 200:
                return reply
            failure = refusals.of(client.fleet, member, reply, started=False)
            if not isinstance(failure, errors.SidecarUnavailable):
                break
        raise failure

    def _members(self, client: SidecarClient) -> Iterator[Member]:
        """The known ones, then those of a new look. A process that only pushes looks at no other time."""
        asked = set()
        for look in (False, True):
            if look or not client.fleet.members:
                client.fleet.refresh()
            for member in sorted(client.fleet.members, key=lambda one: one.worker.draining):
                if member.worker.boot not in asked and member.worker.pushes:
                    asked.add(member.worker.boot)
                    yield member

    def _ask(self, client: SidecarClient, member: Member, body: bytes) -> Reply:
        """Raises ConnectionRefusedError or FileNotFoundError where nothing was sent."""
        sent, deadline, pause = False, time.monotonic() + REPEAT_SECONDS, 0.05
        while True:
            try:
                return client.post_at(member, PATH, body)
            except (OSError, BadReply) as error:
                gone = isinstance(error, ConnectionRefusedError | FileNotFoundError)
                if gone and not sent:
                    raise
                if gone or time.monotonic() > deadline:
                    text = f"the job may have been pushed: {member.worker.address} does not answer: {error!r}"
                    raise errors.OutcomeUnknown(text) from error
                sent = True
            time.sleep(pause)
            pause = min(1.0, pause * 2)
