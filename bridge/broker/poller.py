"""The poller: turns waiting, claiming and settling into deliveries for one consumer."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis

from bridge import errors
from bridge.broker.admission import Admission
from bridge.broker.back_off import BackOff
from bridge.broker.context import BrokerContext, Units
from bridge.broker.queue_watches import Watches
from bridge.broker.wakes import MOMENT_SECONDS, NextClaim
from bridge.event_loop import DISTRUST, EventLoop, SharedSockets
from bridge.sidekiq.fetch import unreadable
from bridge.sidekiq.fetch.arrivals import ENTER_SECONDS
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.unit_of_work import NO_FREE_SLOT, NOTHING_TO_DO, Fetched, UnitOfWork
from bridge.sidekiq.payload.options import LIMIT

logger = logging.getLogger(__name__)


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
        self._fetcher, self._event_loop = fetcher, event_loop
        self._next = NextClaim(context.poll_seconds)
        self._watches = Watches(client, event_loop, fetcher.arrivals, fetcher.order, self._next)
        self._context, self._channel, self._deliver = context, channel, deliver
        self._admission = Admission(context, fetcher.in_flight)
        self._is_readable = unreadable.reading(fetcher.in_flight.reader, fetcher.settle)
        self._outage, self._may_claim = BackOff(), False
        self._left_over: list[UnitOfWork] = []
        """Jobs that a thread of the pool holds in its turn, and has not begun."""
        self.ticks, self.wait_seconds = 0, 0.0
        """Turns of the loop, a sign that the consumer's thread moves; the longest wait before the next."""
        self.wake, self.settled, self.interrupt = event_loop.wake, event_loop.wake, event_loop.interrupt

    def attend(self) -> None:
        """From now on this thread settles what others decide."""
        self._fetcher.attach(self)
        if (shared := self._event_loop.shared) is not None:
            self.settled = shared.settled
            shared.after_read = functools.partial(self._deputy_has_read, shared)
            shared.after_run = functools.partial(self._thread_turns, shared)

    def turn(self) -> int:
        """Settle, claim and deliver once. Returns how many were delivered; 0: wait for ``wait_seconds``."""
        arrivals, shared, plan = self._fetcher.arrivals, self._event_loop.shared, self._next
        if plan.delivered and shared and shared.turners and plan.is_cut(self._fetcher, shared.trust):
            shared.ended, self.wait_seconds = (), MOMENT_SECONDS
            return 0
        if delivered := self._turn():
            plan.delivered = delivered
            return delivered
        self.wait_seconds = self._before_wait()
        seconds = arrivals.enter_in_seconds if arrivals.young and not self._outage.pause else None
        if shared is not None:
            shared.ended = () if self._outage.pause else self._fetcher.journal.waiting
            if seconds is None and shared.turners and shared.trust > 0:
                seconds = ENTER_SECONDS  # a deputy does not wake this thread for its job
        self.wait_seconds = self.wait_seconds if seconds is None else min(self.wait_seconds, seconds)
        return 0

    def _turn(self) -> int:
        self.ticks += 1
        if self._watches.arrived or self._left_over:
            return self._take_over()
        claim = self._is_time_to_claim()
        look = not self._outage.pause or time.monotonic() >= self._next.poll_at
        try:
            fetched = self._fetcher.turn(claim=claim, look=look, seen_tail=self._next.seen_tail)
            units = self._admitted(fetched.units)
        except errors.StoreError as error:
            self._begin_pause(error, claim=claim)
            return 0
        self._may_claim = fetched.may_claim
        if fetched is NOTHING_TO_DO or fetched is NO_FREE_SLOT:
            return 0
        if self._outage.pause:
            self._outage.recovered(fetched.claimed and not fetched.adopted)
        # First what was claimed, and on its way at once: to arm the watches takes as long as a small job.
        refused = [unit for unit in units if not self._hand_over(unit)]
        if fetched.claimed:
            self._event_loop.run_soon()
            self._watch(fetched)
        self._give_back(refused)
        return len(units)

    def _take_over(self) -> int:
        """Deliver what the watches have taken, then have them watch again."""
        units, self._left_over = (*self._left_over, *self._watches.read()), []
        try:
            admitted = self._admitted(units)
        except errors.StoreError as error:
            self._fetcher.in_flight.give_back_all(units)
            self._begin_pause(error, claim=False)
            return 0
        refused = [unit for unit in admitted if not self._hand_over(unit)]
        self._event_loop.run_soon()
        self._watch_again()
        self._give_back(refused)
        return len(admitted)

    def _admitted(self, units: Units) -> Units:
        """Those that may run now: all, but for limits. Raises StoreError."""
        return self._admission.of(units) if any(map(self._is_asked_for, units)) else units

    def _is_asked_for(self, unit: UnitOfWork) -> bool:
        return self._admission.has_limits or unit.delivery.tracked or LIMIT in unit.job.fields

    def _hand_over(self, unit: UnitOfWork) -> bool:
        """To the pool at once, or else to Celery."""
        try:
            if not self._context.fast_dispatch(unit, self._channel, False) and self._is_readable(unit):
                self._deliver(unit)
        except Exception:
            # A fault between claim and pool must not lose the job, nor those claimed with it.
            logger.exception("could not hand over jid=%s; it is given back", unit.job.jid)
            return False
        return True

    def _watch(self, fetched: Fetched) -> bool:
        if is_to_watch := self._next.has_ended(fetched):
            self._watches.watch([name for name in self._fetcher.order.names if name not in fetched.paused])
        self._watches.beyond.claimed(fetched, is_to_watch=is_to_watch)
        return is_to_watch

    def _deputy_has_read(self, shared: SharedSockets) -> bool:
        """A deputy begins what it has read. Returns whether the consumer's thread is needed."""
        self._begin(units := self._watches.read(), shared)
        self._watch_again()
        is_left = self._next.more_expected or self._fetcher.journal.waiting  # an expired job is settled
        return self._thread_turns(shared) if is_left and not units else self._is_needed()

    def _thread_turns(self, shared: SharedSockets) -> bool:
        """A thread of the pool settles and claims. Returns whether the consumer's thread is needed."""
        self.ticks += 1
        fetcher, following, claim = self._fetcher, self._next, self._next.more_expected
        has_limits = self._admission.has_limits or fetcher.rooms.limited or fetcher.rooms.marked.marks
        if has_limits or self._outage.pause or fetcher.in_flight.is_quiet or self._is_needed(to_claim=False):
            return True
        try:
            fetched = fetcher.turn(claim=claim, look=False, seen_tail=following.seen_tail)
        except errors.StoreError as error:
            self._begin_pause(error, claim=claim)  # now: a watch may bring a job for which no slot is left
            return True
        self._may_claim = fetched.may_claim
        self._begin(fetched.units, shared)
        is_resting = fetched.claimed and not self._watch(fetched) and fetched.drained
        if self._watches.unwatched and fetcher.may_claim:
            self._watch_again()
        return is_resting or self._is_needed()

    def _begin(self, units: Iterable[UnitOfWork], shared: SharedSockets) -> None:
        """Begin native jobs, and leave all else."""
        for unit in units:
            try:
                runs = not self._is_asked_for(unit) and self._context.fast_dispatch(unit, self._channel, True)
            except Exception:  # the consumer's thread tries again, and says what is wrong
                runs = False
            if not runs:
                self._left_over.append(unit)
                shared.trust = DISTRUST

    def _is_needed(self, *, to_claim: bool = True) -> bool:
        """Whether the consumer's thread has something to do. ``to_claim``: to claim and settle counts."""
        waiting = self._left_over or self._watches.arrived or self._event_loop.soon
        is_expected = self._next.more_expected and self._fetcher.may_claim
        is_left = self._fetcher.journal.waiting and self._fetcher.journal.has_unbegun
        return bool(waiting or self._fetcher.arrivals.doubtful or (to_claim and (is_expected or is_left)))

    def _give_back(self, refused: Sequence[UnitOfWork]) -> None:
        if refused:
            # All at once, so that they keep their order; and not to be taken again at once.
            self._fetcher.in_flight.give_back_all(refused)
            self._next.put_off(self._next.poll_seconds, more_expected=False)
            self._watches.drop(end=not self._outage.pause)

    def _watch_again(self) -> None:
        in_flight = self._fetcher.in_flight
        self._next.more_expected = self._next.more_expected or self._watches.met_backlog
        if self._next.more_expected or in_flight.is_quiet or len(in_flight.held) >= in_flight.slots:
            return
        # Without such a watch a peek follows, and that needs a claim that has found the queue empty.
        self._next.more_expected = not self._watches.take_again()

    def _before_wait(self) -> float:
        # After `cancel_consumer` of the last queue nothing is claimed, and no turn ends a pause.
        if self._may_claim and self._watches.unwatched:
            self._watch_again()
        if not self._may_claim and (seconds := self._fetcher.in_flight.batch_delay_seconds):
            # Jobs that end in the next moments are settled together.
            self._event_loop.linger(seconds)
        is_pause = self._outage.pause and (self._may_claim or not self._outage.claims_fail)
        if not (is_pause or self._may_claim):
            return self._next.poll_seconds
        # A claimed job that is not to run (expired, unreadable) is settled at once; a closed watch is fenced.
        at_once = self._next.more_expected or self._fetcher.journal.waiting or self._fetcher.arrivals.doubtful
        return 0.0 if at_once and not is_pause else max(0.0, self._next.poll_at - time.monotonic())

    def detach(self) -> None:
        """Stop waiting for work. Jobs that are still held settle themselves from now on."""
        self._watches.drop(end=not self._outage.pause)  # first: a job that settles itself fences their lists
        self._fetcher.detach(self)
        if (shared := self._event_loop.shared) is not None:
            shared.forget_work()
        self._fetcher.in_flight.give_back_all(self._left_over)  # the next consumer does not know them
        self._fetcher.flush()

    close = detach

    def _is_time_to_claim(self) -> bool:
        """Whether the queues may have jobs. Whether a slot is free for them, the fetcher knows."""
        if self._fetcher.in_flight.is_quiet:
            self._watches.drop(end=not self._outage.pause)
            return False
        if (self._next.more_expected or self._fetcher.rooms.freed) and not self._outage.pause:
            return True
        now = time.monotonic()
        if now < self._next.poll_at or not self._fetcher.may_claim:
            return False
        is_watch_enough = now < self._next.claim_at and not self._fetcher.in_flight.unanswered.due
        if self._outage.pause or not is_watch_enough or not self._watches.are_on(self._fetcher.order.names):
            return True
        self._next.poll_at = now + self._next.poll_seconds
        return self._watches.beyond.find()

    def _begin_pause(self, error: errors.StoreError, *, claim: bool) -> None:
        self._may_claim = self._fetcher.may_claim
        self._outage.failed(error, claim and self._may_claim)
        self._next.put_off(self._outage.pause, more_expected=True)
        self._watches.drop()
        self._fetcher.reconciler.reconnect()
