"""The fetcher claims and settles for one process. Celery's connections and consumers come and go above it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from bridge import errors
from bridge.sidekiq.fetch.batch_delay import BatchDelay
from bridge.sidekiq.fetch.consumer import Consumer
from bridge.sidekiq.fetch.gate import Gate
from bridge.sidekiq.fetch.in_flight import InFlight
from bridge.sidekiq.fetch.journal import Journal
from bridge.sidekiq.fetch.listeners import JobListeners
from bridge.sidekiq.fetch.native_only import NativeOnlyClaim
from bridge.sidekiq.fetch.queues import QueueOrder
from bridge.sidekiq.fetch.reconcile import Reconciler
from bridge.sidekiq.fetch.signal_safe_lock import SignalSafeLock
from bridge.sidekiq.fetch.unit_of_work import Fetched
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.store.claims import Claim, ClaimRequest, LeaseState
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)

#: Decisions that Redis has not taken, at which the worker claims no more jobs: they would fill its memory.
MOST_UNSETTLED = 1000
#: More in one call, and Lua's stack would overflow between taking the jobs and noting them.
LARGEST_CLAIM = 1000
NOTHING_TO_DO = Fetched(drained=True)


class Fetcher:
    """Claims and settles for one worker process.

    ``turn`` is called by the consumer's thread; ``settle`` by any thread.
    """

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
        self._store = store
        self.lease = lease
        self._gate = gate
        self.order = QueueOrder()
        listeners = listeners or JobListeners()
        self.journal = Journal(listeners)
        self.in_flight = InFlight(store, self.journal, gate, listeners, timestamps, slots)
        self.reconciler = Reconciler(store, lease, self.in_flight, self.journal, self.wake, promoting)
        self._promoting = promoting
        self._native_only = NativeOnlyClaim(store, lease, gate, self.order, self.in_flight)
        self._consumer: Consumer | None = None
        self.leaving = False
        self._exchange_lock = SignalSafeLock()
        self._batch_delay = BatchDelay()
        self._rng = random.Random()  # nosec B311

    @property
    def has_consumer(self) -> bool:
        """Whether a consumer calls ``turn`` again and again."""
        return self._consumer is not None

    def attach(self, consumer: Consumer) -> None:
        """Work for this consumer from now on: its thread writes what ends."""
        self._consumer = consumer

    def detach(self, consumer: Consumer) -> None:
        """Work for it no more. Without a consumer, what ends is written at once."""
        if self._consumer is consumer:
            self._consumer = None

    def turn(
        self, *, claim: bool = True, look: bool = True, seen_tail: tuple[str, bytes] | None = None
    ) -> Fetched:
        """Settle what is decided and take jobs for the free slots, in one round trip.

        ``claim``: it is time for one; without a free slot there is none. ``look``: it is time to compare what
        Redis holds with what this worker knows, where that is due. ``seen_tail``: queue and job that the last
        watch told of. A turn that has nothing to do asks Redis nothing.

        Raises:
            StoreUnavailable: Redis cannot answer now; nothing is forgotten, call again later.
        """
        in_flight = self.in_flight
        claim = claim and self.may_claim
        unanswered = in_flight.unanswered
        is_look_due = bool(unanswered.tokens or unanswered.looks) and unanswered.due
        if not (claim or len(self.journal) or (look and is_look_due)):
            return NOTHING_TO_DO
        with self._exchange_lock as mine:
            if not mine:
                return Fetched(drained=True)
            if claim:
                self.lease.ensure()
            if is_look_due:
                units = self.reconciler.adopt_unknown()
                return Fetched(units, claimed=claim, adopted=True)
            limit = self._gate.limit() if claim else None
            if limit == 0:
                self._exchange(None)
                return self._native_only.take(seen_tail)._replace(claimed=True)
            in_flight.forget_read()
            request = self._request(limit) if claim else None
            answer = self._exchange(request)
            if request is None or answer is None:
                # Nothing may be taken at present: not to be asked for again at once.
                return Fetched(drained=True, claimed=claim)
            return self._taken(request, answer)

    @property
    def may_claim(self) -> bool:
        """Whether a slot is free, and there is a queue to take a job from."""
        in_flight = self.in_flight
        return not in_flight.is_quiet and len(in_flight.held) < in_flight.slots and bool(self.order.names)

    @property
    def batch_delay_seconds(self) -> float:
        """How long this worker may look away: its slots are full, and their jobs wait behind each other."""
        in_flight = self.in_flight
        if in_flight.is_quiet or len(in_flight.held) < in_flight.slots or self.journal:
            return 0.0
        return self._batch_delay.seconds

    @property
    def ticks(self) -> int | None:
        """Turns of the consumer's loop; None without a consumer."""
        return consumer.ticks if (consumer := self._consumer) is not None else None

    def loop_ticks(self) -> int:
        """A number that changes while the consumer's thread does what it should.

        Nothing turns while the worker drains, or while the solo pool runs a job on that very thread: then
        time itself counts.
        """
        ticks, in_flight = self.ticks, self.in_flight
        inline = in_flight.slot_limit == 1 and bool(in_flight.held)
        return int(time.monotonic()) if inline or ticks is None else ticks

    def wake(self) -> None:
        """There is something to do for the consumer's thread. Called by any thread."""
        if (consumer := self._consumer) is not None:
            consumer.wake()

    @property
    def kept_back(self) -> frozenset[str]:
        """Queues in which a Ruby job waited at the last look. Looked at only while no sidecar answers."""
        return self._native_only.kept_back

    @property
    def unsettled(self) -> int:
        """How many decided jobs wait to be written."""
        return len(self.journal)

    @property
    def idle(self) -> bool:
        """Whether nothing is held, nothing waits to be settled, and no claim or settlement is under way."""
        return not self.in_flight.held and not self.journal and not self._exchange_lock.busy

    def settle(self, token: int, otherwise: Decision, run_ms: float | None = None) -> None:
        """Let go of a delivery: by its recorded decision, or else ``otherwise``. Frees its slot.

        ``run_ms``: how long the run took, where the sidecar says so.
        """
        unit = self.in_flight.release(token, run_ms)
        if unit is None:
            return
        self._batch_delay.note(unit)
        self.journal.add(unit, unit.decision or otherwise)
        if (consumer := self._consumer) is not None:
            consumer.wake()
        else:
            self.flush()

    def flush(self) -> bool:
        """Write the settlements that wait. Returns whether all are written; never raises."""
        in_flight = self.in_flight
        try:
            with self._exchange_lock as mine:
                if not mine:
                    return False  # a signal handler within an exchange of this thread: what follows it writes
                if in_flight.is_quiet and in_flight.unanswered.due:
                    self.reconciler.adopt_unknown()
                self._exchange(None)
        except errors.StoreError as error:
            # An outage, or a fault that a person must put right: kept and repeated in both cases.
            logger.debug("settlements wait for Redis: %s", error)
        return not self.journal

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
        batch = self.journal.batch(everything=not self.in_flight.held)
        if not batch and request is None:
            return None
        try:
            if request is not None:
                self.in_flight.reserve(request.want)
            result = self._store.exchange(batch.settlements, request)
        except BaseException:
            # Whatever it was: a decision that is not written must not be forgotten.
            self.journal.put_back(batch)
            raise
        self.journal.confirm(batch, result.settled)
        if result.refusal is not None:
            raise result.refusal
        return result.claim

    def _request(self, limit: int | None) -> ClaimRequest | None:
        in_flight, names = self.in_flight, self.order.names
        free = in_flight.free_slots
        want = min(LARGEST_CLAIM, free if limit is None else min(free, limit - len(in_flight.held)))
        if not names or want <= 0 or len(self.journal) > MOST_UNSETTLED:
            return None
        orders = () if self.order.is_strict else self.order.draw(want, self._rng)
        return ClaimRequest(self.lease.identity, names, want, in_flight.next_token, orders)

    def _taken(self, request: ClaimRequest, answer: Claim) -> Fetched:
        if answer.lease is not LeaseState.HELD:
            self.lease.lost(answer.lease, request.identity)
        in_flight = self.in_flight
        units = in_flight.admit(request.identity, answer.jobs, answer.claimed_at_ms)
        in_flight.unanswered.answered(request.first_token, request.want)
        if answer.recovering:
            in_flight.note_recoveries(units)
        drained = answer.lease is LeaseState.HELD and len(answer.jobs) < request.want
        return Fetched(units, drained, answer.paused, claimed=True)
