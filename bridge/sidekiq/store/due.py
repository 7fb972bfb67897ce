"""The store's side of schedule and retry: what is due, and its move to a queue."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import redis

from bridge.redis import scripts
from bridge.redis.outages import is_outage, outages, raise_first_error
from bridge.sidekiq import keys
from bridge.sidekiq.outcome.decision import DeadLimits
from bridge.sidekiq.outcome.notice import Notice
from bridge.sidekiq.store import lua
from bridge.sidekiq.store.claims import Due, Promoted
from bridge.sidekiq.store.notices import NoticeCalls

logger = logging.getLogger(__name__)

#: Payloads that one call of the script moves, at most, if it has more than one.
SLICE_BYTES = 32_768


class DueEntry(NamedTuple):
    """A due entry as its set holds it, and the queue and payload that it is pushed with."""

    member: bytes
    queue: str
    payload: bytes
    at: float | None = None
    """Epoch seconds for which client middleware put the job off; None for a push to ``queue``."""


def promote_call(source: str, entries: Sequence[DueEntry]) -> scripts.Call:
    """Move these entries in one step."""
    places: dict[str, int] = {}
    args: list[int | bytes] = []
    for member, queue, payload, _ in entries:
        args += places.setdefault(queue, len(places) + 1), member, payload
    names = (source, keys.QUEUES, *map(keys.queue, places))
    return scripts.Call(lua.load("schedule_promote"), names, args)


def _slices(entries: Sequence[DueEntry]) -> Iterator[Sequence[DueEntry]]:
    """Entries for one step each: Redis does nothing else meanwhile."""
    first = size = 0
    for place, entry in enumerate(entries):
        if size and size + len(entry.payload) > SLICE_BYTES:
            yield entries[first:place]
            first, size = place, 0
        size += len(entry.payload)
    if entries:
        yield entries[first:]


class DueEntries(NoticeCalls):
    """Reads and moves entries of ``schedule`` and ``retry``."""

    def due(self, limit: int, skip_retry: int = 0, skip_schedule: int = 0) -> Due:
        """Read the due entries of ``retry`` and ``schedule`` by Redis' clock, at most ``limit`` of each.

        The first ``skip_retry`` and ``skip_schedule`` due entries are passed over.
        """
        args = (limit, skip_retry, skip_schedule)
        now, later, retry, schedule = self._one(
            scripts.Call(lua.load("schedule_due"), (keys.RETRY, keys.SCHEDULE), args)
        )
        wait = max(0.0, float(later) - float(now)) if later else None
        return Due(float(now), tuple(retry), tuple(schedule), wait)

    def promote(self, source: str, entries: Sequence[DueEntry]) -> Promoted:
        """Move entries from a sorted set to their queues."""
        moved, errors = 0, list[redis.RedisError]()
        waiting = list(_slices(entries))
        while waiting:
            tried, waiting = waiting, []
            answers = scripts.run(self.client, [promote_call(source, some) for some in tried])
            for some, answer in zip(tried, answers, strict=True):
                if not isinstance(answer, redis.RedisError):
                    moved += answer
                elif len(some) > 1 and not is_outage(answer):
                    # One queue of a wrong type must not keep the jobs of all others from running.
                    waiting += [[entry] for entry in some]
                else:
                    errors.append(answer)
        if any(is_outage(error) for error in errors):
            raise_first_error(sorted(errors, key=is_outage, reverse=True))
        if errors:
            logger.error("%d due jobs stay in %s, the first for: %s", len(errors), source, errors[0])
        return Promoted(moved, len(errors))

    def push_promoted(self, identity: str, token: int, queue: str, payload: bytes) -> bool:
        """Push an entry that a worker took out of its set and did not settle. False when it was settled."""
        names = (keys.inflight(identity), keys.queue(queue), keys.QUEUES)
        return bool(self._one(scripts.Call(lua.load("settle_promoted"), names, (token, payload))))

    def has_old_workers(self) -> bool:
        """Whether a worker has a lease whose release runs client middleware before it owns an entry.

        Such a lease ends at a whole millisecond, see ``lease_renew.lua``.
        """
        with outages():
            found: Any = self.client.zrangebyscore(keys.LEASE, "(0", "+inf", withscores=True)
        return any(score == int(score) for _, score in found)

    def bury_entry(
        self,
        source: str,
        member: bytes,
        payload: bytes,
        limits: DeadLimits,
        now: float,
        notice: Notice | None = None,
    ) -> bool:
        """Move an entry that is not a job to ``dead``. False when another client took it."""
        args = (member, payload, now, now - limits.timeout_seconds, -limits.max_jobs)
        call = scripts.Call(lua.load("move_to_dead"), (source, keys.DEAD), args)
        return bool(self._one(self.told(call, notice, source, member) if notice else call))
