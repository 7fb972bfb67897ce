"""The sidecar's answer to a job, as a typed value."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from bridge import errors
from bridge.results.encoding import bounded, lost
from bridge.sidecar import schema, schema_middleware
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome.decision import Bury, DeadLimits, Decision, Discard, Postpone, Result, Retry
from bridge.sidekiq.payload import queue_names
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.splice import splice


class Status(Enum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    SHUTDOWN = "shutdown"
    POSTPONED = "postponed"


#: The exception that the sidecar raises inside a job that was revoked.
CANCELLED = "Bridge::Cancelled"
#: A reply that says nothing but that the job was performed, as the sidecar writes it: nearly all are this.
_DONE = re.compile(
    rb'\{"status":"done","jid":(?:"[\w:./-]*"|null),"delivery":"([\w:./-]*)/(\d{1,19})",'
    rb'"duration_ms":(\d{1,12}(?:\.\d{1,9})?)\}'
)

#: What Sidekiq's own defaults say.
_DEFAULT_LIMITS = DeadLimits()
_NOT_POSTPONED = Postpone()
#: The result of a tracked job from a sidecar that does not know of results.
_NOT_REPORTED = Result(b"", "the sidecar reported none: upgrade its gem")


def done_ms(body: bytes, delivery: Delivery) -> float | None:
    """Milliseconds of the run, of a reply that says "done" and nothing else. ``None`` may still be that."""
    found = _DONE.fullmatch(body)
    if found is None:
        return None
    identity, token, milliseconds = found.groups()
    is_same = int(token) == delivery.token and identity == delivery.identity.encode()
    return float(milliseconds) if is_same else None


def failure(body: bytes, delivery: Delivery, job: SidekiqJob) -> JobResult | None:
    """The outcome of a run that failed. None for every other reply, and for one that makes no sense."""
    try:
        said = schema.read(schema.OUTCOME, body)
        check_same(said, delivery, job)
        return JobResult._of(said, job) if isinstance(said, schema.FailedOutcome) else None
    except ValueError:
        return None


def tracked_done(body: bytes, delivery: Delivery, job: SidekiqJob) -> JobResult | None:
    """The outcome of a tracked job that was performed. None for every other reply, as ``failure`` says."""
    try:
        said = schema.read(schema.OUTCOME, body)
        check_same(said, delivery, job)
        return (
            JobResult._done(said, job, is_tracked=delivery.tracked)
            if isinstance(said, schema.DoneOutcome)
            else None
        )
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Next:
    """What Ruby decided for a failed job; ``delay_seconds`` and ``custom_delay`` for a retry only."""

    place: str
    fields: Mapping[str, Any]
    delay_seconds: float = 0.0
    custom_delay: bool = False
    dead_limits: DeadLimits = _DEFAULT_LIMITS
    error: tuple[str, str] | None = None
    """Class and message, for a job that goes nowhere."""

    def decision(self, job: SidekiqJob, now: float, default_delay_seconds: float | None = None) -> Decision:
        """The decision, with the fields spliced into the job's own bytes.

        ``default_delay_seconds`` replaces Sidekiq's curve (Celery's backoff), never a delay of the job's own.
        """
        if self.place == "none":
            return Discard(error=self.error)
        payload = splice(job.raw, job.entry_fields(self.fields))
        if self.place == "dead":
            return Bury(payload, self.dead_limits)
        delay = self.delay_seconds
        if default_delay_seconds is not None and not self.custom_delay:
            delay = default_delay_seconds
        return Retry(now + delay, payload)


@dataclass(frozen=True, slots=True)
class JobResult:
    """One outcome. ``next`` is there for failures, ``payload`` for interruptions."""

    status: Status
    duration_ms: float
    error_class: str = ""
    error_message: str = ""
    next: Next | None = None
    payload: bytes = b""
    postpone: Postpone = _NOT_POSTPONED
    asked: bool = True
    """False for an unasked shutdown: the job raised Sidekiq::Shutdown by itself."""
    was_cancelled: bool = False
    """Whether a person ended it, for good."""
    result: Result = _NOT_REPORTED
    """The result of a tracked job."""
    was_last: bool = False
    """Whether it comes from a Puma worker that goes down, and no other one is known."""

    @classmethod
    def parse(cls, body: bytes, delivery: Delivery) -> JobResult:
        """Read the body of the reply about a delivery.

        Raises:
            OutcomeUnknown: it is not what the protocol says, or it is about another job.
        """
        if (duration_ms := done_ms(body, delivery)) is not None:
            return cls(Status.DONE, duration_ms)
        try:
            said = schema.read(schema.OUTCOME, body)
            job = SidekiqJob.parse(delivery.payload)
            check_same(said, delivery, job)
            return cls._of(said, job)
        except (ValueError, errors.PayloadError) as error:
            raise errors.OutcomeUnknown(f"the sidecar's reply makes no sense: {error}") from None

    @classmethod
    def _of(cls, said: schema.OutcomeReply, job: SidekiqJob) -> JobResult:
        match said:
            case schema.FailedOutcome():
                error, next_ = said.error, _next(said.next, (said.error.class_, said.error.message))
                cancelled = error.class_ == CANCELLED and next_.place == "none"
                return cls(
                    Status.FAILED,
                    said.duration_ms,
                    error.class_,
                    error.message,
                    next_,
                    was_cancelled=cancelled,
                )
            case schema.InterruptedOutcome():
                return cls(Status.INTERRUPTED, said.duration_ms, payload=_payload(said.payload, job))
            case schema.ShutdownOutcome():
                return cls(Status.SHUTDOWN, said.duration_ms, asked=said.asked)
            case schema.PostponedOutcome():
                return cls(Status.POSTPONED, said.duration_ms, postpone=_postpone(said, job))
        return cls._done(said, job)

    @classmethod
    def _done(cls, said: schema.DoneOutcome, job: SidekiqJob, *, is_tracked: bool = True) -> JobResult:
        if said.result_lost is not None and not is_tracked:
            return cls(Status.DONE, said.duration_ms, result=Result(b"", said.result_lost))
        if said.result_lost is not None:
            return cls(Status.DONE, said.duration_ms, result=lost(str(job.jid), said.result_lost))
        if said.result is None:
            return cls(Status.DONE, said.duration_ms)
        result = bounded(said.result.encode("utf-8", "surrogatepass"), str(job.jid))
        return cls(Status.DONE, said.duration_ms, result=result)


def check_same(
    said: schema.OutcomeReply | schema_middleware.BodyReply, delivery: Delivery, job: SidekiqJob
) -> None:
    """Raises ValueError where the reply is about another job."""
    if said.delivery != f"{delivery.identity}/{delivery.token}":
        raise ValueError("it is about another delivery")
    own = job.fields.get("jid")
    # A jid that is not a text is any client's invention: Ruby may write it in another way.
    if isinstance(own, str) and not job.ruby_only and said.jid != own:
        raise ValueError("it is about another job")


def _payload(text: str, job: SidekiqJob) -> bytes:
    """The payload with which an interrupted job goes on, if it is of that job."""
    payload = text.encode("utf-8", "surrogatepass")
    found = SidekiqJob.parse(payload)
    if (found.jid, found.job_class, found.wrapped) != (job.jid, job.job_class, job.wrapped):
        raise ValueError("the payload is another job's")
    return payload


def _postpone(said: schema.PostponedOutcome, job: SidekiqJob) -> Postpone:
    """A queue of a name that no worker can serve is the job's own. The scheduler reads it in the payload."""
    queue = said.queue if queue_names.QUEUE_NAME.fullmatch(said.queue) else ""
    if said.seconds is None:
        return Postpone(queue=queue, pause_seconds=said.pause_seconds)
    payload = splice(job.raw, {"queue": queue}) if queue not in ("", job.queue) else b""
    return Postpone(at=time.time() + said.seconds, payload=payload, pause_seconds=said.pause_seconds)


def _next(said: schema.RetryNext | schema.DeadNext | schema.NoNext, error: tuple[str, str]) -> Next:
    match said:
        case schema.RetryNext():
            return Next("retry", said.fields, said.delay, said.delay_source == "sidekiq_retry_in")
        case schema.DeadNext():
            limits = DeadLimits(said.dead_limits.max_jobs, said.dead_limits.timeout_seconds)
            return Next("dead", said.fields, dead_limits=limits)
    return Next("none", {}, error=error)
