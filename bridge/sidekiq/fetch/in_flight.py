"""In flight: the jobs that this process holds, the tokens of its claims, and the slots of its pool."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable

from bridge import errors
from bridge.sidekiq.fetch import batch_delay
from bridge.sidekiq.fetch.gate import Gate
from bridge.sidekiq.fetch.job_reader import JobReader
from bridge.sidekiq.fetch.journal import Journal
from bridge.sidekiq.fetch.listeners import JobListeners
from bridge.sidekiq.fetch.set_aside import SetAside
from bridge.sidekiq.fetch.unanswered_claims import UnansweredClaims
from bridge.sidekiq.fetch.unit_of_work import ROW_SECONDS, Delivery, UnitOfWork
from bridge.sidekiq.fetch.unreadable import burial
from bridge.sidekiq.outcome.decision import Decision, Done, GiveBack
from bridge.sidekiq.payload import expiry
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.outline import SMALLEST_BYTES
from bridge.sidekiq.payload.timestamps import Timestamps
from bridge.sidekiq.payload.tracked import FIELD, NOTHING
from bridge.sidekiq.store.claims import Claimed
from bridge.sidekiq.store.store import RedisStore
from bridge.sidekiq.store.tuples import new

logger = logging.getLogger(__name__)


class InFlight:
    """Knows each claimed job until its end. Any thread may call ``started``, ``decide`` and ``ran``."""

    def __init__(
        self,
        store: RedisStore,
        journal: Journal,
        gate: Gate,
        listeners: JobListeners,
        timestamps: Callable[[], Timestamps] = lambda: Timestamps.SECONDS,
        slots: int = 0,
    ) -> None:
        self._store = store
        self._journal = journal
        self._gate = gate
        self._listeners = listeners
        self._timestamps = timestamps
        self.held: dict[int, UnitOfWork] = {}
        """The unit behind each token; a unit leaves with the decision about it."""
        self.slots = slots
        """How many jobs may be held: the size of the pool, and what is set aside."""
        self.size = slots
        """How many jobs the pool runs at once."""
        self.aside = SetAside(
            store, self._fit, lambda token: self.enter(filter(None, [self.held.get(token)]))
        )
        self._prefetch_count = slots
        self._pool_size: int | None = None
        self.slot_limit: int | None = None
        """How many jobs the pool runs at once, if fewer than Celery's prefetch count (solo)."""
        self.is_quiet = False
        self.next_token = 1
        self.unanswered = UnansweredClaims()
        self.slot_waits: deque[float] = deque(maxlen=batch_delay.LOOKED_AT)
        """How long the last jobs waited for a thread of the sidecar, in seconds; see ``batch_delay``."""
        self.reader = JobReader(gate)
        self.tracked = NOTHING
        """Says which jobs report their results."""

    # -- slots

    @property
    def free_slots(self) -> int:
        """How many jobs may still be taken."""
        return 0 if self.is_quiet else max(0, self.slots - len(self.held))

    @property
    def batch_delay_seconds(self) -> float:
        """How long this worker may look away: its slots are full, and their jobs wait behind each other."""
        if self.is_quiet or len(self.held) < self.slots or self._journal:
            return 0.0
        return batch_delay.seconds(self.slot_waits)

    def set_slots(self, prefetch_count: int) -> None:
        """Celery's prefetch count: how many jobs may be held at once."""
        self._prefetch_count = prefetch_count
        self._fit()

    def follow_pool(self, size: int) -> None:
        """The pool has this size now (``--autoscale``): more jobs would wait in this worker."""
        self._pool_size = size
        self._fit()

    def _fit(self) -> None:
        count, pool_size = self._prefetch_count, self._pool_size
        self.size = min(count, self.slot_limit or count, count if pool_size is None else pool_size)
        self.slots = self.size + self.aside.beside_slots

    def limit_slots(self, most: int) -> None:
        """The pool runs ``most`` jobs at once, whatever Celery's prefetch count says."""
        self.slot_limit = most

    def quiet(self) -> None:
        """Take no more jobs, for good. Safe in a signal handler."""
        self.is_quiet = True

    # -- a claim

    def reserve(self, count: int) -> None:
        """A claim with the next ``count`` tokens is about to be sent."""
        first, self.next_token = self.next_token, self.next_token + count
        self.unanswered.tokens.update(range(first, self.next_token))

    def answered(self, first: int, count: int) -> None:
        """It is known what became of a claim with these tokens."""
        self.unanswered.tokens.difference_update(range(first, first + count))

    def admit(
        self, identity: str, claimed: Iterable[Claimed], claimed_at_ms: int, arrived: str = ""
    ) -> tuple[UnitOfWork, ...]:
        """Hold these jobs. ``arrived``: key of the list to which a watch has moved them."""
        units = []
        # Nearly all jobs are small, and were not read before: straight to the parser.
        read, reads_all = SidekiqJob.parse, bool(self.reader.known)
        for queue, payload, token in claimed:
            delivery = new(Delivery, (identity, token, queue, payload, claimed_at_ms, 0, False, False))
            is_plain = len(payload) < SMALLEST_BYTES and not reads_all
            try:
                job = read(payload) if is_plain else self.reader.claimed(payload)
                unit = UnitOfWork(delivery, job, arrived=arrived)
            except errors.PayloadError as error:
                self._bury_unreadable(delivery, error, arrived)
                continue
            fields = job.fields
            if job.native_class in self.tracked.classes or FIELD in fields:
                tracked, shadowed = self.tracked.flags(job)
                unit.delivery = delivery._replace(tracked=tracked, shadowed=shadowed)
            if not expiry.FIELDS.isdisjoint(fields) and expiry.is_over(job, claimed_at_ms / 1000):
                self._drop(unit)
                continue
            self.held[token] = unit
            units.append(unit)
        return tuple(units)

    def drop_expired(self, token: int) -> bool:
        """Drop a job that waited for its time and has expired. False: the job may begin."""
        if (unit := self.held.get(token)) is None or not expiry.is_over(unit.job, self._store.now()):
            return False
        self._drop(self.held.pop(token))
        return True

    def _drop(self, unit: UnitOfWork) -> None:
        """Settle an expired job as Sidekiq Pro does: it counts as processed, and no handler runs."""
        try:
            unit.job.read_whole()  # malformed bytes are not a job that could expire
        except errors.PayloadError as error:
            self._bury_unreadable(unit.delivery, error, unit.arrived)
        else:
            logger.info("expired: jid=%s of %s is not run", unit.job.jid, unit.job.native_class)
            self._journal.add(unit, Done(expired=True))

    def enter(self, units: Iterable[UnitOfWork]) -> None:
        """Have jobs in the worker's hash that watches have moved to their lists. Raises StoreError."""
        if arrived := [unit for unit in units if unit.arrived]:
            self._store.enter_arrived([(unit.arrived, *unit.delivery[:4]) for unit in arrived])
            for unit in arrived:
                unit.arrived = ""

    def note_recoveries(self, units: Iterable[UnitOfWork]) -> None:
        """Tell the sidecar which jobs were orphaned: it may run them still, or know how they ended."""
        named = [unit for unit in units if unit.job.jid]
        try:
            counts = self._store.recoveries([str(unit.job.jid) for unit in named])
        except errors.StoreError as error:
            # They are claimed and must be run; to ask for each of them whether it runs already does no harm.
            logger.debug("cannot tell which jobs were recovered: %s", error)
            counts = [1] * len(named)
        for unit, count in zip(named, counts, strict=True):
            if count:
                unit.delivery = unit.delivery._replace(recovered=count)

    def _bury_unreadable(self, delivery: Delivery, error: errors.PayloadError, arrived: str) -> None:
        unit = UnitOfWork(delivery, SidekiqJob.unreadable(delivery.payload), arrived=arrived)
        self._journal.add(unit, burial(delivery, error, self._timestamps()))

    # -- a run

    @property
    def running(self) -> list[UnitOfWork]:
        """Units that a pool slot has begun to run."""
        return [unit for unit in list(self.held.values()) if unit.started_at is not None]

    def started(self, token: int, now: float, *, native: bool = False) -> None:
        """A pool slot has begun to run this delivery; ``native``: in Python."""
        if (unit := self.held.get(token)) is not None:
            unit.started_at, unit.began, unit.native = now, time.monotonic(), native
            for tell in self._listeners.of_tracked if unit.delivery.tracked else self._listeners.started:
                tell(unit)

    def decide(self, token: int, decision: Decision) -> None:
        """Record what shall become of a delivery; takes effect with ``Fetcher.settle``."""
        if (unit := self.held.get(token)) is not None:
            unit.decision = decision

    def ran(self, token: int, run_ms: float) -> None:
        """The sidecar says how long the run of this delivery took."""
        if (unit := self.held.get(token)) is not None:
            unit.run_ms = run_ms

    # -- the end

    def release(self, token: int, run_ms: float | None = None) -> UnitOfWork | None:
        """Let go of a delivery, which frees its slot. None when it was let go before."""
        if (unit := self.held.pop(token, None)) is not None:
            unit.run_seconds = 0.0 if unit.began is None else time.monotonic() - unit.began
            unit.may_have_row = unit.run_seconds >= ROW_SECONDS
            if run_ms is not None:
                unit.run_ms = run_ms
            if unit.run_ms is not None:
                self.slot_waits.append(unit.run_seconds - unit.run_ms / 1000)
            else:
                self.slot_waits.clear()  # a job that cannot tell ends the delay
        return unit

    def give_back_all(self, units: Iterable[UnitOfWork]) -> None:
        """Give jobs back to the end that runs next, the first claimed to run first."""
        for unit in sorted(units, key=lambda unit: unit.delivery.token, reverse=True):
            if self.held.pop(unit.delivery.token, None) is not None:
                self._journal.add(unit, GiveBack(may_run=self._may_run_elsewhere(unit)))

    def give_back_set_aside(self) -> None:
        """Give back what waits for its time: it has not begun."""
        self.give_back_all(filter(None, map(self.held.get, self.aside.take_all())))

    def _may_run_elsewhere(self, unit: UnitOfWork) -> bool:
        """Whether a sidecar may run the job still, though this process lets go of it."""
        return unit.started_at is not None and not self._gate.admits(unit.job)

    def known(self, identity: str) -> int:
        """How many jobs of one identity's hash this process knows: held, or on their way to Redis."""
        units = [*list(self.held.values()), *self._journal.units]
        return sum(unit.delivery.identity == identity and not unit.arrived for unit in units)
