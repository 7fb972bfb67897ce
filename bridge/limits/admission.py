"""Admission: a claimed job takes a place at each of its gates, or waits in the line of one that is full."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import redis

from bridge import errors
from bridge.limits import calls
from bridge.limits.declaration import Limit
from bridge.limits.gates import Gates, Limits, job_id
from bridge.limits.places import Places
from bridge.limits.queue_limits import QueueLimits
from bridge.redis.outages import translated
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.in_flight import InFlight
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Decision, GiveBack
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.options import LIMIT
from bridge.sidekiq.store.claims import ClaimMark
from bridge.sidekiq.store.effects import Effect, EffectSource

logger = logging.getLogger(__name__)

#: Noted places of jobs that have ended, beside those of jobs in flight, before they are forgotten.
MOST_NOTED = 1000

Units = tuple[UnitOfWork, ...]


class Follower(Protocol):
    """Told about lines in which a job waits, or whose next start is known."""

    def follow(self, gates: Gates, now: float, look: float | None, *, waits: bool) -> None:
        """``now``, ``look``: Redis TIME in s, and when a worker must look at the gates again."""

    def limits_of(self, identity: str) -> Limits:
        """The limits that a dead worker has declared; nothing for this worker itself."""

    def claim_ended(self) -> None:
        """Lines that waited for a claim may go on."""


class Admission:
    """``admit`` is for the consumer's thread; ``effects`` for the thread that settles."""

    def __init__(self, client: redis.Redis, limits: Limits, follower: Follower) -> None:
        self._places = Places(client, limits, follower.claim_ended)
        self._limits = limits
        self._follower = follower
        self._entered: dict[tuple[str, int], Gates] = {}
        """The gates that each job of this process has passed, or may have passed."""
        self.parked = 0

    def admit(self, units: Units, fetcher: Fetcher, queues: QueueLimits) -> Units:
        """Those of the units that may run now. All that wait left this process.

        Raises StoreError if none of them may run because Redis cannot answer: they are given back.
        """
        concerned, marks = self._concerned(units), fetcher.rooms.marked.pop()
        if not concerned:
            self._places.end(marks)
            return units
        asked = [(one, gates) for one in concerned if (gates := self._gates(one))]
        try:
            refused, failure = self._take(asked, fetcher, marks), None
        except errors.StoreError as error:
            refused, failure = {one.delivery.token for one, _ in asked}, error
            fetcher.in_flight.give_back_all([one for one, _ in asked])
        if any(one.delivery.queue in queues.limited for one in concerned):
            queues.learn()
        admitted = tuple(one for one in units if one.delivery.token not in refused)
        if failure is not None and not admitted:
            raise failure
        return admitted

    def _concerned(self, units: Units) -> list[UnitOfWork]:
        if not self._limits.declared:
            return [one for one in units if LIMIT in one.job.fields]
        return [one for one in units if self._limits.concerns(one.job, one.delivery.queue)]

    def _gates(self, unit: UnitOfWork) -> Gates:
        return self._limits.gates(unit.job, unit.delivery.queue)

    def _take(
        self, asked: Sequence[tuple[UnitOfWork, Gates]], fetcher: Fetcher, marks: Sequence[ClaimMark]
    ) -> set[int]:
        """Ask for all places in one round trip. Returns the tokens of the jobs that got none."""
        in_flight = fetcher.in_flight
        self._forget(fetcher)
        for unit, gates in asked:
            # Before the call: if its answer is lost, the settlement must free what it took.
            self._entered[unit.delivery.identity, unit.delivery.token] = gates
        answers = self._places.ask(asked, fetcher.rooms.marked, marks)
        refusals = [answer for answer in answers if isinstance(answer, redis.RedisError)]
        without = {
            unit.delivery.token
            for (unit, gates), answer in zip(asked, answers, strict=True)
            if not isinstance(answer, redis.RedisError) and not self._answered(unit, gates, answer, in_flight)
        }
        if refusals:
            raise translated(refusals[0])
        return without

    def _answered(self, unit: UnitOfWork, gates: Gates, answer: Any, in_flight: InFlight) -> bool:
        may_run: bool = answer[0] == 1
        if not may_run:
            in_flight.held.pop(unit.delivery.token, None)
            del self._entered[unit.delivery.identity, unit.delivery.token]
        if answer[0] < 0:
            logger.warning("FENCED: jid=%s was no longer held by this worker; it is not run", unit.job.jid)
            return False
        self.parked += not may_run
        look = float(answer[2]) if answer[2] else None
        self._follower.follow(gates, float(answer[1]), look, waits=not may_run)
        return may_run

    def _forget(self, fetcher: Fetcher) -> None:
        held = fetcher.in_flight.held
        if len(self._entered) > MOST_NOTED + 2 * len(held):
            known = held.keys() | fetcher.journal.tokens
            self._entered = {name: gates for name, gates in self._entered.items() if name[1] in known}

    # -- the source of effects

    def effects(self, job: SidekiqJob, decision: Decision, identity: str, token: int) -> tuple[Effect, ...]:
        """Free the places of a job that ends, wherever it was."""
        entered = gates = self._entered.get((identity, token)) if self._entered else None
        queue = job.queue or "default"
        if gates is None:
            gates = self._not_entered_here(job, queue, identity)
        if not gates:
            return ()
        holder = calls.holder(identity, token) if identity else ""
        back = isinstance(decision, GiveBack)
        return _freeing(self._limits, gates, job, queue, holder, goes_back=back, began=entered is not None)

    def _not_entered_here(self, job: SidekiqJob, queue: str, identity: str) -> Gates:
        """An orphaned job holds places of the limits of its own worker: this one may have others."""
        gates = self._limits.gates(job, queue) if self._limits.concerns(job, queue) else ()
        return _with_those_of(self._follower.limits_of(identity), gates, job, queue) if identity else gates


def of_others(limits: Limits, declared_by: Callable[[str], Iterable[Limit]]) -> EffectSource:
    """A source for a process that runs no jobs: it ends jobs that wait, and those of workers that died."""

    def effects(job: SidekiqJob, decision: Decision, identity: str, token: int) -> tuple[Effect, ...]:
        queue = job.queue or "default"
        gates = limits.gates(job, queue)
        if not identity:
            return _freeing(limits, gates, job, queue, "", goes_back=False)
        gates = _with_those_of(Limits(declared_by(identity)), gates, job, queue)
        holder = calls.holder(identity, token)
        return _freeing(limits, gates, job, queue, holder, goes_back=isinstance(decision, GiveBack))

    return effects


def _with_those_of(others: Limits, gates: Gates, job: SidekiqJob, queue: str) -> Gates:
    if not others.concerns(job, queue):
        return gates
    lines = {gate.line for gate in gates}
    return gates + tuple(gate for gate in others.gates(job, queue) if gate.line not in lines)


def _freeing(
    limits: Limits,
    gates: Gates,
    job: SidekiqJob,
    queue: str,
    holder: str,
    *,
    goes_back: bool,
    began: bool = True,
) -> tuple[Effect, ...]:
    """A start of a rate that was used is not given back; a job that comes again has waited once."""
    name = job_id(job)
    return tuple(
        calls.free(
            gate, limits.queues(gates, queue), holder=holder, job_id=name, queue=queue, goes_back=goes_back
        )
        for gate in gates
        if gate.limit.concurrency is not None or goes_back or not holder or not began
    )
