"""Scenarios that measure how soon a job starts, and what a push takes."""

from __future__ import annotations

from benchmarks.cast import Cast
from benchmarks.methods.latency import Latency
from benchmarks.methods.push import Push, python_pusher, ruby_pusher
from benchmarks.methods.startup import Startup
from benchmarks.scenarios.model import REAL_KB, Row, Scale, Scenario, rows_of, scenario

#: Jobs of 10 ms a second that keep half of 20 slots busy.
HALF_LOAD = 1000.0


def latency(cast: Cast, scale: Scale) -> list[Scenario]:
    """While the worker is idle, and while half of its slots are busy."""
    return [_idle_latency(cast, scale), _busy_latency(cast, scale)]


def _idle_latency(cast: Cast, scale: Scale) -> Scenario:
    method = Latency(50, 0, scale.latency, kilobytes=REAL_KB)
    rows = rows_of((cast.base, cast.native, cast.bridge), (*cast.older, cast.celery), method)
    what = (
        f"From push to start: single jobs with {REAL_KB} KB of arguments at random moments, 50 a second. "
        "Limit: each thread that must wake adds its time. Sidekiq and a native job wake one, a sidecar two."
    )
    return scenario("latency, idle", "p50_ms", rows, what)


def _busy_latency(cast: Cast, scale: Scale) -> Scenario:
    method = Latency(HALF_LOAD, 10, scale.latency, kilobytes=REAL_KB)
    rows = rows_of((cast.base, cast.native, cast.bridge), (cast.celery,), method)
    what = (
        "From push to start while half of the slots are busy: jobs of 10 ms, 1,000 a second at random "
        "moments (stock Celery: 300 a second, half of what it can do). Limit: the wait for a busy core."
    )
    return scenario("latency, 50 % load", "p50_ms", rows, what)


def push(cast: Cast, scale: Scale) -> Scenario:
    """The producers."""
    pushers = [
        ruby_pusher(cast.base.root),
        python_pusher("Celery apply_async", "celery", "celery"),
        python_pusher("bridge send_task (Python)", "bridge", "queue:default"),
    ]
    rows = [Row(pusher.name, pusher, Push(scale.pushes)) for pusher in pushers]
    what = "Pushes of one process. Limit: one round trip for each, and the producer's own CPU."
    return scenario("push", "pushes_per_second", rows, what, rounds=1)


def start(cast: Cast) -> Scenario:
    """From nothing to the first job."""
    rows = rows_of((cast.base, cast.native, cast.bridge), (*cast.older, cast.celery), Startup())
    what = (
        "From the start of the processes (worker and sidecar at once) to the start of the first job. "
        "Limit: the CPU that imports take, Celery's among them."
    )
    return scenario("start to first job", "first_job_seconds", rows, what)
