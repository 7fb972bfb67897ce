"""The scheduler: moves due entries of ``retry`` and ``schedule`` to their queues.

Follows ``scheduled.rb``: ``retry`` before ``schedule``; ``enqueued_at`` is now; a missing ``retry`` becomes
true, a missing ``queue`` becomes "default". Unlike there, an entry leaves its set in the same step in which
it enters its queue, or this worker's in-flight hash where the app has client middleware.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bridge import errors
from bridge.sidekiq import keys
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.outcome.decision import DeadLimits
from bridge.sidekiq.outcome.notice import malformed
from bridge.sidekiq.payload import timestamps as clock
from bridge.sidekiq.payload.invalid_entry import invalid_entry
from bridge.sidekiq.schedule.due_entry import UNCHANGED, Middleware, NoMiddleware, due_entry
from bridge.sidekiq.schedule.due_watch import DueWatch
from bridge.sidekiq.schedule.owned_promotion import OwnedPromotion
from bridge.sidekiq.store.due import DueEntry
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)

BATCH = 100
#: The first rest after another process was quicker. Each further one is longer, up to the longest sleep.
FIRST_REST_SECONDS = 0.05
#: Seconds between two attempts at more than a page of entries that Redis refuses to move.
RETRY_REFUSED_SECONDS = 10.0


@dataclass
class _Page:
    """The offset of the next look at one set: behind the entries that Redis refused to move."""

    skip: int = 0
    refused: int = 0

    def turn(self, found: int) -> bool:
        """After one page with ``found`` entries. Returns whether more may follow at once."""
        full, self.skip, self.refused = found == BATCH, self.skip + self.refused, 0
        return full


@dataclass
class Scheduler:
    """Promotes due entries, each exactly once however many processes compete (Ruby's own pollers too)."""

    store: RedisStore
    timestamps: Callable[[], clock.Timestamps]
    dead_limits: Callable[[], DeadLimits] = DeadLimits
    rng: random.Random = field(default_factory=random.Random)

    lease: Lease | None = None
    """The right to own entries while client middleware runs for them; needed where there is any."""
    middleware: Middleware = field(default_factory=NoMiddleware)
    quiet: Callable[[], bool] = lambda: False
    """Whether this worker was told to be quiet: then it promotes nothing, as Sidekiq's poller does."""
    longest_sleep_seconds: float = 1.0
    """Another process may add an entry that is due sooner than what was seen."""
    watch: DueWatch = field(default_factory=DueWatch)
    """Tells when a look is worth its commands; without a client each one is."""
    promoted: int = 0
    _rest: float = 0.0
    """Seconds by which this worker looks later than an entry is due; 0 for the quickest of a fleet."""
    _is_quickest: bool = False
    """Whether this worker has promoted most of what was due at the last look."""
    _next_due_at: float = math.inf
    """When the next entry is due that the last look has seen, by the monotonic clock."""

    def __post_init__(self) -> None:
        self.owned = OwnedPromotion(self.store, self.lease, self.middleware) if self.lease else None
        self._pages = {keys.RETRY: _Page(), keys.SCHEDULE: _Page()}
        self._pass_began = time.monotonic()

    @property
    def promoting(self) -> frozenset[int]:
        """Tokens of the entries that this worker has taken out of their sets and not settled."""
        return self.owned.tokens if self.owned is not None else frozenset()

    def release(self) -> None:
        """The worker ends: push what it has taken."""
        if self.owned is not None:
            self.owned.release()

    def round(self) -> float:
        """Promote what is due. Returns seconds to sleep."""
        if self.quiet():
            self._settle_owned()
            return self.longest_sleep_seconds
        if not self.owned and not self.watch.worth_a_look():
            return self._sleep(self.watch.due_in_seconds)
        retry, schedule = self._pages.values()
        due = self.store.due(BATCH, retry.skip, schedule.skip)
        moved = self._promote(keys.RETRY, due.retry, due.now)
        moved += self._promote(keys.SCHEDULE, due.schedule, due.now)
        self.promoted += moved
        waiting = due.retry or due.schedule or retry.skip or schedule.skip
        self.watch.seen(0.0 if waiting else due.next_in_seconds)
        left = self.owned.left if self.owned else 0
        found = len(due.retry), len(due.schedule)
        was_slow = self._was_slow(sum(found), moved)
        if moved or was_slow:
            self._is_quickest = not was_slow
            longer = min(self.longest_sleep_seconds, 2 * self._rest or FIRST_REST_SECONDS)
            self._rest = longer if was_slow else self._rest / 2 if self._rest > FIRST_REST_SECONDS else 0.0
        next_in = due.next_in_seconds
        self._next_due_at = math.inf if next_in is None else time.monotonic() + next_in
        more = self._turn_pages(found, moved) or bool(left)
        if more and not was_slow:
            return 0.0
        return self._sleep(0.0 if more else next_in)

    def _was_slow(self, found: int, moved: int) -> bool:
        """Whether another process was quicker. All wait for the same entry, and all but the quickest rest."""
        if not found:
            return time.monotonic() >= self._next_due_at
        tried = found - sum(page.refused for page in self._pages.values())
        # Slow middleware takes few of what it finds.
        return moved < (min(1, tried) if self.middleware.active else tried / 2)

    def _settle_owned(self) -> None:
        if self.owned:
            self.owned.settle_open(0.0)

    def _turn_pages(self, found: tuple[int, int], moved: int) -> bool:
        """Whether to read the next page at once. Refused entries stay in front, so it begins behind them."""
        refused = any(page.refused for page in self._pages.values())
        more = [page.turn(count) for page, count in zip(self._pages.values(), found, strict=True)]
        if any(more) and (moved or refused):
            return True
        late = time.monotonic() - self._pass_began >= RETRY_REFUSED_SECONDS
        if late:
            self._pass_began = time.monotonic()
        for page in self._pages.values():
            if late or page.skip < BATCH:
                page.skip = 0
        return False

    def _sleep(self, next_in_seconds: float | None) -> float:
        if next_in_seconds is not None and next_in_seconds < self.longest_sleep_seconds:
            # A little jitter, so that many workers do not all wake for the same entry.
            jitter = self.rng.uniform(0.001, 0.005 if self._is_quickest else 0.05)
            rested = next_in_seconds + jitter + self._rest * self.rng.uniform(0.5, 1.0)
            return max(next_in_seconds + jitter, min(rested, self.longest_sleep_seconds))
        return self.longest_sleep_seconds * self.rng.uniform(0.8, 1.0)

    def _promote(self, source: str, members: Sequence[bytes], now: float) -> int:
        stamp = self.timestamps().stamp(now)
        entries = [entry for member in members if (entry := self._entry(source, member, now, stamp))]
        if self.owned is None or not (self.middleware.active or self.owned):
            return self._move(source, entries)
        # A newline ends the queue's name in an in-flight entry: a name that has one cannot be in it.
        odd = [entry for entry in entries if "\n" in entry.queue]
        owned = [entry for entry in entries if "\n" not in entry.queue]
        moved = self._move(source, odd) + self.owned.promote(source, owned, now, stamp)
        self._pages[source].refused += self.owned.refused
        return moved

    def _move(self, source: str, entries: Sequence[DueEntry]) -> int:
        if not entries:
            return 0
        moved, refused = self.store.promote(source, entries)
        self._pages[source].refused += refused
        return moved

    def _entry(self, source: str, member: bytes, now: float, stamp: float | int) -> DueEntry | None:
        try:
            return due_entry(member, UNCHANGED, stamp)
        except errors.PayloadError as error:
            self._bury(source, member, error, now)
            return None

    def _bury(self, source: str, member: bytes, error: errors.PayloadError, now: float) -> None:
        payload = member
        if isinstance(error, errors.InvalidPayload):
            payload = invalid_entry(member, "default", str(error), now, self.timestamps())
        try:
            if self.store.bury_entry(source, member, payload, self.dead_limits(), now, malformed(str(error))):
                logger.error("buried a due entry of %s that is not a job: %s", source, error)
        except errors.StoreUnavailable:
            raise
        except errors.StoreError as refused:
            # It stays where it is; the due jobs behind it must not wait for it.
            self._pages[source].refused += 1
            logger.error("could not bury a due entry of %s that is not a job: %s", source, refused)
