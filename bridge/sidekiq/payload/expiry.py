"""The moment until which a job may begin: ``expires_in`` and ``expiry`` of Sidekiq Pro.

Pro's client adds ``expiry`` (epoch seconds) to a job with ``expires_in`` (seconds). Its server drops a job
that would begin later, as if the job had succeeded. A job that has begun runs as long as it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.sidekiq.payload import timestamps
from bridge.sidekiq.payload.job import SidekiqJob

SPAN = "expires_in"
MOMENT = "expiry"
#: A job with neither cannot expire.
FIELDS = frozenset((SPAN, MOMENT))
#: More is a moment, and not a span, as Pro says of it.
LONGEST_SPAN_SECONDS = 1_000_000_000


def is_span(value: object) -> bool:
    """Whether this is a number of seconds that a job can be given."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value <= LONGEST_SPAN_SECONDS  # type: ignore[operator]


def moment(job: SidekiqJob) -> float | None:
    """Epoch seconds after which the job may not begin; None: it may always.

    A job without ``expiry`` counts from the push to its queue, a retry from its creation.
    """
    found = timestamps.seconds(job.fields.get(MOMENT))
    span = job.fields.get(SPAN)
    if found is not None or not is_span(span):
        return found
    since = job.created_at if job.retry_count is not None else job.enqueued_at or job.created_at
    return None if since is None else since + float(span)  # type: ignore[arg-type]


def is_over(job: SidekiqJob, now: float) -> bool:
    """Whether the job has expired; ``now`` in epoch seconds. Two lookups for a job that cannot expire."""
    fields = job.fields
    if SPAN not in fields and MOMENT not in fields:
        return False
    end = moment(job)
    return end is not None and now > end


def stamped(options: Mapping[str, Any], begins: float) -> Mapping[str, Any]:
    """The fields of a new job, with its ``expiry``. ``begins``: epoch seconds of its push, or of its time."""
    if SPAN not in options:
        return options
    return {**options, MOMENT: begins + float(options[SPAN])}
