"""Other workers' leases: which are over, and which jobs in flight have none."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping

from bridge.sidekiq import fleet
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.lease.redis_clock import Clock, steady
from bridge.sidekiq.store.leases import LeaseTable
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)

#: The longest lease that can be set. One whose length is not told (of an old release), or that a person has
#: made endless, is taken for it.
LONGEST_SECONDS = 600.0
#: Beyond a lease's length, for answers that are slow.
MARGIN_SECONDS = 1.0


def length_seconds(end: float) -> float:
    """How long this lease is; see ``lease_renew.lua``."""
    return (end % 1) * 1024 or LONGEST_SECONDS if math.isfinite(end) else LONGEST_SECONDS


class OtherLeases:
    """For the reaper's thread.

    A lease is over by Redis' TIME, or because its end did not change for its whole length by our own clock.
    The second rule needs no wall clock: after Redis' clock went back an hour, leases last an hour longer.

    Each look reads the leases that have ended, and those that end later than one that begins now would. Both
    rules need no others. Now and then a look reads all leases, to learn of those that Redis loses: the more
    there are, the rarer, because all workers do it. While jobs are known without a lease, each look does.
    """

    def __init__(self, store: RedisStore, lease: Lease, clock: Clock = steady) -> None:
        self._store = store
        self._table = LeaseTable(store.client)
        self._lease = lease
        self._clock = clock
        self._seen: dict[str, tuple[float, float]] = {}
        """Identity to the end of its lease, and since when this process has seen that same end."""
        self._orphans: dict[str, float] = {}
        """Identities that hold jobs without a lease, and when they may be taken for dead."""
        self._cursor: int | None = 0
        """Of the search for such identities, once in a process; None once it is through."""
        self._read_at = -math.inf
        """When to read all leases."""
        self._longest = 0.0
        """Length in seconds of the longest lease at the last such read."""

    def over(self) -> list[str]:
        """Identities whose jobs are to be given back; from now on they can claim and renew nothing.

        Raises StoreUnavailable.
        """
        ends = self._look()
        self._search()
        lost = self._adopt(ends)
        unchanged = self._unchanged(ends) if self._lease.may_reap else []
        if not unchanged and not self._has_suspects(ends):
            return lost
        window = self._lease.redis_clock.window if self._lease.may_reap else None
        found = self._store.expired_leases(self._lease.identity, window=window, unchanged=unchanged)
        return list(dict.fromkeys([*lost, *found]))

    def _look(self) -> dict[str, float]:
        """All leases of others, or those of them that may be over."""
        now_ms = self._lease.redis_clock.now_ms
        if now_ms is None or self._orphans or self._clock() >= self._read_at:
            return self._read_all()
        longest = max(self._longest, self._lease.length_seconds)
        ends = self._table.ends_outside(now_ms, now_ms + (longest + MARGIN_SECONDS) * 1000)
        ends.pop(self._lease.identity, None)
        self._note(ends)
        return ends

    def _read_all(self) -> dict[str, float]:
        ends = self._table.ends()
        rest = fleet.rest_seconds(len(ends), few=fleet.FEW_PROCESSES)
        self._read_at = self._clock() + rest if rest else -math.inf
        ends.pop(self._lease.identity, None)
        told = [length_seconds(end) for end in ends.values() if 0 < end < math.inf]
        self._longest = max(told, default=0.0)
        gone = {name: self._seen.pop(name)[0] for name in self._seen.keys() - ends.keys()}
        self._note(ends)
        self._suspect(gone, {name: length_seconds(end) for name, end in gone.items() if end > 0})
        return ends

    def _note(self, ends: Mapping[str, float]) -> None:
        """Note since when each of these ends was seen."""
        now = self._clock()
        for name, end in ends.items():
            if name not in self._seen or self._seen[name][0] != end:
                self._seen[name] = end, now

    def _has_suspects(self, ends: Mapping[str, float]) -> bool:
        now = self._lease.redis_clock.now_ms
        return any(end <= (now or end) for end in ends.values())

    def _unchanged(self, ends: Iterable[str]) -> list[tuple[str, float]]:
        """Of the leases that were just read, those that are over by the second rule."""
        now, held_since = self._clock(), self._lease.held_since
        return [
            (name, end)
            for name, (end, since) in ((name, self._seen[name]) for name in ends)
            if end > 0 and now - max(since, held_since) > length_seconds(end) + MARGIN_SECONDS
        ]

    # -- jobs in flight without a lease: ``bridge:lease`` was lost, alone

    def _search(self) -> None:
        """One step of a search through all keys: no worker was there when the leases were lost."""
        if self._cursor is None:
            return
        cursor, found = self._table.search(self._cursor)
        self._cursor = cursor or None
        self._suspect(found, {})

    def _suspect(self, names: Iterable[str], lengths: Mapping[str, float]) -> None:
        now = self._clock()
        for name in self._table.holders(set(names) - self._orphans.keys() - self._seen.keys()):
            if name != self._lease.identity:
                wait = max(lengths.get(name, 0.0), self._lease.length_seconds)
                self._orphans[name] = now + wait + MARGIN_SECONDS

    def _adopt(self, ends: Mapping[str, float]) -> list[str]:
        """A holder that lives takes its lease again when it renews; the lease of another is ended.

        This worker reaps it in this same round: a reaper of an older release may remove the lease again, and
        leave lists that it does not know.
        """
        ended = []
        for name, dead_at in list(self._orphans.items()):
            if name in ends:
                del self._orphans[name]
            elif self._clock() >= dead_at and self._lease.may_reap:
                del self._orphans[name]
                logger.warning("%s holds jobs and has no lease: Redis lost it, and no worker renews it", name)
                if self._table.end_lost(name):
                    ended.append(name)
                    # So the jobs are looked for again if this round fails.
                    self._seen[name] = (self._lease.length_seconds / 1024, self._clock())
        return ended
