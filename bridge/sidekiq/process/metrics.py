"""Sidekiq's Metrics page: counts, run time and a histogram for each job class.

Follows ``metrics/tracking.rb`` and ``metrics/shared.rb``, 7.0 to 8.1. Sidekiq 7 and 8 name their keys
differently and neither reads the other's. The time of a key is that of the flush, not of the job.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import redis

from bridge.sidekiq import keys
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Decision, Done, GiveBack, Interrupt
from bridge.sidekiq.outcome.dialect import MetricsFamily
from bridge.sidekiq.process.flushes import Command, Flushes
from bridge.sidekiq.store.settlement import Settled

#: Upper limits (exclusive, ms) of the first 25 of 26 buckets; the last one is open.
# fmt: off
BUCKET_LIMITS_MS = (
    20, 30, 45, 65, 100, 150, 225, 335, 500, 750, 1_100, 1_700, 2_500, 3_800, 5_750, 8_500, 13_000,
    20_000, 30_000, 45_000, 65_000, 100_000, 150_000, 225_000, 335_000,
)
# fmt: on

_SHORT_TTL_SECONDS = 8 * 3_600
_LONG_TTL_SECONDS = 72 * 3_600
_NO_FAILURES = (Done, Interrupt)


@dataclass(slots=True)
class _Tally:
    """Counts of one class since the last flush."""

    processed: int = 0
    failed: int = 0
    ms: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * (len(BUCKET_LIMITS_MS) + 1))


class JobMetrics:
    """Collects results from any thread until the next beat flushes them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[str, _Tally] = {}
        self._flushes = Flushes()
        self.moving: Collection[str] = ()
        """Classes that move to Python: the runs of this minute are counted apart from those of Sidekiq."""

    def settled(self, unit: UnitOfWork, decision: Decision, outcome: Settled) -> None:
        """Count a job that has run, once its settlement took effect."""
        if unit.started_at is not None and outcome is Settled.OK and not isinstance(decision, GiveBack):
            # In whole milliseconds as on that page; by the sidecar's own figure first.
            ms = unit.run_ms if unit.run_ms is not None else (unit.run_seconds or 0.0) * 1000
            self.record(unit.job.native_class or "", int(ms), type(decision) not in _NO_FAILURES)

    def record(self, job_class: str, elapsed_ms: int, failed: bool) -> None:
        """Count one run of ``wrapped`` or else ``class``; a failure adds neither time nor histogram."""
        with self._lock:
            tally = self._tallies.get(job_class)
            if tally is None:
                tally = self._tallies[job_class] = _Tally()
            tally.processed += 1
            if failed:
                tally.failed += 1
                return
            tally.ms += elapsed_ms
            tally.histogram[bisect_right(BUCKET_LIMITS_MS, elapsed_ms)] += 1

    def flush(self, client: redis.Redis, now: float, family: MetricsFamily) -> None:
        """Write everything recorded so far under the minute of ``now`` (epoch seconds), once.

        Raises StoreUnavailable.
        """
        self._flushes.flush(client, lambda: self.drain(now, family))

    def drain(self, now: float, family: MetricsFamily) -> tuple[Command, ...]:
        """Take everything recorded so far, as commands for the minute of ``now``."""
        with self._lock:
            tallies, self._tallies = self._tallies, {}
        time = datetime.fromtimestamp(now, UTC)
        moved = {name: tallies[name].processed for name in self.moving if name in tallies}
        return (*_commands(tallies, time, family), *_moved(moved, time))


def _commands(tallies: Mapping[str, _Tally], time: datetime, family: MetricsFamily) -> Iterator[Command]:
    # A "|" in a class name would break the reader of every class: Ruby has no such class, so it is left out.
    shown = {job_class: tally for job_class, tally in tallies.items() if "|" not in job_class}
    if not shown:
        return
    if family in (MetricsFamily.SEVEN, MetricsFamily.BOTH):
        yield from _seven(shown, time)
    if family in (MetricsFamily.EIGHT, MetricsFamily.BOTH):
        yield from _eight(shown, time)


def _moved(runs: Mapping[str, int], time: datetime) -> Iterator[Command]:
    key = keys.move_minute(time)
    for job_class, count in runs.items():
        yield "HINCRBY", key, job_class, count
    if runs:
        yield "EXPIRE", key, _SHORT_TTL_SECONDS


def _seven(tallies: Mapping[str, _Tally], time: datetime) -> Iterator[Command]:
    yield from _counts(keys.metrics_minute_7(time), tallies, _SHORT_TTL_SECONDS)
    for job_class, tally in tallies.items():
        yield from _histogram(keys.histogram_7(job_class, time), tally)


def _eight(tallies: Mapping[str, _Tally], time: datetime) -> Iterator[Command]:
    yield from _counts(keys.metrics_minute_8(time), tallies, _SHORT_TTL_SECONDS)
    yield from _counts(keys.metrics_ten_minutes_8(time), tallies, _LONG_TTL_SECONDS)
    for job_class, tally in tallies.items():
        yield from _histogram(keys.histogram_8(job_class, time), tally)


def _counts(key: str, tallies: Mapping[str, _Tally], ttl_seconds: int) -> Iterator[Command]:
    for job_class, tally in tallies.items():
        for name, count in (("ms", tally.ms), ("p", tally.processed), ("f", tally.failed)):
            if count:
                yield "HINCRBY", key, f"{job_class}|{name}", count
    yield "EXPIRE", key, ttl_seconds


def _histogram(key: str, tally: _Tally) -> Iterator[Command]:
    """26 counters of 16 bits in one string, which stay at 65,535 instead of starting again at 0."""
    increments: list[str | int] = []
    for index, count in enumerate(tally.histogram):
        if count:
            increments += ["INCRBY", "u16", f"#{index}", count]
    if increments:
        yield "BITFIELD", key, "OVERFLOW", "SAT", *increments
        yield "EXPIRE", key, _SHORT_TTL_SECONDS
