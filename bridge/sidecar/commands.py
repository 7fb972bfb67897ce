"""Commands to Puma workers: interrupt a job, cancel one, look at due jobs."""

from __future__ import annotations

import contextlib
import json
import threading
from urllib.parse import quote

from bridge import errors
from bridge.sidecar import refusals
from bridge.sidecar.control_client import LARGEST_ANSWER, ControlClient
from bridge.sidecar.fleet import Fleet, Member
from bridge.sidecar.messages import LARGEST_REPLY, BadReply, Reply
from bridge.sidecar.protocol import path_of, trace_headers
from bridge.sidecar.timeouts import Timeouts
from bridge.sidekiq.fetch.unit_of_work import Delivery


class Commands:
    """Safe for threads and greenlets. A command is sent once: nothing says whether a lost one took effect."""

    def __init__(self, fleet: Fleet, client: ControlClient, timeouts: Timeouts) -> None:
        self._fleet = fleet
        self._client = client
        self._timeouts = timeouts

    def interrupt(self, delivery: Delivery) -> None:
        """Ask every Puma worker to stop this job; the one that runs it does."""
        self.tell_all(f"{path_of(delivery)}/interrupt", b"")

    def cancel(self, delivery: Delivery, reason: str, message: str) -> None:
        """End this job for good; ``reason`` is ``deadline`` or ``revoked``."""
        self.tell_all(
            f"{path_of(delivery)}/cancel", json.dumps({"reason": reason, "message": message}).encode()
        )

    def quiet(self, identity: str) -> None:
        """Ask the jobs of this worker to stop at their next checkpoint, at every Puma worker at once."""
        path = f"/workers/{quote(identity, safe=':')}/quiet"
        asking = [
            threading.Thread(target=self._tell, args=(member, path), name="bridge-quiet", daemon=True)
            for member in self._fleet.everyone
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()

    def post(self, path: str, body: bytes, boot: str = "") -> bytes:
        """Send something else to one Puma worker, ``boot`` first. Raises SidecarError unless one answers 200.

        The next one is asked only where the first has certainly begun nothing: it goes down, or is gone.
        """
        failure: errors.SidecarError = errors.SidecarUnavailable("no sidecar is ready")
        for member in self._in_order(boot):
            try:
                reply = self._send(member, path, body, self._timeouts.read, LARGEST_REPLY)
            except (OSError, BadReply) as error:
                text = f"{member.worker.address} does not answer: {error!r}"
                failure = errors.SidecarUnavailable(text)
                if not isinstance(error, ConnectionRefusedError | FileNotFoundError):
                    raise errors.OutcomeUnknown(text) from error
                continue
            if reply.status == 200:
                return reply.body
            failure = refusals.of(self._fleet, member, reply, started=False)
            if reply.status not in (421, 503):
                break
        raise failure

    def post_at(self, member: Member, path: str, body: bytes) -> Reply:
        """Send something else to this Puma worker. Raises OSError, BadReply."""
        return self._send(member, path, body, self._timeouts.read)

    def _in_order(self, boot: str) -> list[Member]:
        """The one to be asked first is the first; those that go down are the last."""
        return sorted(self._fleet.members, key=lambda one: (one.worker.boot != boot, one.worker.draining))

    def tell_all(self, path: str, body: bytes) -> None:
        """A command, to those as well that take no more jobs."""
        for member in self._fleet.everyone:
            self._tell(member, path, body)

    def _tell(self, member: Member, path: str, body: bytes = b"") -> None:
        # One that is gone or going, or hangs, keeps no other from being told.
        with contextlib.suppress(OSError, BadReply, errors.SidecarUnavailable):
            self._send(member, path, body, self._timeouts.command)

    def _send(
        self, member: Member, path: str, body: bytes, timeout_seconds: float, largest: int = LARGEST_ANSWER
    ) -> Reply:
        worker = member.worker
        with self._client.conversation(worker.address) as talk:
            return talk.ask(
                "POST",
                path,
                worker.boot,
                body,
                timeout_seconds=timeout_seconds,
                unsigned=trace_headers(),
                largest=largest,
            )
