"""A due entry on its way from ``retry`` or ``schedule`` to its queue, and what middleware does to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.sidekiq.payload import splice
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.due import DueEntry


@dataclass(frozen=True, slots=True)
class Passed:
    """The effect of client middleware on a due job: fields it set and removed, or that it halted."""

    fields: Mapping[str, Any]
    removed: tuple[str, ...]
    halted: bool = False


UNCHANGED = Passed({}, ())


class Middleware(Protocol):
    """The app's client middleware, which Sidekiq's own poller runs as well."""

    @property
    def active(self) -> bool:
        """Whether the app has any beyond Sidekiq's own."""

    def __call__(self, members: Sequence[bytes]) -> Sequence[Passed]:
        """Run it once for each of the first entries, at least for one. The caller asks again for the others.

        Middleware acts, so the caller must own the entries.
        """


class NoMiddleware:
    """An app without client middleware."""

    active = False

    def __call__(self, members: Sequence[bytes]) -> Sequence[Passed]:
        """Change nothing."""
        return [UNCHANGED] * len(members)


def due_entry(member: bytes, passed: Passed, stamp: float | int) -> DueEntry:
    """The entry as it is pushed, or put off; ``stamp`` is now. Raises PayloadError, or ValueError for NaN."""
    job = SidekiqJob.parse(member)
    if passed is not UNCHANGED:
        job = SidekiqJob.parse(splice.remove(job.with_fields(passed.fields), passed.removed))
    queue = job.queue or "default"
    if "at" in passed.fields:
        return DueEntry(
            member, queue, splice.remove(job.raw, ("at", "enqueued_at")), _time(passed.fields["at"])
        )
    return DueEntry(member, queue, job.with_fields(promotion_fields(job, queue, stamp)))


def _time(value: Any) -> float:
    """Client middleware puts a job off by this value of ``at``, as a throttle does. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("at is not a time")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise ValueError("at is not a finite time")
    return seconds


def promotion_fields(job: SidekiqJob, queue: str, stamp: float | int) -> dict[str, object]:
    """The fields that Sidekiq's client sets when it pushes an entry of a set; ``stamp`` is now."""
    fields: dict[str, object] = {}
    if job.fields.get("retry") is None:
        fields["retry"] = True
    if job.fields.get("queue") != queue:
        fields["queue"] = queue
    if "created_at" not in job.fields:
        fields["created_at"] = stamp
    return fields | {"enqueued_at": stamp}
