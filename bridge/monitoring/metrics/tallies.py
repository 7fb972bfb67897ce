"""Counts of jobs by queue and class, on the hot path: a dictionary, some additions and no lock.

A Counter and two Histograms of prometheus_client take four times as long for each job; the numbers are
handed to it at each scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, Decision, Discard, Done, GiveBack, Interrupt, Retry
from bridge.sidekiq.store.settlement import Settled

#: Upper limits in seconds, those of yabeda-sidekiq: its dashboards read them.
# fmt: off
BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1800.0, 3600.0,
    21600.0,
)
# fmt: on

#: Classes come from payloads, which anybody can write: no more of them become labels.
MOST_CLASSES = 500
LONGEST_CLASS = 200
OTHER = "other"
UNKNOWN = "unknown"

Label = tuple[str, str]
"""Queue and class."""


@dataclass(slots=True)
class Histogram:
    """Observations in seconds; the last bucket is open."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


@dataclass(slots=True)
class Tally:
    """All that happened to the jobs of one class in one queue."""

    runtime: Histogram = field(default_factory=Histogram)
    latency: Histogram = field(default_factory=Histogram)
    succeeded: int = 0
    failed: int = 0
    interrupted: int = 0
    retried: int = 0
    discarded: int = 0
    given_back: int = 0
    expired: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    """By reason: ``failed`` (out of retries, or killed), ``refused`` (never run), ``poisoned``."""


class Classes:
    """Which classes have a label of their own."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def shown(self, name: str) -> str:
        """The label that a class has, or would get."""
        room = len(self._known) < MOST_CLASSES and len(name) <= LONGEST_CLASS
        return name if room or name in self._known else OTHER

    def bounded(self, name: str) -> str:
        """The label of a class from now on."""
        shown = self.shown(name)
        self._known.add(shown)
        return shown


class JobTallies:
    """Counts what is settled. Written by one thread at a time (see ``JobListeners``), read by any."""

    def __init__(self) -> None:
        self.by_label: dict[Label, Tally] = {}
        self._classes = Classes()

    def settled(self, unit: UnitOfWork, decision: Decision, outcome: Settled) -> None:
        """Count a settlement that took effect, as Sidekiq's own counters do."""
        if outcome is not Settled.OK and outcome is not Settled.BURIED:
            return
        label = (unit.delivery.queue, unit.job.native_class or UNKNOWN)
        tally = self.by_label.get(label) or self._tally(label)
        if outcome is Settled.BURIED:
            tally.dead["poisoned"] += 1
            return
        if unit.started_at is None or isinstance(decision, GiveBack):
            _count_not_run(tally, decision)
            return
        _count_run(tally, unit, unit.started_at)
        if type(decision) is Done:
            tally.succeeded += 1
        else:
            _count_failure(tally, decision)

    def label_of(self, unit: UnitOfWork) -> Label:
        """The labels under which a job is, or will be, counted."""
        queue, name = unit.delivery.queue, unit.job.native_class or UNKNOWN
        return (queue, name) if (queue, name) in self.by_label else (queue, self._classes.shown(name))

    def _tally(self, label: Label) -> Tally:
        queue, name = label
        return self.by_label.setdefault((queue, self._classes.bounded(name)), Tally())


def _count_run(tally: Tally, unit: UnitOfWork, started_at: float) -> None:
    tally.runtime.add(unit.run_seconds or 0.0)
    waits_since = unit.job.enqueued_at or unit.job.created_at
    if waits_since is not None:
        tally.latency.add(max(0.0, started_at - waits_since))


def _count_failure(tally: Tally, decision: Decision) -> None:
    if isinstance(decision, Interrupt):
        tally.interrupted += 1
        return
    tally.failed += 1
    if isinstance(decision, Retry):
        tally.retried += 1
    elif isinstance(decision, Discard):
        tally.discarded += 1
    elif isinstance(decision, Bury):
        tally.dead["failed" if decision.ran else "refused"] += 1


def _count_not_run(tally: Tally, decision: Decision) -> None:
    if isinstance(decision, GiveBack):
        tally.given_back += 1
    elif isinstance(decision, Bury):
        tally.dead["refused"] += 1
    elif isinstance(decision, Done):
        tally.expired += 1
