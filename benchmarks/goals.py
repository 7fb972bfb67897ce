"""The goals of the bridge, as ratios of the same round."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.cast import CELERY_PREFORK, NATIVE, NATIVE_PREFORK, SIDECAR, UP
from benchmarks.figures import median, median_ratio
from benchmarks.results import Found, Results

BASE = ""
ONE_NATIVE, ONE_SIDECAR = f"{NATIVE} -c 20", f"{SIDECAR} -c 20"
CELERY = "Celery, threads -c 20"
PREFORK = f"{CELERY_PREFORK} -c 2"
LONG = ", 1000 queues"
SIDEKIQ = f"Sidekiq 8.1 -c 20{LONG}"
FAR = "12"
"""Workers of the fleet whose cost is compared with that of one."""
#: The largest ratio that counts as "the same": machines differ from second to second.
SAME = 1.1
PYTHON, FIRST_JOB = "5 ms Python CPU", "first_job_seconds"
#: KB of arguments -> the wanted part of Sidekiq's jobs per second.
PAYLOADS = {1: 0.95, 10: 0.9, 100: 0.7}


@dataclass(frozen=True)
class Goal:
    """``metric`` of ``row`` divided by that of ``beside`` (None: not divided; empty: the scenario's base)."""

    text: str
    scenario: str
    row: str
    metric: str
    beside: str | None
    limit: float
    at_least: bool


@dataclass(frozen=True)
class Verdict:
    """``value`` is None where it was not measured."""

    goal: Goal
    value: float | None

    @property
    def reached(self) -> bool | None:
        """None where it was not measured."""
        if self.value is None:
            return None
        # The verdict uses the printed value, with two digits.
        value = round(self.value, 2)
        return value >= self.goal.limit if self.goal.at_least else value <= self.goal.limit

    @property
    def word(self) -> str:
        """For a table."""
        return {True: "reached", False: "not reached", None: "not measured"}[self.reached]


def _faster(text: str, scenario: str, row: str, limit: float, beside: str = BASE) -> Goal:
    return Goal(text, scenario, row, "jobs_per_second", beside, limit, at_least=True)


def _less(text: str, scenario: str, row: str, metric: str, limit: float, beside: str | None) -> Goal:
    return Goal(text, scenario, row, metric, beside, limit, at_least=False)


def _cheap(row: str) -> list[Goal]:
    cost, few, many = "cost_us_per_job", f"{row}, 1,000 waiting", f"{row}, 1,000,000 waiting"
    return [
        _less(f"{row}: cost per job, 1,000,000 to 1,000 waiting", "backlog", many, cost, SAME, few),
        _less(f"{row}: cost per job, 100 queues to 1", "queues", f"{row}, 100 queues", cost, 1.2, row),
        _less(
            f"{row}: cost per job, 1,000 queues to Sidekiq's", "queues", f"{row}{LONG}", cost, 0.5, SIDEKIQ
        ),
    ]


def _any_size(kilobytes: int, limit: float) -> list[Goal]:
    scenario = f"{kilobytes} KB of arguments"
    return [_faster(f"{row}: {scenario}", scenario, row, limit) for row in (ONE_NATIVE, ONE_SIDECAR)]


def _prompt(row: str, p50: float) -> list[Goal]:
    return [
        _less(f"{row}: idle latency, p50 to Sidekiq's", "latency, idle", row, "p50_ms", p50, BASE),
        _less(f"{row}: idle latency, p99 in ms", "latency, idle", row, "p99_ms", 5.0, None),
    ]


def _fleet(name: str) -> list[Goal]:
    one, far = f"{name} -c 20", f"{name} x {FAR} -c 20"
    calls, cpu, text = "commands_per_job", "cpu_ms_per_job", f"{name}: a push to an idle fleet"
    return [
        _less(f"{text} of 1, Redis commands", "fleet", one, calls, 8.0, None),
        _less(f"{text} of {FAR} to one of 1, Redis commands", "fleet", far, calls, 1.3, one),
        _less(f"{text} of {FAR} to one of 1, CPU", "fleet", far, cpu, 1.5, one),
    ]


def _frugal(row: str, queues: str) -> list[Goal]:
    text = f"idle worker, {queues or '1 queue'}"
    return [
        _less(f"{text}: CPU in % of a core", "idle", row, "worker_cpu_percent", 1.0, None),
        _less(f"{text}: Redis commands per second", "idle", row, "commands_per_second", 5.0, None),
    ]


GOALS = [
    _faster("native no-op", "native no-op", ONE_NATIVE, 1.1),
    _faster("native no-op, to Celery's stock transport", "native no-op", ONE_NATIVE, 10.0, CELERY),
    _faster("sidecar no-op", "sidecar no-op", ONE_SIDECAR, 0.95),
    _faster("10 ms waiting", "10 ms waiting", ONE_SIDECAR, 1.0),
    _faster("5 ms of Ruby CPU, two Puma workers", "5 ms Ruby CPU", ONE_SIDECAR, 2.0),
    _faster("two workers, native no-op", "two workers", f"{NATIVE} x 2 -c 20", 1.8),
    _faster("two workers, sidecar no-op", "two workers", f"{SIDECAR} x 2 -c 20", 1.25),
    _faster("5 ms of Python CPU, two workers of `bridge up`", PYTHON, f"{UP} x 2 -c 20", 1.1, PREFORK),
    _faster("5 ms of Python CPU, `-P prefork -c 2`", PYTHON, f"{NATIVE_PREFORK} -c 2", 1.1, PREFORK),
    *(goal for kilobytes, limit in PAYLOADS.items() for goal in _any_size(kilobytes, limit)),
    *_prompt(ONE_NATIVE, 1.1),
    *_prompt(ONE_SIDECAR, 1.3),
    *_fleet(NATIVE),
    *_fleet(SIDECAR),
    _less("native: start to first job, seconds", "start to first job", ONE_NATIVE, FIRST_JOB, 0.9, None),
    _less("sidecar: start to first job, seconds", "start to first job", ONE_SIDECAR, FIRST_JOB, 0.9, None),
    *_cheap(ONE_NATIVE),
    *_cheap(ONE_SIDECAR),
    *_frugal(ONE_SIDECAR, ""),
    *_frugal(f"{ONE_SIDECAR}, 100 queues", "100 queues"),
    _less(
        "memory, to two Sidekiq processes of the same Rails app", "memory", ONE_SIDECAR, "pss_mb", 1.0, BASE
    ),
    _faster("the same run's throughput, to theirs", "memory", ONE_SIDECAR, 1.0 / SAME),
    *(_faster(f"{row}: promotion of due jobs", "promotion", row, 2.0) for row in (ONE_NATIVE, ONE_SIDECAR)),
    _faster(f"{ONE_NATIVE}: failing jobs", "failing job", ONE_NATIVE, 1.0),
    _faster(f"{ONE_SIDECAR}: failing jobs", "failing job", ONE_SIDECAR, 0.75),
]


def verdicts(results: Results) -> list[Verdict]:
    """All goals, in order."""
    return [Verdict(goal, _value(goal, results.scenarios.get(goal.scenario))) for goal in GOALS]


def _value(goal: Goal, found: Found | None) -> float | None:
    if found is None or goal.row not in found.rows:
        return None
    ours = found.rows[goal.row]
    if goal.beside is None:
        return median(ours, goal.metric)
    return median_ratio(ours, found.rows.get(goal.beside or found.base, []), goal.metric)
