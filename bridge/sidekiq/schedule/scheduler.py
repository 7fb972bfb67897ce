"""The scheduler: moves due entries of ``retry`` and ``schedule`` to their queues.

Follows ``scheduled.rb``: ``retry`` before ``schedule``; ``enqueued_at`` is now; a missing ``retry`` becomes
true, a missing ``queue`` becomes "default". Unlike there, an entry leaves its set in the same step in which
it enters its queue.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge import errors
from bridge.sidekiq import keys
from bridge.sidekiq.outcome.decision import DeadLimits
from bridge.sidekiq.payload import splice
from bridge.sidekiq.payload import timestamps as clock
from bridge.sidekiq.payload.job import SidekiqJob, invalid_entry
from bridge.sidekiq.schedule.due_watch import DueWatch
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)

BATCH = 100


@dataclass(frozen=True, slots=True)
class Passed:
    """What client middleware did to a due job: top-level fields it set and removed, or that it halted."""

    fields: Mapping[str, Any]
    removed: tuple[str, ...]
    halted: bool = False


UNCHANGED = Passed({}, ())


def unchanged(members: Sequence[bytes]) -> Sequence[Passed]:
    """No middleware."""
    return [UNCHANGED] * len(members)


@dataclass
class Scheduler:
    """Promotes due entries, each exactly once however many processes compete (Ruby's own pollers too)."""

    store: RedisStore
    timestamps: Callable[[], clock.Timestamps]
    dead_limits: Callable[[], DeadLimits] = DeadLimits
    rng: random.Random = field(default_factory=random.Random)

    middleware: Callable[[Sequence[bytes]], Sequence[Passed]] = unchanged
    """The app's client middleware, which Sidekiq's own poller runs as well."""
    quiet: Callable[[], bool] = lambda: False
    """Whether this worker was told to be quiet: then it promotes nothing, as Sidekiq's poller does."""
    longest_sleep_seconds: float = 1.0
    """Another process may add an entry that is due sooner than what was seen."""
    watch: DueWatch = field(default_factory=DueWatch)
    """Tells when a look is worth its commands; without a client each one is."""
    promoted: int = 0

    def round(self) -> float:
        """Promote what is due. Returns seconds to sleep."""
        if self.quiet():
            return self.longest_sleep_seconds
        if not self.watch.worth_a_look():
            return self._sleep(self.watch.due_in_seconds)
        due = self.store.due(BATCH)
        moved = self._promote(keys.RETRY, due.retry, due.now)
        moved += self._promote(keys.SCHEDULE, due.schedule, due.now)
        self.promoted += moved
        self.watch.seen(0.0 if due.retry or due.schedule else due.next_in_seconds)
        if moved and BATCH in (len(due.retry), len(due.schedule)):
            return 0.0
        return self._sleep(due.next_in_seconds)

    def _sleep(self, next_in_seconds: float | None) -> float:
        if next_in_seconds is not None and next_in_seconds < self.longest_sleep_seconds:
            # A little jitter, so that many workers do not all wake for the same entry.
            return next_in_seconds + self.rng.uniform(0.001, 0.05)
        return self.longest_sleep_seconds * self.rng.uniform(0.8, 1.0)

    def _promote(self, source: str, members: Sequence[bytes], now: float) -> int:
        passed = self.middleware(members) if members else []
        halted = [member for member, one in zip(members, passed, strict=True) if one.halted]
        dropped = self.store.drop(source, halted) if halted else 0
        going = [(member, one) for member, one in zip(members, passed, strict=True) if not one.halted]
        return dropped + self._move(source, going, now)

    def _move(self, source: str, going: Sequence[tuple[bytes, Passed]], now: float) -> int:
        entries = [entry for member, one in going if (entry := self._entry(source, member, one, now))]
        return self.store.promote(source, entries) if entries else 0

    def _entry(
        self, source: str, member: bytes, passed: Passed, now: float
    ) -> tuple[bytes, str, bytes] | None:
        try:
            job = SidekiqJob.parse(member)
            if passed is not UNCHANGED:
                job = SidekiqJob.parse(splice.remove(job.with_fields(passed.fields), passed.removed))
            queue = job.queue or "default"
            return member, queue, job.with_fields(promotion_fields(job, queue, self.timestamps().stamp(now)))
        except errors.PayloadError as error:
            self._bury(source, member, error, now)
            return None

    def _bury(self, source: str, member: bytes, error: errors.PayloadError, now: float) -> None:
        logger.error("buried a due entry of %s that is no job: %s", source, error)
        payload = member
        if isinstance(error, errors.InvalidPayload):
            payload = invalid_entry(member, "default", str(error), now, self.timestamps())
        try:
            self.store.bury_entry(source, member, payload, self.dead_limits(), now)
        except errors.StoreUnavailable:
            raise
        except errors.StoreError as refused:
            # It stays where it is; the due jobs behind it must not wait for it.
            logger.error("could not bury it: %s", refused)


def promotion_fields(job: SidekiqJob, queue: str, stamp: float | int) -> dict[str, object]:
    """The fields that Sidekiq's client sets when it pushes what stood in a set; ``stamp`` is now."""
    fields: dict[str, object] = {}
    if job.fields.get("retry") is None:
        fields["retry"] = True
    if job.fields.get("queue") != queue:
        fields["queue"] = queue
    if "created_at" not in job.fields:
        fields["created_at"] = stamp
    return fields | {"enqueued_at": stamp}
