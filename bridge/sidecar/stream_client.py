"""The sidecar over streams, for tasks that can be parked: they wait without a thread.

Wherever a stream is not to be had, or was cut, the plain client does the work in a helper thread and the
task stays parked.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from bridge import errors
from bridge.event_loop import EventLoop
from bridge.sidecar import parking, protocol
from bridge.sidecar.client import SidecarClient
from bridge.sidecar.fleet import Member
from bridge.sidecar.messages import BadReply, Reply
from bridge.sidecar.result import JobResult, done_ms, failure, tracked_done
from bridge.sidecar.stream import Stream
from bridge.sidecar.stream_upgrade import OpenStream
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork

logger = logging.getLogger(__name__)

#: Who replied, with which status (None: the stream was cut), and what.
EarlyReply = tuple[Member, int | None, bytes]


def plain(sidecar: Any) -> SidecarClient:
    """The client of single requests: ``sidecar`` itself, or the one under its streams."""
    found: SidecarClient = getattr(sidecar, "client", sidecar)
    return found


def probe_streams(sidecar: Any) -> None:
    """Probe the streams, where ``sidecar`` has any."""
    if isinstance(sidecar, StreamingSidecar):
        sidecar.probe_streams()


def open_streams(sidecar: Any) -> None:
    """Open missing streams, where ``sidecar`` has any. Blocks."""
    if isinstance(sidecar, StreamingSidecar):
        sidecar.open_streams()


class StreamingSidecar:
    """A sidecar for the consumer's thread. ``execute`` parks the calling task until its job has ended."""

    def __init__(self, client: SidecarClient, event_loop: EventLoop, helpers: int) -> None:
        self.client = client
        self._event_loop = event_loop
        self._streams: set[Stream] = set()
        self._helpers = ThreadPoolExecutor(helpers, thread_name_prefix="bridge-sidecar")
        self._early: dict[int, EarlyReply] = {}

    def begin(
        self,
        unit: UnitOfWork,
        on_done: Callable[..., None],
        on_failed: Callable[[JobResult], None],
        on_other: Callable[[], None],
    ) -> bool:
        """Send a job without parking anything. Returns False where no stream is to be had.

        ``on_done`` is called with the milliseconds of the run when it was performed, and with the result that
        a job reports; ``on_failed`` with the outcome of a run that failed. For any other end ``on_other``
        is, and ``execute`` then goes on from the reply that has come.
        """
        delivery = unit.delivery
        member = None if delivery.recovered else self._acquire()
        if member is None:
            return False

        def on_reply(status: int | None, body: bytes) -> None:
            run_ms = done_ms(body, delivery) if status == 200 else None
            if (delivery.tracked or delivery.shadowed) and status == 200:
                done = tracked_done(body, delivery, unit.job)
                if done is not None:
                    self.client.fleet.release(member)
                    on_done(done.duration_ms, done.result)
                    return
            failed = failure(body, delivery, unit.job) if status == 200 and run_ms is None else None
            if run_ms is not None:
                self.client.fleet.release(member)
                on_done(run_ms)
            elif failed is not None:
                self.client.fleet.release(member)
                on_failed(failed)
            else:
                self._early[delivery.token] = (member, status, body)
                on_other()
                if self._early.pop(delivery.token, None) is not None:
                    # No task asked for it: the lease is gone. The slot behind the stream is free.
                    self.client.fleet.release(member)

        member.stream.send(delivery, on_reply)
        return True

    def has_sent(self, delivery: Delivery) -> bool:
        """Whether this delivery went out already, and its reply (or the cut of its stream) is at hand."""
        return delivery.token in self._early

    def execute(self, delivery: Delivery) -> JobResult:
        """Run a job and return its outcome; raises as :meth:`SidecarClient.execute` does."""
        if not parking.is_parkable():
            return self.client.execute(delivery)
        early = self._early.pop(delivery.token, None)
        if early is not None:
            return self._released(early[0], lambda: self._outcome(early, delivery))
        member = None if delivery.recovered else self._acquire()
        if member is None:
            return self._in_thread(lambda: self.client.execute(delivery))
        return self._released(member, lambda: self._over_stream(member, delivery))

    def interrupt(self, delivery: Delivery) -> None:
        """Ask every Puma worker to stop this job."""
        self.client.interrupt(delivery)

    def quiet(self, identity: str) -> None:
        """Ask all jobs of this worker to stop at their next checkpoint."""
        self.client.quiet(identity)

    def cancel(self, delivery: Delivery, reason: str, message: str) -> None:
        """End this job for good."""
        self.client.cancel(delivery, reason, message)

    def probe_streams(self) -> None:
        """Probe each stream, also those that are to end and those of a sidecar that does not answer.

        Only this ends a stream over a connection that died without a word.
        """
        self._event_loop.call_soon(self._probe_all)

    def _probe_all(self) -> None:
        for stream in list(self._streams):
            stream.probe()

    def open_streams(self) -> None:
        """Open what is missing and retire what is not used. Blocks: for the probing thread."""
        members = self.client.fleet.members
        for member in members:
            if member.stream is None:
                self._open(member)
        self._event_loop.call_soon(lambda: self._retire_all_but([member.stream for member in members]))

    def renew(self) -> None:
        """Secret or certificates were replaced: new jobs go over streams that are opened from now on."""
        self._event_loop.call_soon(self._forget_streams)

    def _forget_streams(self) -> None:
        for member in self.client.fleet.members:
            member.carry(None)

    def _retire_all_but(self, used: list[Stream | None]) -> None:
        """Streams to Puma workers that are gone, or that came back under another entry of the fleet."""
        for stream in self._streams - {stream for stream in used if stream is not None}:
            stream.retire()

    def _open(self, member: Member) -> None:
        try:
            opened = self.client.open_stream(member)
        except (OSError, BadReply, errors.SidecarUnavailable) as error:
            logger.debug("no stream to %s: %s; jobs go by single requests", member.worker.address, error)
            return
        self._event_loop.call_soon(lambda: self._attach(member, opened))

    def _attach(self, member: Member, opened: OpenStream) -> None:
        if member.stream is not None:
            opened.socket.close()
            return

        def forget() -> None:
            if member.stream is stream:
                member.carry(None)
            self._streams.discard(stream)

        traced = member.worker.traces_on_streams and protocol.is_tracing()
        # Of a tracked job, and of one with a shadow.
        words = (" track" if member.worker.results else "", " value" if member.worker.values else "")
        stream = Stream(opened, self._event_loop, forget, traced=traced, report_words=words)
        member.carry(stream)
        self._streams.add(stream)

    def _acquire(self) -> Member | None:
        """The least busy Puma worker, if there is a stream to it and a slot behind it."""
        try:
            member = self.client.fleet.acquire(refresh=False)
        except errors.SidecarUnavailable:
            return None
        if member.stream is None:
            self.client.fleet.release(member)
            return None
        return member

    def _released(self, member: Member, work: Callable[[], JobResult]) -> JobResult:
        try:
            return work()
        finally:
            self.client.fleet.release(member)

    def _over_stream(self, member: Member, delivery: Delivery) -> JobResult:
        stream = member.stream
        status, body = parking.park(lambda resume: stream.send(delivery, lambda s, b: resume((s, b))))
        return self._outcome((member, status, body), delivery)

    def _outcome(self, reply: EarlyReply, delivery: Delivery) -> JobResult:
        member, status, body = reply
        if status == 200:
            return self.client.noted(member, JobResult.parse(body, delivery))
        if status is None:
            cut = BadReply("the stream was cut")
            return self._in_thread(lambda: self.client.ask_again(member, delivery, cut))
        refusal = self.client.refusal(member, Reply(status, body=body), started=False)
        is_brief = isinstance(refusal, errors.SidecarUnavailable) and refusal.retry_after_seconds is not None
        if is_brief or isinstance(refusal, errors.JobSuperseded):
            # Full, or another delivery has the job: the plain client waits and asks again.
            return self._in_thread(lambda: self.client.execute(delivery))
        raise refusal

    def _in_thread(self, work: Callable[[], JobResult]) -> JobResult:
        def start(resume: Callable[[Any], None]) -> None:
            def done(future: Future[JobResult]) -> None:
                self._event_loop.call_soon(lambda: resume(future))

            self._helpers.submit(contextvars.copy_context().run, work).add_done_callback(done)

        future: Future[JobResult] = parking.park(start)
        return future.result()
