"""The series about jobs: those of yabeda-sidekiq, and the bridge's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from bridge.monitoring.metrics.tallies import BUCKETS, Histogram, JobTallies, Label, Tally
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork

_LABELS = ("queue", "worker")
_LIMITS = (*map(floatToGoString, BUCKETS), "+Inf")

_COUNTERS: dict[str, tuple[str, Callable[[Tally], int]]] = {
    "sidekiq_jobs_executed": ("Jobs that were run, whatever their end.", lambda t: sum(t.runtime.counts)),
    "sidekiq_jobs_success": ("Jobs that were performed.", lambda t: t.succeeded),
    "sidekiq_jobs_failed": ("Runs of jobs that failed.", lambda t: t.failed),
    "bridge_jobs_interrupted": ("Iterable jobs that stopped at a checkpoint.", lambda t: t.interrupted),
    "bridge_retries_scheduled": ("Failed jobs that went to the retry set.", lambda t: t.retried),
    "bridge_jobs_discarded": ("Failed or cancelled jobs that went nowhere.", lambda t: t.discarded),
    "bridge_jobs_given_back": (
        "Jobs that went back to their queue unrun or unfinished.",
        lambda t: t.given_back,
    ),
    "bridge_jobs_expired": ("Jobs that were not run, because their time was over.", lambda t: t.expired),
}
_HISTOGRAMS: dict[str, tuple[str, Callable[[Tally], Histogram]]] = {
    "sidekiq_job_runtime_seconds": ("How long a job ran.", lambda t: t.runtime),
    "sidekiq_job_latency_seconds": ("How long a job waited in its queue.", lambda t: t.latency),
}


class JobSeries(Collector):
    """Turns the tallies into series at each scrape."""

    def __init__(self, tallies: JobTallies, running: Callable[[], Iterable[UnitOfWork]]) -> None:
        self._tallies = tallies
        self._running = running

    def collect(self) -> Iterator[Metric]:
        """All series of jobs."""
        tallies = list(self._tallies.by_label.items())
        for name, (help_text, count) in _COUNTERS.items():
            yield _counter(name, help_text, ((label, count(tally)) for label, tally in tallies))
        for name, (help_text, read) in _HISTOGRAMS.items():
            yield _histogram(name, help_text, ((label, read(tally)) for label, tally in tallies))
        yield _dead(tallies)
        yield self._running_runtime()

    def _running_runtime(self) -> Metric:
        longest: dict[Label, float] = {}
        for unit in self._running():
            label = self._tallies.label_of(unit)
            longest[label] = max(longest.get(label, 0.0), unit.seconds)
        family = GaugeMetricFamily(
            "sidekiq_running_job_runtime_seconds", "How long the oldest running job has run.", labels=_LABELS
        )
        for label, seconds in longest.items():
            family.add_metric(label, seconds)
        return family


def _counter(name: str, help_text: str, values: Iterable[tuple[Label, int]]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=_LABELS)
    for label, value in values:
        family.add_metric(label, value)
    return family


def _dead(tallies: Iterable[tuple[Label, Tally]]) -> Metric:
    family = CounterMetricFamily(
        "bridge_jobs_dead", "Jobs that went to the dead set.", labels=(*_LABELS, "reason")
    )
    for label, tally in tallies:
        for reason in ("failed", "refused", "poisoned"):
            family.add_metric((*label, reason), tally.dead[reason])
    return family


def _histogram(name: str, help_text: str, values: Iterable[tuple[Label, Histogram]]) -> Metric:
    family = HistogramMetricFamily(name, help_text, labels=_LABELS)
    for label, histogram in values:
        family.add_metric(label, _cumulative(histogram.counts.copy()), histogram.total)
    return family


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    """From a copy: a job that is counted meanwhile must not make a bucket larger than the one above it."""
    reached = 0
    buckets: list[tuple[str, float]] = []
    for limit, count in zip(_LIMITS, counts, strict=True):
        reached += count
        buckets.append((limit, float(reached)))
    return buckets
