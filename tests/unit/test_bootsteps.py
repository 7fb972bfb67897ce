"""The order in which the parts of a worker begin."""

from __future__ import annotations

import os
import subprocess
import sys

ORDER = """
from bridge import app
from bridge.worker.consumer import JobConsumer

blueprint = JobConsumer.Blueprint(steps=app.steps["consumer"])
blueprint.steps = blueprint.claim_steps()
print(*(step.name for step in blueprint._finalize_steps(blueprint.steps)))
"""


def started(seed: int) -> list[str]:
    """The steps of a consumer, in the order of their start in one process."""
    command = [sys.executable, "-c", ORDER]
    return subprocess.check_output(
        command, env={**os.environ, "PYTHONHASHSEED": str(seed)}, text=True
    ).split()


def test_the_parts_of_a_worker_start_in_the_same_order_each_time() -> None:
    """Celery starts them in the order of a set, that is of hashes and addresses.

    So a scheduler might promote before the sidecar had said in which unit its Sidekiq writes times.
    """
    first, *others = map(started, range(4))
    assert others == [first] * 3
    assert [name.rpartition(".")[2] for name in first if name.startswith("bridge.worker.bootsteps")] == [
        "Sidecar",
        "Scheduler",
        "Reaper",
        "Heartbeat",
        "TimeLimits",
    ]
    assert first[-1].endswith("Evloop")
