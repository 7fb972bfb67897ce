"""The tasks of ``moving_tasks``, and one for pools that have an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from bridge.execution.task import SidekiqTask
from tests.support.moving_tasks import app


@app.task(name="CoroutineJob", bind=True, shadow_safe=True)
async def coroutine(self: SidekiqTask, *args: Any) -> list[Any]:
    await asyncio.sleep(0.01)
    return [self.is_shadow, *args]
