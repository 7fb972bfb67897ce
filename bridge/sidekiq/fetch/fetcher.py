"""The fetcher claims and settles for one process. Celery's connections and consumers come and go above it."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable

from bridge import errors
from bridge.sidekiq.fetch.arrivals import ENTER_SECONDS, Arrivals
from bridge.sidekiq.fetch.consumer import ForConsumer, loop_ticks
from bridge.sidekiq.fetch.gate import Gate
from bridge.sidekiq.fetch.in_flight import InFlight
from bridge.sidekiq.fetch.journal import NO_DECISION, Journal
from bridge.sidekiq.fetch.large_jobs import LARGE_BYTES, LargeJobs
from bridge.sidekiq.fetch.listeners import JobListeners
from bridge.sidekiq.fetch.native_only import NativeOnlyClaim
from bridge.sidekiq.fetch.queues import QueueOrder
from bridge.sidekiq.fetch.reconcile import Reconciler
from bridge.sidekiq.fetch.rooms import QueueRooms
from bridge.sidekiq.fetch.unit_of_work import NO_FREE_SLOT, NOTHING_TO_DO, Fetched
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.store.claims import Claim, ClaimRequest, LeaseState
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)

#: Decisions that Redis has not taken, at which the worker claims no more jobs: they would fill its memory.
#: And more jobs in one claim: Lua's stack would overflow between taking the jobs and noting them.
MOST_UNSETTLED = LARGEST_CLAIM = 1000


class Fetcher(ForConsumer):
    """Claims and settles for one worker. One thread at a time calls ``turn``, any thread ``settle``."""

    def __init__(
        self,
        store: RedisStore,
        lease: Lease,
        gate: Gate,
        *,
        listeners: JobListeners | None = None,
        timestamps: Callable[[], Timestamps] = lambda: Timestamps.SECONDS,
        promoting: Callable[[], frozenset[int]] = frozenset,
        slots: int = 0,
    ) -> None:
        super().__init__()
        self._store = store
        self.lease = lease
        self._gate = gate
        self.order = QueueOrder()
        self.journal = Journal(listeners := listeners or JobListeners(), store.effects)
        self.in_flight = InFlight(store, self.journal, gate, listeners, timestamps, slots)
        self.reconciler = Reconciler(store, lease, self.in_flight, self.journal, self.wake, promoting)
        self.rooms = QueueRooms(self.in_flight.held)
        self.arrivals = Arrivals(store, lease, gate, self.in_flight, self.journal, self.rooms)
        self.large = LargeJobs(self.arrivals, self.journal)
        native = self.arrivals.native
        self.native_only = NativeOnlyClaim(store, lease, gate, self.order, self.in_flight, self.rooms, native)
        self.leaving = False
        self._exchange_lock = threading.RLock()
        self._exchanging = False
        """Whether one is under way. Under the lock: in this very thread, below a signal handler."""
        self._rng = random.Random()  # nosec B311

    def turn(
        self, *, claim: bool = True, look: bool = True, seen_tail: tuple[str, bytes] | None = None
    ) -> Fetched:
        """Settle what is decided and take jobs for the free slots, in one round trip.

        ``claim``: it is time for one; without a free slot there is none. ``look``: it is time to compare what
        Redis holds with what this worker knows. ``seen_tail``: what the last watch told of. A turn that has
        nothing to do asks Redis nothing. Raises StoreUnavailable: call again later.
        """
        claim = (may_claim := self.may_claim) and claim
        unanswered, journal, arrivals = self.in_flight.unanswered, self.journal, self.arrivals
        is_old = bool(arrivals.young) and arrivals.clock() - arrivals.young[0][0] >= ENTER_SECONDS
        is_due = bool(is_old or arrivals.doubtful or arrivals.was_cut) and arrivals.is_due
        is_look_due = bool(unanswered.tokens or unanswered.looks) and unanswered.due
        if not (claim or journal.waiting or journal.returning or is_due or (look and is_look_due)):
            return NOTHING_TO_DO if may_claim else NO_FREE_SLOT
        with self._exchange_lock:
            if self._exchanging:
                return NOTHING_TO_DO
            self._exchanging = True
            try:
                if is_due:
                    arrivals.write()
                if is_look_due:
                    return self._look(claim=claim)
                if claim:
                    fetched = self._claim(seen_tail)
                    return self.rooms.heeded(fetched) if self.rooms.limited else fetched
                self._exchange(None)
                return Fetched(drained=True, may_claim=may_claim)
            finally:
                self._exchanging = False

    def _look(self, *, claim: bool) -> Fetched:
        if claim:
            self.lease.ensure()
        return Fetched(self.reconciler.adopt_unknown(), claimed=claim, adopted=True)

    def _claim(self, seen_tail: tuple[str, bytes] | None) -> Fetched:
        """Take jobs for the free slots, and settle what is decided."""
        if not self.lease.is_taken:
            self.lease.ensure()
        self.rooms.freed = False
        limit = self._gate.limit() if self._gate.restricts else None
        if limit == 0 and not self.native_only.may_claim_at_once:
            self._exchange(None)
            return self.native_only.take(seen_tail)._replace(claimed=True)
        request = self._request(limit or None)
        answer = self._exchange(request)
        if request is None:
            return Fetched(drained=True, claimed=True)  # nothing may be taken: not to be asked again at once
        if answer is None:
            self.in_flight.answered(request.first_token, request.want)
            return Fetched(claimed=True)  # a claim of large jobs was put off: an ordinary one follows
        fetched = self._taken(request, answer)
        return self._without_ruby_jobs(fetched) if limit == 0 else fetched

    def _without_ruby_jobs(self, fetched: Fetched) -> Fetched:
        """No sidecar answers: Ruby jobs of this claim go back at once."""
        native = self.native_only.sorted_out(fetched)
        if native is not fetched:
            with contextlib.suppress(errors.StoreError):  # the next turn meets it again
                self._exchange(None)
        return native

    @property
    def may_claim(self) -> bool:
        """Whether a slot is free, and there is a queue to take a job from."""
        in_flight = self.in_flight
        return not in_flight.is_quiet and len(in_flight.held) < in_flight.slots and bool(self.order.names)

    def loop_ticks(self) -> int:
        """A number that changes while the consumer's thread does what it should."""
        return loop_ticks(self.ticks, self.in_flight)

    @property
    def idle(self) -> bool:
        """Whether nothing is held, nothing waits to be settled, and no claim or settlement is under way."""
        return not self.in_flight.held and not self.journal and not self._exchanging

    def settle(self, token: int, otherwise: Decision, run_ms: float | None = None) -> None:
        """Let go of a delivery: by its recorded decision, or else ``otherwise``. ``run_ms``: of its run."""
        unit = self.in_flight.release(token, run_ms)
        if unit is None:
            return
        self.journal.add(unit, unit.decision or otherwise)
        if self.rooms.limited:
            self.rooms.let_go(unit)
        if (consumer := self._consumer) is not None:
            consumer.settled()
        else:
            self.flush()

    def flush(self, *, last: bool = False) -> bool:
        """Write what waits. Returns whether all is written; never raises. ``last``: no watch goes on."""
        in_flight = self.in_flight
        try:
            with self._exchange_lock:
                if self._exchanging:
                    return False  # a signal handler within an exchange of this thread: what follows it writes
                self._exchanging = True
                try:
                    if last or (in_flight.is_quiet and self._consumer is None):
                        self.arrivals.doubt()
                    if in_flight.is_quiet and in_flight.unanswered.due:
                        self.reconciler.adopt_unknown()
                    if self.arrivals.is_due:
                        self.arrivals.write()
                    self._exchange(None)
                finally:
                    self._exchanging = False
        except errors.StoreError as error:
            # An outage, or a fault that a person must put right: repeated in both cases.
            logger.debug("settlements wait for Redis: %s", error)
        return not (self.journal or self.arrivals.doubtful)

    def stop(self) -> None:
        """The process is about to end: quiet, and no more waiting. Safe in a signal handler."""
        self.leaving = True
        self.journal.keep_order()
        self.quiet()

    def quiet(self) -> None:
        """Quiet: take no more jobs. Safe in a signal handler."""
        self.in_flight.quiet()
        if (consumer := self._consumer) is not None:
            consumer.interrupt()

    def _exchange(self, request: ClaimRequest | None) -> Claim | None:
        journal, batch = self.journal, NO_DECISION
        if journal.waiting or journal.returning:
            batch = journal.batch(everything=not (self.in_flight.held or self.arrivals.watched))
        if not batch.decided and request is None:
            return None
        try:
            if request is not None:
                self.in_flight.reserve(request.want)
            result = self._store.exchange(batch.settlements, request)
        except BaseException:
            # Whatever it was: a decision that is not written must not be forgotten.
            journal.put_back(batch)
            self.arrivals.doubt()
            raise
        if batch.decided:
            journal.confirm(batch, result.settled)
            if self._gate.restricts:
                self._gate.settled(batch.decided)
        if result.refusal is not None and not (request and self.large.is_put_off(request, result.refusal)):
            raise result.refusal
        return result.claim

    def _request(self, limit: int | None) -> ClaimRequest | None:
        in_flight, order, me = self.in_flight, self.order.asked, self.lease.identity
        slots = in_flight.slots if limit is None else min(in_flight.slots, limit)
        want = min(LARGEST_CLAIM, slots - len(in_flight.held))
        if not order.names or want <= 0 or in_flight.is_quiet or len(self.journal.waiting) > MOST_UNSETTLED:
            return None
        names, drawn = order.names, order.draw(want, self._rng)
        orders = self.rooms.orders(names, drawn, want) if self.rooms.limited else drawn
        token, marks, large = in_flight.next_token, self.rooms.marked.marks, self.large
        if orders is None:
            return None
        request = ClaimRequest(me, names, want, token, orders, marks=marks)
        return large.request(request) if large.queues and not (marks or self.rooms.limited) else request

    def _taken(self, request: ClaimRequest, answer: Claim) -> Fetched:
        if answer.lease is not LeaseState.HELD:
            self.lease.lost(answer.lease, request.identity)
        if request.lists:
            units = self.large.admit(request, answer)
        else:
            units = self.in_flight.admit(request.identity, answer.jobs, answer.claimed_at_ms)
            if answer.jobs and len(answer.jobs[0].payload) >= LARGE_BYTES:
                self.large.queues.add(answer.jobs[0].queue)
        self.in_flight.answered(request.first_token, request.want)
        self.rooms.marked.noted += answer.marks
        if answer.recovering:
            self.in_flight.note_recoveries(units)
        # After a claim of large jobs an ordinary one tells: it asks every queue.
        drained = answer.lease is LeaseState.HELD and len(answer.jobs) < request.want and not request.lists
        return Fetched(units, drained, answer.paused, claimed=True)
