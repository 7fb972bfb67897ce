"""The peer: Celery as it comes, on its own Redis transport."""

import os
import time
from typing import Any

from celery import Celery

from benchmarks.apps.computing import compute
from benchmarks.apps.probes import write_probe

app = Celery("stock", broker=os.environ.get("BENCH_REDIS_URL", "memory://"))
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_send_task_events=False)


@app.task(name="noop")
def noop(*args: object) -> None:
    """Nothing."""


@app.task(name="wait")
def wait(milliseconds: float, *args: object) -> None:
    """Wait."""
    time.sleep(milliseconds / 1000)


@app.task(name="cpu")
def cpu(milliseconds: float, *args: object) -> None:
    """Compute."""
    compute(milliseconds)


@app.task(name="fail", bind=True)
def fail(self: Any, *args: object) -> None:
    """Fail, with a retry far away: Celery keeps the job unacknowledged, or rewrites it."""
    raise self.retry(exc=RuntimeError("on purpose"), countdown=3600)


@app.task(name="probe")
def probe(pushed_ns: int, milliseconds: float = 0, *args: object) -> None:
    """Write down when it started, then wait."""
    write_probe(os.environ["BENCH_PROBES"], pushed_ns)
    if milliseconds:
        time.sleep(milliseconds / 1000)
