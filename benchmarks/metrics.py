"""Names of what is measured, for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """``better`` is ``more`` or ``less``; ``digits`` after the point."""

    title: str
    better: str
    digits: int = 0

    def text(self, value: float | None) -> str:
        """A cell of a table."""
        return "-" if value is None else f"{value:,.{self.digits}f}"


METRICS = {
    "jobs_per_second": Metric("jobs/s", "more"),
    "pushes_per_second": Metric("pushes/s", "more"),
    "cpu_us_per_job": Metric("CPU us/job", "less"),
    "worker_us_per_job": Metric("of it worker", "less"),
    "redis_us_per_job": Metric("Redis us/job", "less"),
    "cost_us_per_job": Metric("CPU and Redis us/job", "less"),
    "cpu_us_per_push": Metric("CPU us/push", "less"),
    "busy_cores": Metric("cores busy", "more", 2),
    "p50_ms": Metric("p50 ms", "less", 2),
    "p99_ms": Metric("p99 ms", "less", 2),
    "max_ms": Metric("max ms", "less", 1),
    "first_job_seconds": Metric("seconds", "less", 2),
    "commands_per_job": Metric("Redis commands/job", "less", 1),
    "cpu_ms_per_job": Metric("CPU ms/job", "less", 2),
    "busy_commands_per_job": Metric("busy: commands/job", "less", 1),
    "busy_cpu_ms_per_job": Metric("busy: CPU ms/job", "less", 2),
    "idle_commands_per_second": Metric("idle commands/s", "less", 1),
    "carried_per_second": Metric("jobs/s of one Redis core", "more"),
    "idle_redis_percent": Metric("idle Redis CPU %", "less", 2),
    "commands_per_second": Metric("Redis commands/s", "less", 1),
    "cpu_percent": Metric("CPU % of a core", "less", 2),
    "worker_cpu_percent": Metric("of it worker and keeper", "less", 2),
    "redis_cpu_percent": Metric("Redis CPU %", "less", 2),
    "pss_mb": Metric("memory MB (PSS)", "less"),
}
