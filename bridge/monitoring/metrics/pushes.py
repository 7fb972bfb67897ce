"""The series about the jobs that this process has pushed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from bridge.monitoring.metrics.tallies import Classes
from bridge.sidekiq.process.push_counts import Pushes


class PushSeries(Collector):
    """The series of yabeda-sidekiq's client middleware."""

    def __init__(self, pushes: Pushes) -> None:
        self._pushes = pushes
        self._classes = Classes()

    def collect(self) -> Iterator[Metric]:
        """Pushes by queue and class."""
        counts: Counter[tuple[str, str]] = Counter()
        for (queue, name), count in self._pushes.counts().items():
            counts[queue, self._classes.bounded(name)] += count
        family = CounterMetricFamily(
            "sidekiq_jobs_enqueued", "Jobs that were pushed from here.", labels=("queue", "worker")
        )
        for label, count in counts.items():
            family.add_metric(label, count)
        yield family
