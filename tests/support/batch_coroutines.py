"""A coroutine that adds a job to its own batch."""

from __future__ import annotations

from bridge import Batch, app


@app.task(name="CoroutineAddingJob")
async def add() -> None:
    batch = Batch.current()
    assert batch is not None
    with batch.jobs():
        app.send_task("ImportRowJob", args=["added"])
