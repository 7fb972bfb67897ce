"""A coroutine task that decides about its own retries. A worker with gevent's pool refuses it."""

from __future__ import annotations

import asyncio
import contextlib

from bridge import app
from bridge.execution.task import SidekiqTask
from tests.support.native_tasks import note
from tests.support.retrying_tasks import DELAY, Other


@app.task(name="AskingCoroutineJob", bind=True)
async def asking_coroutine(self: SidekiqTask, way: str) -> None:
    note(self, "started", way)
    await asyncio.sleep(0)
    if way == "swallowed":
        with contextlib.suppress(Exception):
            raise self.retry(countdown=DELAY)
    elif way == "without a throw":
        self.retry(countdown=DELAY, throw=False)
    elif way == "error":
        raise Other("in a coroutine")
    note(self, "done", way)
