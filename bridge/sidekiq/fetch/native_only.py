"""Claims while no sidecar answers: native jobs leave their queues, and Ruby jobs stay."""

from __future__ import annotations

import itertools

from bridge import errors
from bridge.sidekiq.fetch.gate import Gate
from bridge.sidekiq.fetch.in_flight import InFlight
from bridge.sidekiq.fetch.native_queues import NativeQueues
from bridge.sidekiq.fetch.queue_tails import QueueTails
from bridge.sidekiq.fetch.queues import QueueOrder
from bridge.sidekiq.fetch.rooms import QueueRooms
from bridge.sidekiq.fetch.unit_of_work import Fetched, UnitOfWork
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.store.claims import LeaseState
from bridge.sidekiq.store.store import RedisStore


class NativeOnlyClaim:
    """Reads the jobs that run next, and claims those that the gate admits. For one thread at a time."""

    def __init__(
        self,
        store: RedisStore,
        lease: Lease,
        gate: Gate,
        order: QueueOrder,
        in_flight: InFlight,
        rooms: QueueRooms,
        native: NativeQueues,
    ) -> None:
        self._store = store
        self._lease = lease
        self._gate = gate
        self._order = order
        self._in_flight = in_flight
        self._rooms = rooms
        self._tails = QueueTails()
        self._native = native
        self.kept_back: frozenset[str] = frozenset()
        """Queues in which a job that was not admitted waited at the last look."""

    def take(self, seen_tail: tuple[str, bytes] | None) -> Fetched:
        """Claim admitted jobs for the free slots. ``seen_tail``: queue and job that woke this worker."""
        self._in_flight.reader.forget()
        units = self._take_seen(seen_tail)
        if units:
            return Fetched(tuple(units))
        blocked: set[str] = set()
        kept_back: set[str] = set()
        asked, free = self._order.asked, lambda: self._in_flight.free_slots
        for name in asked.told:
            self._tails.expect(name)
        try:
            for name, next_jobs in self._tails.tails(self._store, asked.names, free):
                fitting = self._rooms.cut(name, next_jobs)
                admitted = list(itertools.takewhile(self._is_admitted, fitting))
                self._native.note(name, admitted=len(admitted) == len(fitting))
                if len(admitted) < len(next_jobs):
                    kept_back.add(name)
                units += self._take_exactly(name, admitted, blocked)
        except errors.StoreError:
            if not units:
                raise
            # The jobs that were claimed must be handed over; the next turn meets the same error.
            return Fetched(tuple(units))
        self.kept_back = frozenset(kept_back)
        # A paused queue, or one with a job that must wait, is not to be watched: its watch would answer at
        # once, again and again.
        return Fetched(tuple(units), drained=not units, paused=self.kept_back | blocked)

    @property
    def may_claim_at_once(self) -> bool:
        """Whether all queues have shown native jobs only: a claim then spares the look before it."""
        are_in = self._native.are_in
        return not self._rooms.limited and all(map(are_in, self._order.asked.names))

    def sorted_out(self, fetched: Fetched) -> Fetched:
        """Give back the Ruby jobs of a claim that was made at once. Returns it without these."""
        units: list[UnitOfWork] = []
        odd: list[UnitOfWork] = []
        for unit in fetched.units:
            admitted = self._gate.admits(unit.job)
            (units if admitted else odd).append(unit)
            if not admitted:
                self._native.note(unit.delivery.queue, admitted=False)
        if not odd:
            return fetched
        self._in_flight.give_back_all(odd)
        return fetched._replace(units=tuple(units), drained=False)

    def _take_seen(self, seen_tail: tuple[str, bytes] | None) -> list[UnitOfWork]:
        """Claim the job that woke this worker. Only of an only queue: others might come first."""
        if seen_tail is None:
            return []
        queue, payload = seen_tail
        self._tails.expect(queue)
        if self._order.names != (queue,):
            return []
        admitted = self._is_admitted(payload)
        self._native.note(queue, admitted=admitted)
        if not admitted:
            return []
        return self._take_exactly(queue, self._rooms.cut(queue, [payload]), set())

    def _take_exactly(self, queue: str, payloads: list[bytes], blocked: set[str]) -> list[UnitOfWork]:
        if not payloads:
            return []
        in_flight = self._in_flight
        identity, token = self._lease.identity, in_flight.next_token
        in_flight.reserve(len(payloads))
        marked = self._rooms.marked
        with_limits = marked.count(queue, payloads) if marked.marks else 0
        claim = self._store.claim_exact(identity, token, queue, payloads, with_limits)
        marked.noted += claim.marks
        blocked.update(claim.paused)
        units = in_flight.admit(identity, claim.jobs, claim.claimed_at_ms)
        in_flight.answered(token, len(payloads))
        units = self._give_back_unseen(units, payloads)
        if claim.recovering:
            in_flight.note_recoveries(units)
        if claim.lease is not LeaseState.HELD:
            self._lease.lost(claim.lease, identity)
        return list(units)

    def _give_back_unseen(self, units: tuple[UnitOfWork, ...], seen: list[bytes]) -> tuple[UnitOfWork, ...]:
        """Give back jobs that took the place of a seen one and may not run now. Returns the others."""
        known = {id(payload) for payload in seen}
        odd = [
            unit
            for unit in units
            if id(unit.delivery.payload) not in known and not self._gate.admits(unit.job)
        ]
        if not odd:
            return units
        self._in_flight.give_back_all(odd)
        return tuple(unit for unit in units if unit not in odd)

    def _is_admitted(self, payload: bytes) -> bool:
        try:
            return self._gate.admits(self._in_flight.reader.before_claim(payload))
        except errors.PayloadError:
            return True
