"""The figures of a scenario as rows of cells: what text and Markdown share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import Sample, median, median_ratio, ratios, spread
from benchmarks.goals import Verdict
from benchmarks.metrics import METRICS
from benchmarks.results import Found

#: Beside the metric of the scenario, in this order, as far as they were measured.
COLUMNS = {
    "cost_us_per_job": ("jobs_per_second", "cpu_us_per_job", "redis_us_per_job"),
    "pss_mb": ("jobs_per_second", "cpu_us_per_job"),
    "jobs_per_second": ("cpu_us_per_job", "worker_us_per_job", "redis_us_per_job", "busy_cores", "pss_mb"),
    "p50_ms": ("p99_ms", "max_ms"),
    "pushes_per_second": ("cpu_us_per_push",),
    "commands_per_job": (
        "cpu_ms_per_job",
        "busy_commands_per_job",
        "busy_cpu_ms_per_job",
        "redis_us_per_job",
        "idle_commands_per_second",
    ),
    "redis_us_per_job": (
        "carried_per_second",
        "busy_commands_per_job",
        "idle_commands_per_second",
        "idle_redis_percent",
        "busy_cpu_ms_per_job",
    ),
    "commands_per_second": ("cpu_percent", "worker_cpu_percent", "redis_cpu_percent"),
    "first_job_seconds": (),
}


@dataclass(frozen=True)
class Table:
    """``head`` and ``rows`` have as many cells."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def scenario_table(found: Found) -> Table:
    """Medians of the rounds, and the median of the ratios to the base of the same round."""
    samples = [sample for each in found.rows.values() for sample in each if sample]
    beside = (metric for metric in COLUMNS[found.metric] if any(metric in sample for sample in samples))
    metrics = (found.metric, *beside)
    head = ("", *(METRICS[metric].title for metric in metrics), f"x {found.base}", "+-")
    return Table(head, tuple(_row(found, label, samples, metrics) for label, samples in found.rows.items()))


def goal_table(verdicts: Sequence[Verdict]) -> Table:
    """Every goal, what was found, and whether that is enough."""
    rows = [(v.goal.text, _limit(v), "-" if v.value is None else f"{v.value:.2f}", v.word) for v in verdicts]
    return Table(("goal", "wanted", "found", ""), tuple(rows))


def _row(
    found: Found, label: str, samples: Sequence[Sample | None], metrics: Sequence[str]
) -> tuple[str, ...]:
    cells = [METRICS[metric].text(median(samples, metric)) for metric in metrics]
    beside = ratios(samples, found.rows.get(found.base, []), found.metric)
    ratio = median_ratio(samples, found.rows.get(found.base, []), found.metric)
    middle = "-" if ratio is None else f"{ratio:.2f}"
    return (label, *cells, middle, f"{spread(beside):.0%}" if len(beside) > 1 else "")


def _limit(verdict: Verdict) -> str:
    sign = ">=" if verdict.goal.at_least else "<="
    return f"{sign} {verdict.goal.limit:.2f}"
