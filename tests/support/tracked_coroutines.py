"""The tracked tasks, and a coroutine beside them, which not every pool can run."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.tracked_tasks import app


@app.task(name="CoroutineJob", track=True)
async def coroutine(value: Any) -> Any:
    await asyncio.sleep(0)
    return {"value": value}
