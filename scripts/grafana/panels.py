"""The content of the dashboard: rows of panels, each with its PromQL."""

from __future__ import annotations

from dataclasses import dataclass

#: The choices at the top of the dashboard, as filters.
QUEUE = 'queue=~"$queue"'
CLASS = f'{QUEUE},worker=~"$worker"'
RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: ``queries`` are PromQL with the legend of each."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    """One of Grafana's units: short, s (seconds), bytes, ops (per second), percentunit."""
    width: int = 8
    """Of the 24 columns."""
    kind: str = "timeseries"
    """Or stat: one number; or state-timeline: a bar for each series while it is there."""
    bad_from: float | None = None
    """From this value on it is red."""
    description: str = ""
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row with its title; all panels of it are of one height."""

    title: str
    panels: tuple[Panel, ...]
    height: int = 8


def _rate(series: str, by: str, filters: str = CLASS) -> str:
    return f"sum by ({by}) (rate({series}{{{filters}}}[{RATE}]))"


def _quantile(share: float, series: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({series}_bucket{{{CLASS}}}[{RATE}])))"


def _stat(title: str, query: str, unit: str = "short", bad_from: float | None = None) -> Panel:
    return Panel(title, ((query, ""),), unit, width=3, kind="stat", bad_from=bad_from)


OVERVIEW = Row(
    "At a glance",
    (
        _stat("Jobs a second", f"sum(rate(sidekiq_jobs_executed_total[{RATE}]))", "ops"),
        _stat("Failed runs", f"sum(rate(sidekiq_jobs_failed_total[{RATE}]))", "ops"),
        _stat("Waiting", f"sum(max by (queue) (bridge_queue_depth{{{QUEUE}}}))"),
        _stat("Oldest job", f"max(bridge_queue_latency_seconds{{{QUEUE}}})", "s", bad_from=30),
        _stat("Slots in use", "sum(bridge_slots_busy) / sum(bridge_slots)", "percentunit"),
        _stat("Workers", 'sum(up{job="bridge-worker"})'),
        _stat("Sidecars", 'sum(up{job="bridge-sidecar"})'),
        _stat("Alerts", 'count(ALERTS{alertname=~"Bridge.*", alertstate="firing"}) or vector(0)', bad_from=1),
    ),
    height=4,
)
QUEUES = Row(
    "Queues",
    (
        Panel(
            "Waiting jobs",
            ((f"max by (queue) (bridge_queue_depth{{{QUEUE}}})", "{{queue}}"),),
            description="Every worker tells of the queues that it serves: the largest counts.",
        ),
        Panel(
            "Age of the oldest job",
            ((f"max by (queue) (bridge_queue_latency_seconds{{{QUEUE}}})", "{{queue}}"),),
            "s",
            bad_from=30,
        ),
        Panel(
            "Due jobs not yet promoted",
            (("max(bridge_scheduler_lag_seconds)", "lag"),),
            "s",
            bad_from=30,
        ),
    ),
)
JOBS = Row(
    "Jobs",
    (
        Panel(
            "Runs by class",
            ((_rate("sidekiq_jobs_executed_total", "worker"), "{{worker}}"),),
            "ops",
            stacked=True,
        ),
        Panel("Failed runs by class", ((_rate("sidekiq_jobs_failed_total", "worker"), "{{worker}}"),), "ops"),
        Panel(
            "Where jobs went that were not performed",
            (
                (f"sum(rate(bridge_retries_scheduled_total{{{CLASS}}}[{RATE}]))", "retry"),
                (f"sum(rate(bridge_jobs_dead_total{{{CLASS}}}[{RATE}]))", "dead"),
                (f"sum(rate(bridge_jobs_discarded_total{{{CLASS}}}[{RATE}]))", "discarded"),
                (f"sum(rate(bridge_jobs_interrupted_total{{{CLASS}}}[{RATE}]))", "interrupted"),
                (f"sum(rate(bridge_jobs_given_back_total{{{CLASS}}}[{RATE}]))", "given back"),
            ),
            "ops",
        ),
        Panel(
            "Run time",
            tuple(
                (_quantile(share, "sidekiq_job_runtime_seconds"), f"p{share * 100:g}")
                for share in (0.5, 0.95, 0.99)
            ),
            "s",
        ),
        Panel(
            "Wait in the queue",
            tuple(
                (_quantile(share, "sidekiq_job_latency_seconds"), f"p{share * 100:g}")
                for share in (0.5, 0.95, 0.99)
            ),
            "s",
        ),
        Panel(
            "Oldest running job",
            ((f"max by (worker) (sidekiq_running_job_runtime_seconds{{{CLASS}}})", "{{worker}}"),),
            "s",
        ),
    ),
)
WORKERS = Row(
    "Workers",
    (
        Panel(
            "Slots",
            (("sum by (instance) (bridge_slots_busy)", "{{instance}}"), ("sum(bridge_slots)", "all slots")),
        ),
        Panel(
            "Round trip to Redis",
            (("max by (instance) (bridge_redis_round_trip_seconds)", "{{instance}}"),),
            "s",
        ),
        Panel(
            "Resident memory",
            (
                ('process_resident_memory_bytes{job="bridge-worker"}', "{{instance}}"),
                ("bridge_pool_resident_memory_bytes > 0", "{{instance}} pool"),
            ),
            "bytes",
        ),
        Panel(
            "Reach of the sidecar",
            (("bridge_sidecar_up", "{{instance}}"), ("-bridge_sidecar_rejected < 0", "{{instance}} refused")),
            description="1: a sidecar takes jobs. 0: none does. -1: it refuses this worker.",
        ),
        Panel(
            "Taken from the dead, buried as poison, fenced",
            (
                (f"sum(rate(bridge_jobs_recovered_total[{RATE}]))", "recovered"),
                (f"sum(rate(bridge_jobs_poisoned_total[{RATE}]))", "poisoned"),
                (f"sum(rate(bridge_fenced_total[{RATE}]))", "fenced"),
            ),
            "ops",
        ),
        Panel(
            "Sign of life, and what is not written yet",
            (
                ("max by (instance) (bridge_heartbeat_age_seconds)", "{{instance}} s since the last beat"),
                ("sum(bridge_settlements_waiting)", "settlements that wait"),
            ),
            bad_from=30,
        ),
    ),
)
SIDECARS = Row(
    "Sidecars",
    (
        Panel(
            "Busy slots",
            (
                ("sum by (instance) (bridge_sidecar_busy_slots)", "{{instance}}"),
                ("sum(bridge_sidecar_slots)", "all slots"),
            ),
        ),
        Panel(
            "Resident memory of each process",
            (("bridge_sidecar_resident_memory_bytes", "{{instance}} {{worker}}"),),
            "bytes",
        ),
        Panel(
            "Ended jobs, refused requests, deaths",
            (
                (f"sum by (status) (rate(bridge_sidecar_jobs_total[{RATE}]))", "{{status}}"),
                (
                    f"sum by (code) (rate(bridge_sidecar_requests_refused_total[{RATE}])) > 0",
                    "refused: {{code}}",
                ),
                (f"sum(rate(bridge_sidecar_worker_restarts_total[{RATE}]))", "restarted"),
            ),
            "ops",
        ),
        Panel(
            "Ends of jobs that Ruby is told of",
            (
                ("max(bridge_notices_waiting)", "waiting"),
                (f"sum(rate(bridge_notices_told_total[{RATE}]))", "told a second"),
                (f"sum(rate(bridge_notices_dropped_total[{RATE}]))", "dropped a second"),
            ),
            "short",
        ),
    ),
)
_WORKER = 'worker=~"$worker"'
_SIDES = "{{worker}} {{side}}"
MOVES = Row(
    "Classes that move to Python",
    (
        Panel(
            "Runs by side",
            ((_rate("bridge_move_runs_total", "worker, side", _WORKER), _SIDES),),
            "ops",
            stacked=True,
        ),
        Panel(
            "Share of failed runs by side",
            (
                (
                    f"{_rate('bridge_move_failures_total', 'worker, side', _WORKER)} / "
                    f"{_rate('bridge_move_runs_total', 'worker, side', _WORKER)}",
                    _SIDES,
                ),
            ),
            "percentunit",
        ),
        Panel(
            "Run time by side (95 %)",
            ((f'max by (worker, side) (bridge_move_run_seconds{{{_WORKER},quantile="0.95"}})', _SIDES),),
            "s",
        ),
        Panel(
            "Percentage",
            ((f"max by (worker) (bridge_move_percent{{{_WORKER}}})", "{{worker}}"),),
            description="The percentage of the jids that run in Python.",
        ),
        Panel(
            "Differences that shadows found",
            ((_rate("bridge_move_shadow_differences_total", "worker", _WORKER), "{{worker}}"),),
            "ops",
        ),
    ),
)
LIMITS = Row(
    "Limits",
    (
        Panel(
            "Jobs that wait at a limit",
            (("max by (limit) (bridge_limit_waiting)", "{{limit}}"),),
            description="A limit with keys shows the sum over its keys.",
        ),
        Panel(
            "Places in use",
            (
                ("max by (limit) (bridge_limit_in_use)", "{{limit}}"),
                ("max by (limit) (bridge_limit_concurrency)", "{{limit}}: allowed"),
            ),
        ),
        Panel(
            "Jobs that had to wait", ((f"sum(rate(bridge_jobs_parked_total[{RATE}]))", "a second"),), "ops"
        ),
    ),
)
ALERTS = Row(
    "Alerts",
    (
        Panel(
            "Firing",
            (('max by (alertname) (ALERTS{alertname=~"Bridge.*", alertstate="firing"})', "{{alertname}}"),),
            width=24,
            kind="state-timeline",
        ),
    ),
    height=6,
)
ROWS = (OVERVIEW, ALERTS, QUEUES, JOBS, LIMITS, MOVES, WORKERS, SIDECARS)
