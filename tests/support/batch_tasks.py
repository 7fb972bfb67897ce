"""Native tasks of batches."""

from __future__ import annotations

from bridge import Batch, app
from bridge.execution.task import SidekiqTask
from tests.support.native_tasks import note


@app.task(name="ReportJob", bind=True)
def report(self: SidekiqTask, *args: object) -> None:
    note(self, "done", *args)


@app.task(name="NativeAddingJob", bind=True)
def add(self: SidekiqTask) -> None:
    batch = Batch.current()
    assert batch is not None
    with batch.jobs():
        app.send_task("ImportRowJob", args=["added"])
    note(self, "done")


@app.task(name="SecondStepJob")
def second_step() -> None:
    batch = Batch.current()
    assert batch is not None
    with batch.jobs():
        app.send_task("ImportRowJob", args=[2])


@app.task(name="AddJob")
def add_numbers(x: int, y: int) -> int:
    return x + y
