"""A worker's part in results: it notes that tracked jobs run, and adds their ends to the settlements."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.periodic import Periodic
from bridge.results.store import ResultStore, Run, Value
from bridge.results.tracking import EndOfJob
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.payload.tracked import FIELD, Tracked
from bridge.sidekiq.store.effects import Effect

#: A run that ends within this is never noted as running: its end follows at once.
BRIEF_SECONDS = 0.02
#: Ended runs are kept for a settlement that Redis did not take: it is made again.
MOST_RUNS = 5000
#: How often a worker tells which classes it tracks, and how long this holds.
ANNOUNCE_SECONDS, ANNOUNCED_SECONDS = 600.0, 3600


@dataclass(slots=True)
class _Known:
    run: Run
    ended: bool = False


class Tracker:
    """Belongs to one worker. ``started`` and ``effects`` may be called by any thread."""

    def __init__(
        self, tracked: Tracked, store: Callable[[], ResultStore], ttl_seconds: Callable[[], int]
    ) -> None:
        self.tracked = tracked
        self._store = store
        self._end = EndOfJob(ttl_seconds)
        self._runs: dict[tuple[str, int], _Known] = {}
        self._new: list[_Known] = []
        self._lock = threading.Lock()
        self.thread = Periodic("results", self._round)
        self._announced_at: float | None = None
        self._also: list[str] = []

    def announce(self) -> None:
        """Tell the processes that wait for results which classes this worker tracks."""
        self._announced_at = time.monotonic()
        if names := [*self.tracked.classes, *self._also]:
            self._store().announce(names, ANNOUNCED_SECONDS)

    def also_announce(self, name: str) -> None:
        """One more member of ``bridge:tracked``, from now on."""
        self._also.append(name)
        self._announced_at = None
        self.thread.start()
        self.thread.nudge()

    def started(self, unit: UnitOfWork) -> None:
        """A slot begins to run a job. Told of each job."""
        # A shadow of a move wants to know what a job returns, and stores nothing of it.
        if unit.delivery.tracked and unit.job in self.tracked:
            self._note(unit)

    def effects(self, job: SidekiqJob, decision: Decision, identity: str, token: int) -> tuple[Effect, ...]:
        """The source of effects. Asked for each job that ends."""
        if not (job.native_class in self.tracked.classes or FIELD in job.fields) or job not in self.tracked:
            return ()
        known = self._runs.get((identity, token))
        fields: Mapping[str, Value] = {}
        if known is not None:
            known.ended = True
            fields = known.run.fields
        run = f"{identity}/{token}" if identity else ""
        return (self._end.effect(job, decision, run, fields),)

    def _note(self, unit: UnitOfWork) -> None:
        run = run_of(unit)
        with self._lock:
            known = self._runs[(run.identity, run.token)] = _Known(run)
            self._new.append(known)
            if len(self._runs) > MOST_RUNS:
                self._runs = {name: each for name, each in self._runs.items() if not each.ended}
            self.thread.start()
        self.thread.nudge()

    def _round(self) -> float:
        """Note the new runs that have not ended."""
        time.sleep(BRIEF_SECONDS)
        with self._lock:
            new, self._new = self._new, []
        runs = [known.run for known in new if not known.ended]
        try:
            if runs:
                self._store().started(runs)
        except BaseException:
            with self._lock:
                self._new = [*new, *self._new]
            raise
        if self._announced_at is None or time.monotonic() - self._announced_at >= ANNOUNCE_SECONDS:
            self.announce()
        return ANNOUNCE_SECONDS


def run_of(unit: UnitOfWork) -> Run:
    """The run of a job that has begun."""
    delivery = unit.delivery
    fields: dict[str, Value] = {
        "class": unit.job.native_class or "",
        "language": "python" if unit.native else "ruby",
        "started_at": unit.started_at or time.time(),
    }
    if (queued := unit.job.enqueued_at or unit.job.created_at) is not None:
        fields["queued_at"] = queued
    return Run(str(unit.job.jid), delivery.identity, delivery.token, fields)
