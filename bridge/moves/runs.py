"""Counts the runs of classes that move, by side: how many, how many failed, and how long they took.

A worker counts in memory and adds its counts to Redis every two seconds, so that a job costs no command.
"""

from __future__ import annotations

import copy
import math
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import redis

from bridge.moves.move import PYTHON, RUBY, SIDES, Move
from bridge.sidekiq import keys
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Decision, Done, GiveBack, Interrupt
from bridge.sidekiq.process.flushes import Command, Flushes
from bridge.sidekiq.store.settlement import Settled

#: A bucket of run times is a tenth wider than the one below it; the first begins here.
SHORTEST_MS = 0.01
_STEP = math.log(1.1)
TTL_SECONDS = 30 * 86_400
#: Counts of a side, by their names in Redis.
NUMBERS = ("runs", "failures", "retries", "retry_failures")


@dataclass
class Counts:
    """The runs of one class on one side."""

    runs: int = 0
    failures: int = 0
    retries: int = 0
    """Of the runs, those of a job that had failed before."""
    retry_failures: int = 0
    times: Counter[int] = field(default_factory=Counter)
    """Successful runs by bucket of their run time."""

    @property
    def failure_rate(self) -> float:
        """0 to 1; 0 without runs."""
        return self.failures / self.runs if self.runs else 0.0

    def percentile_ms(self, share: float) -> float | None:
        """The run time that this share (0 to 1) of the successful runs did not exceed, to about 5 %."""
        wanted = share * sum(self.times.values())
        for number, count in sorted(self.times.items()):
            wanted -= count
            if wanted <= 0:
                return float(SHORTEST_MS * math.exp((number + 0.5) * _STEP))
        return None

    def add(self, ms: float, *, failed: bool, is_retry: bool = False) -> None:
        """Count one run. The time of a failure says nothing about a job's."""
        self.runs += 1
        self.retries += is_retry
        self.retry_failures += is_retry and failed
        if failed:
            self.failures += 1
        else:
            self.times[max(0, int(math.log(max(ms, SHORTEST_MS) / SHORTEST_MS) / _STEP))] += 1


@dataclass
class BothSides:
    """The runs of one class."""

    python: Counts = field(default_factory=Counts)
    ruby: Counts = field(default_factory=Counts)
    shadow: dict[str, int] = field(default_factory=dict)
    """Dry runs: how many ``runs`` and ``differences`` there were, and how many jobs were ``left out``."""

    def of(self, side: str) -> Counts:
        """The counts of one side."""
        return self.python if side == PYTHON else self.ruby


class Runs:
    """Counts what is settled. Written by one thread at a time, drained by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moves: Mapping[str, Move] = {}
        self._pending: dict[Move, BothSides] = {}
        self._flushes = Flushes()
        self._total: dict[str, BothSides] = {}

    def follow(self, moves: Mapping[str, Move]) -> None:
        """Count the jobs of these classes from now on."""
        self._moves = moves

    def settled(self, unit: UnitOfWork, decision: Decision, outcome: Settled) -> None:
        """Count a job that has run, once its settlement took effect."""
        name = unit.job.native_class
        move = self._moves.get(name) if name is not None else None
        has_run = unit.started_at is not None and outcome is Settled.OK and not isinstance(decision, GiveBack)
        if move is None or not has_run:
            return
        side = PYTHON if unit.native else RUBY
        failed = not isinstance(decision, Done | Interrupt)
        ms = unit.run_ms if unit.run_ms is not None else (unit.run_seconds or 0.0) * 1000
        is_retry = unit.job.retry_count is not None
        with self._lock:
            for counts in (
                self._pending.setdefault(move, BothSides()),
                self._total.setdefault(move.job_class, BothSides()),
            ):
                counts.of(side).add(ms, failed=failed, is_retry=is_retry)

    def totals(self) -> dict[str, BothSides]:
        """A copy of all runs of this process, by class."""
        with self._lock:
            return copy.deepcopy(self._total)

    def flush(self, client: redis.Redis) -> None:
        """Add the counts to those in Redis, once. Raises StoreUnavailable."""
        self._flushes.flush(client, self._drain)

    def _drain(self) -> tuple[Command, ...]:
        with self._lock:
            pending, self._pending = self._pending, {}
        return tuple(_commands(pending))


def _commands(pending: Mapping[Move, BothSides]) -> Iterator[Command]:
    for move, both in pending.items():
        key = keys.move_runs(move.job_class, move.since_ms)
        for side in SIDES:
            counts = both.of(side)
            numbers = [*((name, getattr(counts, name)) for name in NUMBERS), *counts.times.items()]
            for name, count in numbers:
                if count:
                    yield "HINCRBY", key, f"{side}|{name}", count
        yield "EXPIRE", key, TTL_SECONDS


def read(found: Mapping[bytes, bytes]) -> BothSides:
    """The counts in a hash of Redis. A field that makes no sense counts nothing."""
    both = BothSides()
    for field_name, raw in found.items():
        side, _, name = field_name.decode("utf-8", "replace").partition("|")
        if side not in (*SIDES, "shadow") or not raw.isdigit():
            continue
        counts, count = both.of(side), int(raw)
        if side == "shadow":
            both.shadow[name] = count
            continue
        if name in NUMBERS:
            setattr(counts, name, count)
        elif name.isdigit():
            counts.times[int(name)] = count
    return both
