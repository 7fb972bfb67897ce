"""The sidecar's answer to a job, as a typed value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn

from bridge import errors
from bridge.sidekiq.outcome.decision import Bury, DeadLimits, Decision, Discard, Retry
from bridge.sidekiq.payload.job import SidekiqJob


class Status(Enum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    SHUTDOWN = "shutdown"


#: What the sidecar raises inside a job that was revoked.
CANCELLED = "Bridge::Cancelled"
#: A reply that says nothing but that the job was performed, as the sidecar writes it: nearly all are this.
_DONE = re.compile(
    rb'\{"status":"done","jid":(?:"[\w:./-]*"|null),"delivery":"[\w:./-]*","duration_ms":(\d+(?:\.\d+)?)\}'
)

#: What Sidekiq's own defaults say.
_DEFAULT_LIMITS = DeadLimits()


def done_ms(body: bytes) -> float | None:
    """Milliseconds of the run, of a reply that says "done" and nothing else. ``None`` may still be that."""
    found = _DONE.fullmatch(body)
    return None if found is None else float(found[1])


@dataclass(frozen=True, slots=True)
class Next:
    """What Ruby decided for a failed job; ``delay_seconds`` and ``custom_delay`` for a retry only."""

    place: str
    fields: Mapping[str, Any]
    delay_seconds: float = 0.0
    custom_delay: bool = False
    dead_limits: DeadLimits = _DEFAULT_LIMITS

    def decision(self, job: SidekiqJob, now: float, default_delay_seconds: float | None = None) -> Decision:
        """The decision, with the fields spliced into the job's own bytes.

        ``default_delay_seconds`` replaces Sidekiq's curve (Celery's backoff), never a delay of the job's own.
        """
        if self.place == "none":
            return Discard()
        payload = job.with_fields(self.fields)
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
    asked: bool = True
    """False for a shutdown that nobody wanted: the job raised Sidekiq::Shutdown by itself."""

    @property
    def was_cancelled(self) -> bool:
        """Whether a person ended it, for good."""
        return self.error_class == CANCELLED and self.next is not None and self.next.place == "none"

    @classmethod
    def parse(cls, body: bytes, sent: str | None = None) -> JobResult:
        """Read a reply's body; ``sent`` is the delivery that it must be about, where only that tells.

        Raises:
            OutcomeUnknown: it is not what the protocol says, or about another delivery.
        """
        done = _DONE.fullmatch(body) if sent is None else None
        if done is not None:
            return cls(Status.DONE, float(done[1]))
        try:
            reply = json.loads(body, parse_constant=_refuse)
            if sent is not None and reply["delivery"] != sent:
                raise ValueError(f"it is about {reply['delivery']!r}, and {sent!r} was sent")
            return cls._from_reply(reply)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise errors.OutcomeUnknown(f"the sidecar's reply makes no sense ({error!r})") from error

    @classmethod
    def _from_reply(cls, reply: Mapping[str, Any]) -> JobResult:
        status = Status(reply["status"])
        duration = float(reply["duration_ms"])
        if status is Status.FAILED:
            error = reply["error"]
            return cls(status, duration, str(error["class"]), str(error["message"]), _next(reply["next"]))
        if status is Status.INTERRUPTED:
            return cls(status, duration, payload=reply["payload"].encode("utf-8", "surrogatepass"))
        return cls(status, duration, asked=reply.get("asked") is not False)


def _next(reply: Mapping[str, Any]) -> Next:
    place = reply["place"]
    if place not in ("retry", "dead", "none"):
        raise ValueError(f"place {place!r}")
    if place == "none":
        return Next(place, {})
    fields = dict(reply["fields"])
    if "queue" in fields:
        # Sidekiq stores a retry_queue as it is; the Retries page of 8.1 raises at a queue that is no text.
        fields["queue"] = str(fields["queue"])
    limits = reply.get("dead_limits") or {}
    return Next(
        place,
        fields,
        _finite(reply["delay"]) if place == "retry" else 0.0,
        reply.get("delay_source") == "sidekiq_retry_in",
        DeadLimits(int(limits.get("max_jobs", 10_000)), int(limits.get("timeout_seconds", 15_552_000))),
    )


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no delay")
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
