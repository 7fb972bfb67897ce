"""The lease: this worker's right to hold jobs, renewed while it lives and makes progress."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge import errors
from bridge.sidekiq.lease.redis_clock import RedisClock, steady
from bridge.sidekiq.lease.shared_lease import SharedLease
from bridge.sidekiq.store.claims import LeaseState, Standing
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)

#: How many forks lie between the first process and this one. To compare it costs a job no system call.
_forks = 0

#: A pause after an error, an answer that times out and a connection that does: 1 s, 5 s and 3 s.
LATEST_RENEWAL_SECONDS = 9.0
#: A jump of Redis' clock by this share of a term leaves every lease that is renewed in time.
HARMLESS_JUMP = 0.1


@dataclass
class Lease:
    """A lease on ``identity``.

    A worker that is declared dead never gets its identity back: it goes on under a new one, and what it still
    runs under the old one is fenced.
    """

    store: RedisStore
    new_identity: Callable[[], str]
    length_seconds: float = 15.0
    clock: Callable[[], float] = steady

    identity: str = field(init=False)

    def __post_init__(self) -> None:
        self.identity = self.new_identity()
        self._lock = threading.Lock()
        self._held_since: float | None = None
        self._forks = _forks
        self._renewed_at = 0.0
        self._end_ms = 0.0
        self.redis_clock = RedisClock(self._length_ms * HARMLESS_JUMP)
        self._shared = SharedLease(self.clock)
        self.is_taken = False
        """Whether it was ever taken."""
        self._is_leaving = False
        """Whether it ends: the reaper's thread, which stops a little later, must not take it again."""
        self.ended = False
        """Whether it was ended in order."""

    def register(self) -> None:
        """Take the lease. Raises StoreUnavailable when Redis cannot answer."""
        sent_at = self.clock()
        self.store.lease(self.identity, self._length_ms, register=True)
        self._forks = _forks
        self._held_since, self.is_taken = self.clock(), True
        self._note_renewal(sent_at)
        self._end_ms = self._look(self.identity).end_ms

    def ensure(self) -> None:
        """Take the lease, if it never was."""
        if not self.is_taken:
            self.register()

    def renew(self) -> None:
        """Renew the lease, or go on under another identity when it is gone."""
        if self._is_leaving:
            return
        identity, sent_at = self.identity, self.clock()
        state = self.store.lease(identity, self._length_ms)
        if state is LeaseState.FENCED:
            self._replace(identity)
            return
        self._note_renewal(sent_at)
        self._end_ms = self._look(self.identity).end_ms

    def keep(self) -> tuple[str, int]:
        """Renew the lease, unless the keeper has done so since this was last asked: to look costs less.

        Returns the identity that was looked at, and how many jobs Redis holds for it.
        """
        identity, sent_at = self.identity, self.clock()
        standing = self._look(identity)
        if standing.end_ms <= self._end_ms:
            self.renew()
        else:
            self._end_ms = standing.end_ms
            # The keeper renewed it a while ago: the term counts from then.
            left = min((standing.end_ms - standing.now_ms) / 1000, self.length_seconds)
            self._note_renewal(sent_at + left - self.length_seconds)
        return identity, standing.in_flight

    def _look(self, identity: str) -> Standing:
        """Look, and compare Redis' clock with ours: after a jump all need time to renew by the new one."""
        began = self.redis_clock.begin()
        standing = self.store.standing(identity)
        if jump := self.redis_clock.compare(standing.now_ms, began):
            logger.warning(
                "the clock of Redis jumped by %+.1f s; no worker is taken for dead before all could renew",
                jump / 1000,
            )
            self._end_ms = 0.0  # the keeper's next one may be earlier
            self.interrupt()
        return standing

    def _note_renewal(self, renewed_at: float) -> None:
        if self.clock() - self._renewed_at > self.length_seconds:
            self._held_since = self.clock()
        self._renewed_at = renewed_at
        self._shared.write(self.identity, renewed_at + self.length_seconds)

    def lost(self, state: LeaseState, identity: str) -> None:
        """A claim under ``identity`` was refused: renew a lease that ran out, replace one that is gone."""
        if identity == self.identity:
            self.renew()

    def _replace(self, identity: str) -> None:
        with self._lock:
            if identity != self.identity or self._is_leaving:
                return  # another thread has replaced it already, or has ended it
            logger.warning(
                "FENCED: the lease of %s is gone (frozen too long, or Redis lost it); going on as a new one",
                self.identity,
            )
            self.identity = self.new_identity()
            self.register()

    def holds(self, identity: str) -> bool:
        """Whether a job that was claimed under this identity may still be begun.

        A process that was frozen for longer than a term wakes up with jobs that others have taken over: Redis
        is asked before the next begins. An identity that was lost is never held again. A pool process looks
        at what its parent knows.
        """
        if self._forks != _forks:
            return self._shared.holds(identity)
        if self._held_since is None:
            return True  # this process never took a lease
        if identity != self.identity:
            return False
        if self.clock() - self._renewed_at <= self.length_seconds:
            return True
        try:
            self.renew()
        except errors.StoreError:
            return False
        return identity == self.identity

    def interrupt(self) -> None:
        """Redis did not answer, or its clock jumped: the time for which the lease was held begins again."""
        if self._held_since is not None:
            self._held_since = self.clock()

    @property
    def held_since(self) -> float:
        """Since when it is held without a gap, an outage, or a jump of Redis' clock; infinity: not yet."""
        return float("inf") if self._held_since is None else self._held_since

    @property
    def may_reap(self) -> bool:
        """Whether the lease was held without a gap for two thirds of its term.

        Only then may this worker declare others dead: after an outage of Redis every lease has run out, and
        the first worker back would otherwise take the jobs of all that live. They renew as soon as they can:
        at the latest ``LATEST_RENEWAL_SECONDS`` after its end.
        """
        held_since, term = self._held_since, self.length_seconds
        wait = max(term * 2 / 3, min(term, LATEST_RENEWAL_SECONDS))
        return held_since is not None and self.clock() - held_since >= wait

    @property
    def age_seconds(self) -> float:
        """Seconds since the lease was last renewed."""
        return self.clock() - self._renewed_at

    def leave(self) -> None:
        """End the lease at a clean stop."""
        self._is_leaving = True
        try:
            left = self.store.leave(self.identity)
        except errors.StoreError as error:
            logger.warning("could not end the lease of %s: %s; it ends by itself", self.identity, error)
            return
        self.ended = True
        if left:
            logger.warning("%d jobs stay in flight under %s; any worker gives them back", left, self.identity)

    @property
    def _length_ms(self) -> int:
        return int(self.length_seconds * 1000)


def _in_child() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_in_child)
