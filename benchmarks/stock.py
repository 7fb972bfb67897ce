"""The peer: Celery as it comes, on its own Redis transport."""

import os

from celery import Celery

app = Celery("stock", broker=os.environ["BENCH_REDIS_URL"])
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_send_task_events=False)


@app.task(name="noop")
def noop(*args: object) -> None:
    """Nothing."""
