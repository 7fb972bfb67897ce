"""The native tasks of the fault tests, beside those that all tests share."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from bridge import app
from bridge.execution.task import SidekiqTask
from tests.support.native_tasks import note

real_time = time.time


def wrong_time() -> float:
    """The wall clock, as wrong as the file says."""
    return real_time() + float(Path(os.environ["TEST_CLOCK"]).read_text() or 0)


if "TEST_CLOCK" in os.environ:
    time.time = wrong_time


@app.task(name="NativeFailOnceJob", bind=True)
def fail_once(self: SidekiqTask) -> None:
    note(self, "started")
    try:
        (Path(os.environ["TEST_LEDGER_HOST"]).parent / f"once-{self.request.id}").touch(exist_ok=False)
    except FileExistsError:
        note(self, "done")
        return
    note(self, "failed")
    raise ValueError("the first run fails on purpose")


@app.task(name="NativeKillerJob", bind=True)
def killer(self: SidekiqTask) -> None:
    note(self, "started")
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@app.task(name="NativeNothingJob")
def nothing(*args: object) -> None:
    pass
