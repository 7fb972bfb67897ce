"""The poller: turns waiting, claiming and settling into deliveries for one consumer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import redis

from bridge import errors
from bridge.broker.context import BrokerContext
from bridge.broker.queue_watches import Watches
from bridge.event_loop import EventLoop
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.unit_of_work import NO_FREE_SLOT, NOTHING_TO_DO, Fetched, UnitOfWork
from bridge.sidekiq.payload.options import LIMIT

logger = logging.getLogger(__name__)

#: A claim each second of a quiet worker would be most of what it costs. So often it is enough to look.
POLLS_WITHOUT_CLAIM = 15
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
#: Wake-ups within this time that found no job, until the poller backs off: another process is quicker.
SPURIOUS_WAKES = 3
SPURIOUS_SECONDS = 0.1


class Poller:
    """Runs on the consumer's thread: ``turn`` again and again, with waits between."""

    def __init__(
        self,
        context: BrokerContext,
        fetcher: Fetcher,
        event_loop: EventLoop,
        client: redis.Redis,
        channel: Any,
        deliver: Callable[[UnitOfWork], None],
    ) -> None:
        self._context = context
        self._poll_seconds, self._has_limits = context.poll_seconds, context.has_limits
        self._fetcher = fetcher
        self._event_loop = event_loop
        self._watches = Watches(client, event_loop, self._job_came, self._woken, self._woken_without_job)
        self._channel = channel
        self._deliver = deliver
        self._more_expected = True
        self._poll_at = 0.0
        self._claim_at = 0.0
        self._pause = 0.0
        self._claims_fail = False
        self._may_claim = False
        self._spurious: list[float] = []
        self._rearm_at = 0.0
        self._seen_tail: tuple[str, bytes] | None = None
        self.ticks = 0
        """Turns of the loop: a sign that the consumer's thread moves."""
        self.wait_seconds = 0.0
        """How long to wait at most before the next turn."""
        self.wake = event_loop.wake
        self.interrupt = event_loop.interrupt

    def attend(self) -> None:
        """From now on this thread settles what others decide."""
        self._fetcher.attach(self)

    def turn(self) -> int:
        """Settle, claim and deliver once, then linger while every slot is busy.

        Returns how many jobs were delivered; after none, ``wait_seconds`` says how long to wait.
        """
        delivered = self._turn()
        if not delivered:
            self.wait_seconds = self._before_wait()
        return delivered

    def _turn(self) -> int:
        self.ticks += 1
        claim = self._is_time_to_claim()
        look = not self._pause or time.monotonic() >= self._poll_at
        try:
            fetched = self._fetcher.turn(claim=claim, look=look, seen_tail=self._seen_tail)
            units = fetched.units
            if units and (self._has_limits or any(LIMIT in unit.job.fields for unit in units)):
                units = self._context.admit(units)
        except errors.StoreError as error:
            self._may_claim = self._fetcher.may_claim
            self._back_off(error, claim and self._may_claim)
            return 0
        self._may_claim = fetched.may_claim
        if fetched is NOTHING_TO_DO or fetched is NO_FREE_SLOT:
            return 0
        claim = fetched.claimed
        self._recovered(claim and not fetched.adopted)
        # First what was claimed, and on its way at once: to arm the watches takes as long as a small job.
        refused = [unit for unit in units if not self._hand_over(unit)]
        if claim:
            self._seen_tail = None
            if self._event_loop.soon:
                self._event_loop.run_soon()
            self._plan_next_claim(fetched)
        if refused:
            # All at once, so that they keep their order; and not to be taken again at once.
            self._fetcher.in_flight.give_back_all(refused)
            self._more_expected, self._poll_at = False, time.monotonic() + self._poll_seconds
        return len(units)

    def _before_wait(self) -> float:
        # After `cancel_consumer` of the last queue nothing is claimed, and no turn ends a pause.
        may_claim = self._may_claim
        if not may_claim and (seconds := self._fetcher.in_flight.batch_delay_seconds):
            # Jobs that end in the next moments are settled together.
            self._event_loop.linger(seconds)
        now = time.monotonic()
        if self._pause and (may_claim or not self._claims_fail):
            return max(0.0, self._poll_at - now)
        if not may_claim:
            return self._poll_seconds
        # A claimed job that is not to run (expired, unreadable) is settled at once.
        at_once = self._more_expected or self._fetcher.journal.waiting
        return 0.0 if at_once else max(0.0, self._poll_at - now)

    def detach(self) -> None:
        """Stop waiting for work. Jobs that are still held settle themselves from now on."""
        self._fetcher.detach(self)
        self._watches.drop()
        self._fetcher.flush()

    close = detach

    def _is_time_to_claim(self) -> bool:
        """Whether the queues may have jobs. Whether a slot is free for them, the fetcher knows."""
        if self._fetcher.in_flight.is_quiet:
            self._watches.drop()
            return False
        if (self._more_expected or self._fetcher.rooms.freed) and not self._pause:
            return True
        now = time.monotonic()
        if now < self._poll_at or not self._fetcher.may_claim:
            return False
        return not self._all_is_watched(now) or self._poll(now)

    def _all_is_watched(self, now: float) -> bool:
        """Whether the first queues are watched and nothing else asks for a claim: no pause, no cut watch."""
        if self._pause or now >= self._claim_at or self._fetcher.in_flight.unanswered.due:
            return False
        return self._watches.are_on(self._fetcher.order.names)

    def _poll(self, now: float) -> bool:
        self._poll_at = now + self._poll_seconds
        return self._watches.find_beyond(self._fetcher.order.names)

    def _plan_next_claim(self, fetched: Fetched) -> None:
        now = time.monotonic()
        self._poll_at = now + self._poll_seconds
        # A claim learns of paused queues as well, and of those with a job that must wait: while there are
        # some, each poll is a claim.
        self._claim_at = now if fetched.paused else now + self._poll_seconds * POLLS_WITHOUT_CLAIM
        self._more_expected = not fetched.drained
        if fetched.units:
            self._spurious.clear()
        if fetched.drained and now >= self._rearm_at:
            self._watches.peek([name for name in self._fetcher.order.names if name not in fetched.paused])

    def _hand_over(self, unit: UnitOfWork) -> bool:
        try:
            if not self._context.fast_dispatch(unit, self._channel):
                self._deliver(unit)
        except Exception:
            # A fault between claim and pool must not lose the job, nor those claimed with it.
            logger.exception("could not hand over jid=%s; it is given back", unit.job.jid)
            return False
        return True

    # -- what the watches tell

    def _job_came(self, queue: str, payload: bytes) -> None:
        self._seen_tail = (queue, payload)
        self._woken()

    def _woken(self) -> None:
        self._more_expected = True
        self._note_wake()

    def _woken_without_job(self) -> None:
        self._poll_at = self._claim_at = 0.0
        self._note_wake()

    def _note_wake(self) -> None:
        now = time.monotonic()
        self._spurious = [at for at in self._spurious if now - at < SPURIOUS_SECONDS] + [now]
        if len(self._spurious) >= SPURIOUS_WAKES:
            self._rearm_at = now + SPURIOUS_SECONDS / 2

    # -- outages

    def _back_off(self, error: errors.StoreError, claim: bool) -> None:
        if not self._pause:
            is_outage = isinstance(error, errors.StoreUnavailable)
            level = logging.WARNING if is_outage else logging.ERROR
            logger.log(level, "fetching stops: %s; running jobs go on, trying again until it works", error)
        self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2 or FIRST_PAUSE_SECONDS)
        self._poll_at = time.monotonic() + self._pause
        self._more_expected, self._claims_fail = True, claim
        self._watches.drop()
        self._fetcher.reconciler.reconnect()

    def _recovered(self, claim: bool) -> None:
        if self._claims_fail and not claim:
            # A settlement got through, and claims may fail still: to say so at each would flood the log.
            return
        self._claims_fail = False
        if self._pause:
            logger.warning("fetching goes on: Redis is back")
        self._pause = 0.0
