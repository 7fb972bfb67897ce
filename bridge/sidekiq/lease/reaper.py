"""The reaper: gives back what dead workers held."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge import errors
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.lease.other_leases import OtherLeases
from bridge.sidekiq.lease.stall import StallWatch
from bridge.sidekiq.outcome import poison_pill
from bridge.sidekiq.outcome.decision import DeadLimits, GiveBack
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.claims import Claimed
from bridge.sidekiq.store.settlement import Settlement
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)

#: Share of its term after which a lease is looked at. The keeper has renewed it by then, after a third.
RENEWED_BY_KEEPER = 0.4


@dataclass
class Reaper:
    """Looks for leases that have run out, and gives their holders' jobs back, each exactly once."""

    store: RedisStore
    lease: Lease
    dead_limits: Callable[[], DeadLimits] = DeadLimits
    progress: Callable[[], int] = lambda: 0
    report: Callable[[str, int], None] = lambda identity, progress: None
    """Told the identity and how far the worker has come, at each round: the keeper's line."""
    compare: Callable[[str, int], None] = lambda identity, in_flight: None
    """Told at each renewal how many jobs Redis holds for this worker."""
    reaped: Callable[[str], None] = lambda identity: None
    """Told the identity of each worker whose jobs were given back."""
    interval_seconds: float = 0.8
    """Every other round looks at the others' leases: one that its keeper has ended is found within 2 s."""

    stall: StallWatch = field(default_factory=StallWatch)
    recovered: int = 0
    poisoned: int = 0
    _rounds: int = 0

    def __post_init__(self) -> None:
        self.others = OtherLeases(self.store, self.lease)

    def round(self) -> float:
        """Keep the own lease, then look once. Returns seconds until the next look."""
        try:
            self._look()
        except errors.StoreUnavailable:
            self.lease.interrupt()
            raise
        return self.interval_seconds

    def _look(self) -> None:
        self.lease.ensure()
        progress = self.progress()
        try:
            # First: whatever keeps the report from being made must not cost the lease.
            self._keep(progress)
        finally:
            self.report(self.lease.identity, progress)  # that the worker lives is true in an outage as well
        self._rounds += 1
        if self._rounds % 2 == 1:
            for identity in self.others.over():
                self._reap_or_report(identity)

    def _keep(self, progress: int) -> None:
        alive = self.stall.moves(progress, time.monotonic())
        if alive and self.lease.age_seconds >= self.lease.length_seconds * RENEWED_BY_KEEPER:
            self.compare(*self.lease.keep())

    def _reap_or_report(self, identity: str) -> None:
        try:
            self.reap(identity)
        except errors.StoreUnavailable:
            raise
        except (errors.StoreError, ValueError) as error:
            # An entry that this release cannot read: the other dead workers' jobs must not wait for a person.
            logger.error("cannot take the jobs of %s, which died: %s", identity, error)

    def reap(self, identity: str) -> int:
        """Give back all that one dead worker held, the first claimed to run first. Returns how many."""
        self.store.fence_all_arrived(identity)
        jobs, unbegun = self.store.inflight(identity), self.store.unbegun(identity)
        moved = sum(
            self._recover(identity, claimed, begun=claimed.token not in unbegun) for claimed in reversed(jobs)
        )
        self.store.leave(identity, reaped=True)
        if unbegun:
            self.store.forget_unbegun(identity, *unbegun)
        self.reaped(identity)
        if moved:
            logger.warning("recovered %d jobs from %s, which died", moved, identity)
        return moved

    def _recover(self, identity: str, claimed: Claimed, *, begun: bool = True) -> bool:
        if claimed.token < 0:
            # It was being promoted: no run began, and its middleware may have run. So it is only pushed.
            return self._push_promoted(identity, claimed)
        settlement = self._settlement(identity, claimed, GiveBack(unknown_outcome=begun))
        try:
            if begun:
                outcome = self.store.recover(settlement, self.dead_limits(), self.store.now())
            else:
                outcome = self.store.give_back(settlement)
        except errors.StoreUnavailable:
            raise
        except errors.StoreError as error:
            # Its queue is of a wrong type: it stays where it is, and the others must not.
            logger.error("cannot recover jid=%s to queue %s: %s", settlement.jid, claimed.queue, error)
            return False
        self.recovered += outcome > 0
        if outcome == 2:
            self.poisoned += 1
            logger.error("buried jid=%s: its worker died too often (poison pill)", settlement.jid)
        return outcome > 0

    def _push_promoted(self, identity: str, claimed: Claimed) -> bool:
        try:
            pushed = self.store.push_promoted(identity, claimed.token, claimed.queue, claimed.payload)
        except errors.StoreUnavailable:
            raise
        except errors.StoreError as error:
            logger.error("cannot push a due job of %s to queue %s: %s", identity, claimed.queue, error)
            return False
        self.recovered += pushed
        return pushed

    def _settlement(self, identity: str, claimed: Claimed, decision: GiveBack) -> Settlement:
        queue, payload, token = claimed
        try:
            job = SidekiqJob.parse(payload)
        except errors.PayloadError:
            # Unreadable bytes go back to their queue, where the next claim buries them.
            return Settlement(identity, token, queue, payload, decision)
        effects = self.store.effects.of(job, decision, identity, token)
        jid, buried = job.jid or "", poison_pill.payload(job)
        return Settlement(identity, token, queue, payload, decision, jid, buried, effects=effects)
