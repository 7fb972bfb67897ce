"""The scenarios: who is measured how, and what is compared with what."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.cast import Cast
from benchmarks.scenarios import costs, fleets
from benchmarks.scenarios import latency as soon
from benchmarks.scenarios.model import FULL, QUICK, REAL_KB, Row, Scale, Scenario, label_of
from benchmarks.scenarios.throughput import throughput

__all__ = ["FULL", "QUICK", "REAL_KB", "Row", "Scale", "Scenario", "label_of", "scenarios"]

CPU_MS = (1.0, 5.0, 20.0)
WAIT_MS = (10.0, 100.0)
PYTHON_MS = (5.0,)


def scenarios(cast: Cast, scale: Scale, sizes_ms: Sequence[float] = ()) -> list[Scenario]:
    """All of them, in the order of the report. ``sizes_ms``: of computing and waiting jobs, if not ours."""
    sizes = [sizes_ms or usual for usual in (CPU_MS, WAIT_MS, PYTHON_MS)]
    return [
        *throughput(cast, scale, *sizes),
        *soon.latency(cast, scale),
        fleets.fleet(cast, scale),
        fleets.crowd(cast, scale),
        soon.push(cast, scale),
        costs.queues(cast, scale),
        costs.backlog(cast, scale),
        costs.concurrency(cast, scale),
        soon.start(cast),
        costs.idle(cast, scale),
        costs.memory(cast, scale),
    ]
