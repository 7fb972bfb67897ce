"""The sidecar's client: hands a job over, and comes back with its outcome whatever the connection does."""

from __future__ import annotations

import dataclasses
import time
from typing import Protocol

from bridge import errors
from bridge.sidecar import refusals, stream_upgrade
from bridge.sidecar.fleet import Member
from bridge.sidecar.http import HttpConnection
from bridge.sidecar.messages import BadReply, Reply
from bridge.sidecar.protocol import WAIT_MS, execute_headers, path_of
from bridge.sidecar.requests import SignedRequests
from bridge.sidecar.result import JobResult, Status
from bridge.sidekiq.fetch.unit_of_work import Delivery

EXECUTE = "/jobs/execute"
SHORTEST_WAIT_SECONDS = 0.5
#: A job that a newer delivery owns goes back to its queue where this worker still holds it: not at once.
SUPERSEDED_PAUSE_SECONDS = 1.0


class Sidecar(Protocol):
    """What ``bridge.perform`` needs of a sidecar; replace it in tests."""

    def has_sent(self, delivery: Delivery) -> bool:
        """Whether this delivery went out already, so that ``execute`` begins no run."""

    def execute(self, delivery: Delivery) -> JobResult:
        """Run a job and return its outcome."""

    def cancel(self, delivery: Delivery, reason: str, message: str) -> None:
        """End a running job; ``reason`` is ``deadline`` or ``revoked``."""

    def interrupt(self, delivery: Delivery) -> None:
        """Ask for this job to stop at its next checkpoint."""

    def quiet(self, identity: str) -> None:
        """Ask all jobs of this worker to stop at their next checkpoint; the others go on."""


class SidecarClient(SignedRequests):
    """Talks to all Puma workers over pooled keep-alive connections. Safe for threads and greenlets."""

    def has_sent(self, delivery: Delivery) -> bool:
        """Never: it sends when it is asked to execute."""
        return False

    def execute(self, delivery: Delivery) -> JobResult:
        """Run a job and return its outcome, however long it takes.

        Raises:
            SidecarUnavailable: the job was not started.
            SidecarRejected: the sidecar refuses this worker.
            JobRefused: the sidecar will never run this job.
            JobSuperseded: a newer delivery owns it.
            OutcomeUnknown: it may have run.
        """
        deadline = time.monotonic() + self._timeouts.full
        while True:
            try:
                return self._execute_once(delivery)
            except errors.SidecarUnavailable as error:
                if error.may_run or error.retry_after_seconds is None or time.monotonic() >= deadline:
                    raise
                self._sleep(error.retry_after_seconds)
            except errors.JobSuperseded:
                self._sleep(SUPERSEDED_PAUSE_SECONDS)
                raise

    def interrupt(self, delivery: Delivery) -> None:
        """Ask every Puma worker to stop this job; the one that runs it does."""
        self._commands.interrupt(delivery)

    def quiet(self, identity: str) -> None:
        """Ask all jobs of this worker, at every Puma worker, to stop at their next checkpoint."""
        self._commands.quiet(identity)

    def cancel(self, delivery: Delivery, reason: str, message: str) -> None:
        """End this job for good; ``reason`` is ``deadline`` or ``revoked``."""
        self._commands.cancel(delivery, reason, message)

    def post(self, path: str, body: bytes, boot: str = "") -> bytes:
        """Send something else to a Puma worker, ``boot`` first. Raises SidecarError unless it answers 200."""
        return self._commands.post(path, body, boot)

    def post_at(self, member: Member, path: str, body: bytes) -> Reply:
        """Send something else to this Puma worker. Raises OSError, BadReply."""
        return self._commands.post_at(member, path, body)

    def tell_all(self, path: str, body: bytes) -> None:
        """Send a command to every Puma worker, once."""
        self._commands.tell_all(path, body)

    # -- one job

    def _execute_once(self, delivery: Delivery) -> JobResult:
        if delivery.recovered and (known := self._joined(delivery)) is not None:
            return known
        member = self._acquire()
        try:
            return self._execute_at(member, delivery)
        finally:
            self.fleet.release(member)

    def _execute_at(self, member: Member, delivery: Delivery) -> JobResult:
        headers = self._headers(delivery)
        try:
            connection = self._connection(member)
        except OSError as error:
            # Nothing was sent, so nothing was started.
            self.fleet.forget(member)
            raise errors.SidecarUnavailable(f"{member.worker.address} cannot be reached: {error}") from error
        try:
            reply = self._send(connection, member, "POST", EXECUTE, headers, delivery.payload)
        except (OSError, BadReply) as error:
            return self.ask_again(member, delivery, error)
        return self._outcome(member, delivery, reply, started=False)

    def _outcome(self, member: Member, delivery: Delivery, reply: Reply, *, started: bool) -> JobResult:
        while reply.status == 202:
            started, asked = True, time.monotonic()
            try:
                connection = self._connection(member)
                path = f"{path_of(delivery)}?wait_ms={WAIT_MS}"
                reply = self._send(connection, member, "GET", path, [], b"")
            except (OSError, BadReply) as error:
                return self.ask_again(member, delivery, error, started=True)
            if reply.status == 202 and time.monotonic() - asked < SHORTEST_WAIT_SECONDS:
                self._sleep(SHORTEST_WAIT_SECONDS)  # it does not wait with us: do not ask without end
        if reply.status == 200:
            return self._concluded(member, delivery, reply)
        raise self.refusal(member, reply, started=started)

    # -- what differs for a job whose code is in Python

    def _acquire(self) -> Member:
        return self.fleet.acquire()

    def _headers(self, delivery: Delivery) -> list[tuple[str, str]]:
        return execute_headers(delivery)

    def _concluded(self, member: Member, delivery: Delivery, reply: Reply) -> JobResult:
        return self.noted(member, _result(member, delivery, reply))

    # -- jobs that may run elsewhere

    def _joined(self, delivery: Delivery) -> JobResult | None:
        """The outcome of an orphaned job that a Puma worker still runs, or has ended."""
        self._look_for_everyone()
        for member in self.fleet.everyone:
            reply = self._ask_whether_known(member, delivery)
            if reply is not None:
                return self._outcome(member, delivery, reply, started=True)
        return None

    def _look_for_everyone(self) -> None:
        """Its first run may have begun at a Puma worker that is newer than our last look.

        A process of a pool looks never again once it knows some.
        """
        try:
            self.fleet.refresh_since(time.monotonic())
        except errors.SidecarUnavailable:
            if not self.fleet.everyone:
                raise

    def _ask_whether_known(self, member: Member, delivery: Delivery) -> Reply | None:
        headers = [*self._headers(delivery), ("X-Bridge-If-Known", "1")]
        try:
            connection = self._fresh(member)
            reply = self._send(connection, member, "POST", EXECUTE, headers, delivery.payload)
        except (ConnectionRefusedError, FileNotFoundError):
            return None  # the process is gone, and what it ran with it
        except (OSError, BadReply) as error:
            # While it cannot say, the job is not started elsewhere; who is silent for long is forgotten.
            text = f"{member.worker.address} may run this job and does not answer: {error!r}"
            raise errors.SidecarUnavailable(text, retry_after_seconds=1.0) from error
        if not reply.authentic:
            raise errors.SidecarRejected(refusals.unproven(member, reply))  # the question starts nothing
        return None if reply.status in (404, 421) else reply

    def ask_again(
        self, member: Member, delivery: Delivery, cause: BaseException, *, started: bool = False
    ) -> JobResult:
        """The reply was lost: the same delivery at the same process is joined, never run twice.

        ``started``: it is known that a run began.
        """
        deadline = time.monotonic() + self._timeouts.repeat
        pause = 0.05
        refusal: errors.SidecarUnavailable | None = None
        while time.monotonic() < deadline:
            try:
                connection = self._fresh(member)
                headers = self._headers(delivery)
                reply = self._send(connection, member, "POST", EXECUTE, headers, delivery.payload)
            except (ConnectionRefusedError, FileNotFoundError):
                refusal = None
                break  # the process is gone, and what it knew with it
            except (OSError, BadReply):
                refusal = None
                self._sleep(pause)
                pause = min(1.0, pause * 2)
                continue
            if reply.status == 503 and reply.authentic and not started:
                refusal = refusals.not_begun(self.fleet, member, reply)
                self._sleep(pause)
                continue
            return self._outcome(member, delivery, reply, started=True)
        if refusal is not None:
            raise refusal
        self.fleet.forget(member)
        raise errors.OutcomeUnknown(f"the reply of {member.worker.address} was lost: {cause!r}") from cause

    def noted(self, member: Member, result: JobResult) -> JobResult:
        """A sidecar that goes down gets no more jobs, from its first reply that says so."""
        if result.status is not Status.SHUTDOWN or not result.asked:
            return result
        self.fleet.forget_sidecar(member)
        return dataclasses.replace(result, was_last=not self.fleet.members)

    def refusal(self, member: Member, reply: Reply, *, started: bool) -> errors.SidecarError:
        """The error for a reply that is not an outcome; ``started``: it is known that a run began."""
        return refusals.of(self.fleet, member, reply, started=started)

    def open_stream(self, member: Member) -> stream_upgrade.OpenStream:
        """Open a stream to one Puma worker. Raises OSError or BadReply."""
        worker = member.worker
        connection = HttpConnection(worker.address, self._timeouts.connect, self._tls())
        return stream_upgrade.open_stream(
            connection, worker.address.authority, worker.boot, self._signer, self._timeouts.connect
        )


def _result(member: Member, delivery: Delivery, reply: Reply) -> JobResult:
    try:
        return JobResult.parse(reply.body, delivery)
    except errors.OutcomeUnknown:
        member.close()  # where one reply is about another job, the next one over that connection is as well
        raise
