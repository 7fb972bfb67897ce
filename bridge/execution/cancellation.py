"""Ends running jobs: when their time is up, or because a person revoked them.

A Ruby job is ended through the sidecar, under every pool. A native one gets an exception in its thread or
greenlet; in a pool process Celery's own limits end it. One that does not end stays in flight and keeps its
slot: were it given away, the next job would be claimed to wait behind a thread that may never come back.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from celery.exceptions import SoftTimeLimitExceeded

from bridge import errors
from bridge.execution.outcomes import DeadlineExceeded, JobCancelled
from bridge.execution.time_limits import NONE, TimeLimits
from bridge.sidecar.client import Sidecar
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.outcome.decision import Decision

logger = logging.getLogger(__name__)

#: How often a job that has not ended is told again: not sooner, because it may be tidying up. From the first
#: time on its slot counts as lost.
AGAIN_SECONDS = 10.0
#: A worker that has lost more than this part of its slots ends: another starts with all of them.
MOST_LOST = 0.25
IDLE_SECONDS = 60.0
MOST_ENTRIES = 1000
REVOKED = "cancelled by revoke"


class Run(Protocol):
    """A run as its request knows it (:class:`bridge.execution.request.SidekiqRequest`)."""

    delivery: Delivery

    @property
    def native(self) -> bool:
        """Whether it runs in Python."""

    @property
    def in_ruby_middleware(self) -> bool:
        """Whether Ruby's middleware is around its code: then it also ends through the sidecar."""

    @property
    def in_process(self) -> bool:
        """Whether it runs in a pool process, where Celery's own limits reach it."""

    def raise_inside(self, error: BaseException) -> bool:
        """Raise in the native task's thread or greenlet."""

    def decision_after(self, error: BaseException) -> Decision:
        """The decision about the job when this error ends it."""


class _Step(Enum):
    SOFT = "soft"
    HARD = "hard"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class _Ending:
    """Why a run must end. The job sees ``error``, and the retry or dead set shows it."""

    run: Run
    reason: str
    error: BaseException


@dataclass
class Cancellation:
    """``watch`` and ``revoke`` may be called by any thread; ``round`` by one, again and again."""

    fetcher: Fetcher
    limits: TimeLimits
    sidecar: Callable[[], Sidecar]
    give_up: Callable[[str], None] = lambda reason: None
    """Called with a sentence when too many slots are lost."""
    hurry: Callable[[], None] = lambda: None
    """Have the next ``round`` now."""
    clock: Callable[[], float] = time.monotonic

    overdue_total: int = 0
    _ending: dict[int, _Ending] = field(default_factory=dict)
    _lost: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._agenda: list[tuple[float, int, _Step, _Ending]] = []
        self._numbers = itertools.count()

    def watch(self, run: Run, unit: UnitOfWork, task: object) -> None:
        """A run has begun: note when it must end. ``task`` is the Celery task of a native job."""
        limits = self.limits.of(unit.job, task if run.native else None)
        if limits is NONE or (run.native and run.in_process and not run.in_ruby_middleware):
            return
        now = self.clock()
        if limits.soft and run.native:
            self._note(now + limits.soft, _Step.SOFT, _Ending(run, "soft", SoftTimeLimitExceeded()))
        if limits.hard:
            error = DeadlineExceeded.after(limits.hard)
            self._note(now + limits.hard, _Step.HARD, _Ending(run, "deadline", error))

    def revoke(self, run: Run) -> None:
        """End a run now, for good."""
        self._note(self.clock(), _Step.HARD, _Ending(run, "revoked", JobCancelled()))

    def round(self) -> float:
        """Do what is due. Returns seconds until the next is."""
        for stage, ending in self._due():
            unit = self.fetcher.in_flight.held.get(ending.run.delivery.token)
            if unit is None:
                continue
            if stage is _Step.SOFT:
                ending.run.raise_inside(ending.error)
            else:
                self._end(stage, ending, unit)
        self._forget_settled()
        with self._lock:
            nearest = self._agenda[0][0] - self.clock() if self._agenda else IDLE_SECONDS
        return max(0.0, min(nearest, IDLE_SECONDS))

    @property
    def lost(self) -> int:
        """Slots whose native job was told to end and does not."""
        return sum(token in self.fetcher.in_flight.held for token in list(self._lost))

    def may_be_left(self, token: int) -> bool:
        """Whether a worker that ends need not wait for this job."""
        return token in self._lost

    def is_overdue(self, token: int) -> bool:
        """Whether this job's time is up."""
        ending = self._ending.get(token)
        return ending is not None and ending.reason == "deadline"

    def write_off(self) -> None:
        """The worker ends, its threads with it: what was told to end is settled as if it had."""
        for token, ending in list(self._ending.items()):
            if token in self.fetcher.in_flight.held:
                self.fetcher.settle(token, ending.run.decision_after(ending.error))

    # -- one ending

    def _end(self, stage: _Step, ending: _Ending, unit: UnitOfWork) -> None:
        token = ending.run.delivery.token
        if stage is _Step.HARD:
            self.overdue_total += ending.reason == "deadline"
            self._ending[token] = ending
            logger.warning("ending jid=%s: %s", unit.job.jid, _words(ending))
        elif ending.run.native:
            self._count_lost(unit)
        self._ask(ending)
        self._note(self.clock() + AGAIN_SECONDS, _Step.AGAIN, ending)

    def _ask(self, ending: _Ending) -> None:
        run = ending.run
        if run.native and not run.in_ruby_middleware:
            run.raise_inside(ending.error)
            return
        if run.native and not run.in_process and run.raise_inside(ending.error):
            return  # the code reports to Ruby how it ended
        # In a thread of its own: a sidecar that does not answer must not keep other jobs from their end.
        threading.Thread(target=self._cancel, args=(ending,), name="bridge-cancel", daemon=True).start()

    def _cancel(self, ending: _Ending) -> None:
        try:
            self.sidecar().cancel(ending.run.delivery, ending.reason, _words(ending))
        except errors.SidecarError as error:
            logger.error("could not end %s: %s", ending.run.delivery.name, error)
        if ending.run.native and ending.run.in_process:
            ending.run.raise_inside(ending.error)  # after Ruby knows why

    def _count_lost(self, unit: UnitOfWork) -> None:
        if unit.delivery.token in self._lost:
            return
        self._lost.add(unit.delivery.token)
        lost, slots = self.lost, self.fetcher.in_flight.size
        logger.error(
            "jid=%s was told to end and does not: its slot is lost (%d of %d)",
            unit.job.jid, lost, slots,
        )  # fmt: skip
        if lost > slots * MOST_LOST:
            self.give_up(f"{lost} of {slots} slots are lost to jobs that do not end")

    # -- the agenda

    def _note(self, at: float, stage: _Step, ending: _Ending) -> None:
        with self._lock:
            heapq.heappush(self._agenda, (at, next(self._numbers), stage, ending))
            if len(self._agenda) > MOST_ENTRIES + 4 * self.fetcher.in_flight.slots:
                self._forget_ended()
            first = self._agenda[0][0] == at
        if first:
            self.hurry()

    def _forget_settled(self) -> None:
        held = self.fetcher.in_flight.held
        self._lost &= held.keys()
        for token in [token for token in self._ending if token not in held]:
            del self._ending[token]

    def _forget_ended(self) -> None:
        """Drop the entries of jobs that have ended: most end long before their time."""
        held = self.fetcher.in_flight.held
        self._agenda = [entry for entry in self._agenda if entry[3].run.delivery.token in held]
        heapq.heapify(self._agenda)

    def _due(self) -> list[tuple[_Step, _Ending]]:
        now, due = self.clock(), []
        with self._lock:
            while self._agenda and self._agenda[0][0] <= now:
                _, _, stage, ending = heapq.heappop(self._agenda)
                due.append((stage, ending))
        return due


def _words(ending: _Ending) -> str:
    return REVOKED if ending.reason == "revoked" else str(ending.error)
