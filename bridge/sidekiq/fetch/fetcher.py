"""The fetcher: takes jobs for free slots, remembers what this process holds, settles what is decided.

It lives as long as the process: connections, channels and consumers of Celery come and go above it.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bridge import errors
from bridge.sidekiq.fetch.batch_delay import BatchDelay
from bridge.sidekiq.fetch.journal import Journal, settlement
from bridge.sidekiq.fetch.queue_tails import QueueTails
from bridge.sidekiq.fetch.queues import QueueOrder
from bridge.sidekiq.fetch.reconcile import RolledBackJobs, UnansweredClaims
from bridge.sidekiq.fetch.signal_safe_lock import SignalSafeLock
from bridge.sidekiq.fetch.unit_of_work import Delivery, Fetched, Gate, UnitOfWork
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.outcome.decision import Bury, Decision, GiveBack
from bridge.sidekiq.payload.job import SidekiqJob, invalid_entry
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.store.claims import Claim, Claimed, ClaimRequest, LeaseState, Store
from bridge.sidekiq.store.settlement import Settled

logger = logging.getLogger(__name__)

#: With so many decisions that Redis refuses to write, no more jobs are taken: they would pile up in memory.
MOST_UNSETTLED = 1000
#: More in one call, and Lua's stack would overflow between taking the jobs and noting them.
LARGEST_CLAIM = 1000


@dataclass
class Fetcher:
    """Claims and settles for one worker process.

    ``turn`` is called by the consumer's thread; ``settle`` by any thread. ``on_settled`` is told of each
    settlement that took effect, ``wake`` is called when there is something to do for the consumer's thread.
    """

    store: Store
    lease: Lease
    gate: Gate
    order: QueueOrder = field(default_factory=QueueOrder)
    rng: random.Random = field(default_factory=random.Random)
    wake: Callable[[], None] = lambda: None
    interrupt: Callable[[], None] = lambda: None
    """As ``wake``, but also from within a signal handler of the consumer's thread."""
    on_started: Callable[[UnitOfWork], None] = lambda unit: None
    on_settled: Callable[[UnitOfWork, Decision, Settled], None] = lambda unit, decision, settled: None
    slots: int = 0
    slot_limit: int | None = None
    """What the pool can really run at once, where that is less than Celery's prefetch count says (solo)."""
    timestamps: Callable[[], Timestamps] = lambda: Timestamps.SECONDS
    promoting: Callable[[], frozenset[int]] = frozenset
    """Tokens of due entries that the scheduler has taken out of their sets: they are negative."""

    def __post_init__(self) -> None:
        self.held: dict[int, UnitOfWork] = {}
        self.is_quiet = False
        self.leaving = False
        self.consumer: object | None = None
        """Whoever calls ``turn`` again and again at present; without one, what ends is written at once."""
        self.ticks = 0
        self.seen_tail: tuple[str, bytes] | None = None
        """Queue and job that the last watch told of."""
        self._next_token = 1
        # Through a lambda: what listens is set later.
        self.journal = Journal(lambda unit, decision, outcome: self.on_settled(unit, decision, outcome))
        self._exchange_lock = SignalSafeLock()
        self._unanswered = UnansweredClaims()
        self._seen: dict[bytes, SidekiqJob] = {}
        """What was read to be admitted, not to be parsed again when it is taken."""
        self._strays = RolledBackJobs()
        self._missing: set[int] = set()
        self._tails = QueueTails()
        self._batch_delay = BatchDelay()

    # -- the consumer's side

    def turn(self, *, claim: bool = True) -> Fetched:
        """Settle what is decided and take jobs for the free slots, in one round trip.

        Raises:
            StoreUnavailable: Redis cannot answer now; nothing is forgotten, call again later.
        """
        self.ticks += 1
        with self._exchange_lock as mine:
            if not mine:
                return Fetched(drained=True)
            if claim:
                self.lease.ensure()
            if self._unanswered.due:
                return Fetched(self._adopt_unknown(), adopted=True)
            if claim and self.free_slots and not self.gate.everything():
                self._exchange(None)
                return self._take_admitted()
            self._seen.clear()
            request = self._request() if claim else None
            answer = self._exchange(request)
            if request is None or answer is None:
                # Nothing may be taken at present: not to be asked for again at once.
                return Fetched(drained=True)
            return self._taken(request, answer)

    @property
    def free_slots(self) -> int:
        """How many jobs may still be taken."""
        if self.is_quiet:
            return 0
        return max(0, self.slots - len(self.held))

    @property
    def needs_reconcile(self) -> bool:
        """Whether the next turn asks what Redis holds for this worker: there may be jobs it does not know."""
        return self._unanswered.due

    @property
    def slack_seconds(self) -> float:
        """How long this worker may look away: its slots are full, and their jobs wait behind each other."""
        return 0.0 if self.is_quiet or len(self.held) < self.slots else self._batch_delay.seconds

    def loop_ticks(self) -> int:
        """A number that changes while the consumer's thread does what it should.

        Nobody turns while the worker drains, or while the solo pool runs a job on that very thread: then
        time itself counts.
        """
        inline = self.slot_limit == 1 and bool(self.held)
        return int(time.monotonic()) if inline or not self.has_consumer else self.ticks

    @property
    def running(self) -> list[UnitOfWork]:
        """Units that a pool slot has begun to run."""
        return [unit for unit in list(self.held.values()) if unit.started_at is not None]

    @property
    def has_consumer(self) -> bool:
        """Whether somebody calls ``turn`` again and again."""
        return self.consumer is not None

    @property
    def unsettled(self) -> int:
        """How many decided jobs wait to be written."""
        return len(self.journal)

    @property
    def idle(self) -> bool:
        """Whether nothing is held, nothing waits to be settled, and no claim or settlement is under way."""
        return not self.held and not self.journal and not self._exchange_lock.busy

    # -- the pool's side

    def started(self, token: int, now: float) -> None:
        """A pool slot has begun to run this delivery."""
        unit = self.held.get(token)
        if unit is not None:
            unit.started_at = now
            self.on_started(unit)

    def decide(self, token: int, decision: Decision) -> None:
        """Record what shall become of a delivery; takes effect with ``settle``."""
        unit = self.held.get(token)
        if unit is not None:
            unit.decision = decision

    def ran(self, token: int, run_ms: float) -> None:
        """The sidecar says how long the run of this delivery took."""
        unit = self.held.get(token)
        if unit is not None:
            unit.run_ms = run_ms

    def settle(self, token: int, otherwise: Decision) -> None:
        """Let go of a delivery: by its recorded decision, or else ``otherwise``. Frees its slot."""
        unit = self.held.pop(token, None)
        if unit is None:
            return
        unit.ended_at = time.time()
        self._batch_delay.note(unit)
        self.journal.add(unit, unit.decision or otherwise)
        if self.has_consumer:
            self.wake()
        else:
            self.flush()

    def flush(self) -> bool:
        """Write the settlements that wait. Returns whether all are written; never raises."""
        try:
            with self._exchange_lock as mine:
                if not mine:
                    return False  # a signal handler within an exchange of this thread: what follows it writes
                if self.is_quiet and self._unanswered.due:
                    self._adopt_unknown()
                self._exchange(None)
        except errors.StoreError as error:
            # An outage, or a fault that a person must put right: kept and repeated in both cases.
            logger.debug("settlements wait for Redis: %s", error)
        return not self.journal

    def give_back_all(self, units: Iterable[UnitOfWork]) -> None:
        """Give jobs back to the end that runs next, the first claimed to run first."""
        for unit in sorted(units, key=lambda unit: unit.delivery.token, reverse=True):
            if self.held.pop(unit.delivery.token, None) is not None:
                self.journal.add(unit, GiveBack(may_run=self._may_run_elsewhere(unit)))

    def _may_run_elsewhere(self, unit: UnitOfWork) -> bool:
        """Whether a sidecar may run the job still, though this process lets go of it."""
        return unit.started_at is not None and not self.gate.admits(unit.job)

    def stop(self) -> None:
        """The process is about to end: quiet, and no more waiting. Safe in a signal handler."""
        self.leaving = self.journal.in_order = True
        self.quiet()

    def quiet(self) -> None:
        """Quiet: take no more jobs. Safe in a signal handler."""
        self.is_quiet = True
        self.interrupt()

    def reconnect(self) -> None:
        """The connection was cut: what Redis holds for this worker is compared with what it remembers."""
        self._unanswered.look_now()

    def compare(self, identity: str, in_flight: int) -> None:
        """Have a close look where Redis holds another number of jobs than this worker knows.

        Called by another thread at each renewal of the lease. A job on its way makes the numbers differ for a
        moment; the close look tells.
        """
        if identity == self.lease.identity and in_flight != self._known(identity):
            self._unanswered.look_soon()
            self.wake()

    def _known(self, identity: str) -> int:
        units = [*list(self.held.values()), *self.journal.units]
        return sum(unit.delivery.identity == identity for unit in units)

    # -- one round trip

    def _exchange(self, request: ClaimRequest | None) -> Claim | None:
        if not self.held:
            self.journal.release()
        batch = self.journal.batch()
        if not batch and request is None:
            return None
        try:
            if request is not None:
                self._note_sent(request.want)
            result = self.store.exchange([settlement(*decided) for decided in batch], request)
        except BaseException:
            # Whatever it was: a decision that is not written must not be forgotten.
            self.journal.put_back(batch)
            raise
        self.journal.confirm(batch, result.settled)
        if result.refusal is not None:
            raise result.refusal
        return result.claim

    def _note_sent(self, tokens: int) -> None:
        self._unanswered.sent(self._next_token, tokens)
        self._next_token += tokens

    def _request(self) -> ClaimRequest | None:
        names = self.order.names
        free = self.free_slots
        limit = self.gate.limit()
        want = min(LARGEST_CLAIM, free if limit is None else min(free, limit - len(self.held)))
        if not names or want <= 0 or len(self.journal) > MOST_UNSETTLED:
            return None
        return ClaimRequest(
            self.lease.identity, names, want, self._next_token, self.order.draw(want, self.rng)
        )

    def _taken(self, request: ClaimRequest, answer: Claim) -> Fetched:
        self._note_lease(answer.lease, request.identity)
        units = tuple(
            unit for job in answer.jobs if (unit := self._admit(request.identity, job, answer.claimed_at_ms))
        )
        self._unanswered.answered(request.first_token, request.want)
        if answer.recovering:
            self._note_recoveries(units)
        drained = answer.lease is LeaseState.HELD and len(answer.jobs) < request.want
        return Fetched(units, drained, answer.paused)

    def _note_recoveries(self, units: Iterable[UnitOfWork]) -> None:
        """Tell the sidecar which jobs were in dead hands: it may run them still, or know how they ended."""
        named = [unit for unit in units if unit.job.jid]
        try:
            counts = self.store.recoveries([str(unit.job.jid) for unit in named])
        except errors.StoreError as error:
            # They are claimed and must be run; to ask for each of them whether it runs already does no harm.
            logger.debug("cannot tell which jobs were recovered: %s", error)
            counts = [1] * len(named)
        for unit, count in zip(named, counts, strict=True):
            if count:
                unit.delivery = unit.delivery._replace(recovered=count)

    def _note_lease(self, state: LeaseState, identity: str) -> None:
        if state is not LeaseState.HELD:
            self.lease.lost(state, identity)

    def _admit(self, identity: str, claimed: Claimed, claimed_at_ms: int) -> UnitOfWork | None:
        delivery = Delivery(identity, claimed.token, claimed.queue, claimed.payload, claimed_at_ms)
        try:
            # Once: a task may have changed the arguments in place when the same bytes come again.
            seen = self._seen.pop(claimed.payload, None) if self._seen else None
            unit = UnitOfWork(delivery, seen or SidekiqJob.parse(claimed.payload))
        except errors.PayloadError as error:
            self._bury_unreadable(delivery, error)
            return None
        self.held[claimed.token] = unit
        return unit

    def _bury_unreadable(self, delivery: Delivery, error: errors.PayloadError) -> None:
        logger.error("buried what is no job, from queue %s: %s", delivery.queue, error)
        payload = delivery.payload
        if isinstance(error, errors.InvalidPayload):
            payload = invalid_entry(payload, delivery.queue, str(error), time.time(), self.timestamps())
        unit = UnitOfWork(delivery, SidekiqJob(delivery.payload, {}))
        self.journal.add(unit, Bury(payload, ran=False))
        self.wake()

    # -- while not everything may be taken

    def _take_admitted(self) -> Fetched:
        units = self._take_peeked()
        if units:
            return Fetched(tuple(units))
        blocked: set[str] = set()
        self._seen.clear()
        try:
            for name, next_jobs in self._tails.tails(self.store, self.order.names, lambda: self.free_slots):
                admitted = list(itertools.takewhile(self._is_admitted, next_jobs))
                if len(admitted) < len(next_jobs):
                    blocked.add(name)
                units += self._take_exactly(name, admitted, blocked)
        except errors.StoreError:
            if not units:
                raise
            # What has been taken must be handed over; the next turn meets the same error.
            return Fetched(tuple(units))
        # A paused queue, or one with a job that must wait, is not to be watched: its watch would answer at
        # once, again and again.
        return Fetched(tuple(units), drained=not units, paused=frozenset(blocked))

    def _take_peeked(self) -> list[UnitOfWork]:
        """What woke this worker, without another look; of an only queue, or others might come first."""
        seen_tail, self.seen_tail = self.seen_tail, None
        if seen_tail is None:
            return []
        self._tails.expect(seen_tail[0])
        if self.order.names != (seen_tail[0],) or not self._is_admitted(seen_tail[1]):
            return []
        return self._take_exactly(seen_tail[0], [seen_tail[1]], set())

    def _take_exactly(self, queue: str, payloads: list[bytes], blocked: set[str]) -> list[UnitOfWork]:
        if not payloads:
            return []
        identity, token = self.lease.identity, self._next_token
        self._note_sent(len(payloads))
        claim = self.store.claim_exact(identity, token, queue, payloads)
        blocked.update(claim.paused)
        units = [unit for job in claim.jobs if (unit := self._admit(identity, job, claim.claimed_at_ms))]
        self._unanswered.answered(token, len(payloads))
        if claim.recovering:
            self._note_recoveries(units)
        self._note_lease(claim.lease, identity)
        return units

    def _is_admitted(self, payload: bytes) -> bool:
        try:
            job = self._seen[payload] = SidekiqJob.parse(payload)
            return self.gate.admits(job)
        except errors.PayloadError:
            return True

    # -- after a cut connection

    def _adopt_unknown(self) -> tuple[UnitOfWork, ...]:
        """Take over what was claimed for us in an answer that never came.

        Only by the tokens of such claims: a job that is being settled at this moment stands in Redis a little
        longer than here, and must not run again. A claim that Redis has not carried out yet is fenced.
        """
        identity = self.lease.identity
        now_ms, in_flight = self.store.fence_claims(identity, self._next_token)
        self._push_forgotten(identity, in_flight)
        tokens = {token for token in in_flight if token > 0}
        found = self.store.entries(identity, sorted(token for token in tokens if token in self._unanswered))
        units = tuple(unit for job in found if (unit := self._admit(identity, job, now_ms)))
        self._unanswered.looked()
        self._note_recoveries(units)
        self._give_back_strays(identity, tokens, now_ms)
        self._note_missing(identity, tokens)
        if found:
            logger.warning("adopted %d jobs whose claim was answered into a cut connection", len(found))
        if self.is_quiet:
            # No slot begins a job any more: another worker runs these, and nothing counts against them.
            self.give_back_all(units)
            return ()
        return units

    def _push_forgotten(self, identity: str, in_flight: set[int]) -> None:
        """Push due entries that the scheduler does not know; their tokens are negative."""
        forgotten = {token for token in in_flight if token < 0} - self.promoting()
        for job in self.store.entries(identity, sorted(forgotten)):
            self.store.push_promoted(identity, job.token, job.queue, job.payload)

    def _give_back_strays(self, identity: str, tokens: set[int], now_ms: int) -> None:
        """Redis holds jobs for this worker that this worker does not know.

        Redis came back with an older state, and the jobs were settled since; or a claim came late. The worker
        does not know whether they ran. So the next delivery asks every sidecar first: one that remembers the
        job answers from memory.
        """
        strays = self._strays.seen_again(tokens - self.held.keys() - self.journal.tokens)
        found = self.store.entries(identity, sorted(strays, reverse=True))
        for job in found:
            delivery = Delivery(identity, job.token, job.queue, job.payload, now_ms)
            self.journal.add(UnitOfWork(delivery, _parsed(job.payload)), GiveBack(may_run=True))
        if found:
            logger.warning(
                "gave back %d jobs that Redis held for %s and this worker did not know: Redis was restored "
                "from an older state, or a claim came late",
                len(found), identity,
            )  # fmt: skip

    def _note_missing(self, identity: str, tokens: set[int]) -> None:
        """Jobs in hand that Redis does not hold for this worker: their settlements will be fenced."""
        held = {token for token, unit in list(self.held.items()) if unit.delivery.identity == identity}
        if gone := held - tokens - self._missing:
            logger.warning(
                "FENCED: Redis no longer holds %d jobs that run here; another worker may run them as well",
                len(gone),
            )
        self._missing = held - tokens


def _parsed(payload: bytes) -> SidekiqJob:
    """Also where the next claim will bury it."""
    try:
        return SidekiqJob.parse(payload)
    except errors.PayloadError:
        return SidekiqJob.unreadable(payload)
