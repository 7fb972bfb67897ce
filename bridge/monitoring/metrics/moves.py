"""The series about classes that move from Ruby to Python, by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bridge.monitoring.metrics.tallies import Classes
from bridge.moves.move import SIDES
from bridge.moves.runs import Counts

if TYPE_CHECKING:
    from bridge.runtime import Runtime

_LABELS = ("worker", "side")
_QUANTILES = (0.5, 0.95)


class MoveSeries(Collector):
    """Reads what this worker knows at each scrape; absent while no class moves."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._classes = Classes()

    def collect(self) -> Iterator[Metric]:
        """All series of moves."""
        moves = self._runtime.moves.moves
        if not moves:
            return
        yield from self._runs()
        percent = GaugeMetricFamily(
            "bridge_move_percent", "Share of the jids of a class that runs in Python.", labels=("worker",)
        )
        back = GaugeMetricFamily(
            "bridge_move_taken_back", "Whether the guard has taken a class back to Ruby.", labels=("worker",)
        )
        for name, move in moves.items():
            percent.add_metric((self._classes.bounded(name),), move.percent)
            back.add_metric((self._classes.bounded(name),), float(move.is_back and bool(move.reason)))
        yield percent
        yield back
        yield self._differences()

    def _runs(self) -> Iterator[Metric]:
        runs = CounterMetricFamily("bridge_move_runs", "Runs of classes that move.", labels=_LABELS)
        failures = CounterMetricFamily("bridge_move_failures", "Of those, failures.", labels=_LABELS)
        times = GaugeMetricFamily(
            "bridge_move_run_seconds", "Run time of successful runs.", labels=(*_LABELS, "quantile")
        )
        for label, counts in self._counts():
            runs.add_metric(label, counts.runs)
            failures.add_metric(label, counts.failures)
            for quantile in _QUANTILES:
                if (ms := counts.percentile_ms(quantile)) is not None:
                    times.add_metric((*label, str(quantile)), ms / 1000)
        yield from (runs, failures, times)

    def _counts(self) -> Iterator[tuple[tuple[str, str], Counts]]:
        for name, both in self._runtime.move_runs.totals().items():
            for side in SIDES:
                yield (self._classes.bounded(name), side), both.of(side)

    def _differences(self) -> Metric:
        family = CounterMetricFamily(
            "bridge_move_shadow_differences",
            "Shadow runs that ended otherwise than in Ruby.",
            labels=("worker",),
        )
        for name, count in list(self._runtime.shadows.differences.items()):
            family.add_metric((self._classes.bounded(name),), count)
        return family
