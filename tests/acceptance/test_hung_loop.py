"""A fetch loop that hangs: its probe says so, and its jobs go to another worker. One that is idle is well."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.probes import get, status
from tests.support.processes import ROOT, clean_environment
from tests.support.stage import Stage
from tests.support.waiting import wait_until_equal
from tests.support.worker_process import CELERY, WorkerProcess, bridge_environment

#: A command that never returns holds the thread on which the loop turns.
MODULE = """
import time
from celery.worker.control import control_command
from tests.support.native_tasks import app

@control_command()
def block(state):
    time.sleep(600)
"""
#: Nothing has moved for 60 s; the lease of 5 s ends; two rounds of everybody.
HUNG_SECONDS = 60
TAKEN_OVER_SECONDS = 40


@pytest.fixture
def make(bare_stage: Stage) -> Iterator[Callable[..., WorkerProcess]]:
    """Makes workers, and ends them."""
    made: list[WorkerProcess] = []

    def worker(*arguments: str, **options: Any) -> WorkerProcess:
        made.append(bare_stage.make_worker(*arguments, **options))
        return made[-1]

    yield worker
    bare_stage.ledger.open_gate("all")
    for each in made:
        each.process.kill()


def test_a_loop_that_hangs_fails_its_probe_and_loses_its_jobs(
    bare_stage: Stage, make: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    stage = bare_stage
    (tmp_path / "blocking.py").write_text(MODULE)
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}

    # Given a worker with a running job, and another that is idle
    hung = make("-n", "hung@%h", module="blocking", env=path, name="hung")
    jid = stage.ruby.push("NativeGateJob", "never")
    stage.ledger.wait_for("started", jid)
    idle = make("-n", "idle@%h", name="idle")
    assert (status(hung, "live"), status(idle, "live")) == (200, 200)

    # When its loop hangs
    words = ["control", "--timeout", "1", "-d", f"hung@{socket.gethostname()}", "block"]
    subprocess.run(
        [CELERY, "-A", "blocking", *words],
        env=clean_environment() | bridge_environment(stage.redis_url, None) | path,
        cwd=tmp_path, capture_output=True, timeout=60, check=False,
    )  # fmt: skip

    # Then its probe says so after a while, and that of the idle worker never
    wait_until_equal(lambda: status(hung, "live"), 503, "the probe of the hung worker", HUNG_SECONDS + 30)
    assert "fetch loop" in get(hung, "/health/live")[1]
    assert status(idle, "live") == 200

    # and the other worker runs the job
    stage.ledger.wait_for("started", jid, times=2, seconds=TAKEN_OVER_SECONDS)
