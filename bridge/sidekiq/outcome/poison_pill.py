"""The poison pill: a job that was in the hands of a worker each time that worker died."""

from __future__ import annotations

import time

from bridge.errors import PayloadError
from bridge.sidekiq.outcome.notice import Death, Notice
from bridge.sidekiq.payload.job import SidekiqJob

ERROR_CLASS = "Bridge::PoisonPill"

REASON = (
    "found as often in 72 hours as BRIDGE_POISON_PILL_LIMIT allows in the hands of a worker or sidecar that "
    "had died, or stopped without being asked to: the job itself may be the reason"
)
#: For Ruby. The payload that goes with it has the error fields already.
NOTICE = Notice(ERROR_CLASS, REASON, death=Death.EXHAUSTED)


def payload(job: SidekiqJob) -> bytes:
    """The job as it is buried, with the reason in its error fields; empty when ``dead: false`` forbids it."""
    if job.fields.get("dead") is False:
        return b""
    known = {} if "failed_at" in job.fields else {"failed_at": time.time()}
    fields = {"error_class": ERROR_CLASS, "error_message": REASON, **known}
    try:
        return job.with_fields(job.entry_fields(fields))
    except (PayloadError, ValueError):  # a settlement that cannot be written would stop the whole worker
        return job.raw
