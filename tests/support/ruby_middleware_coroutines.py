"""A user's module: a coroutine inside Ruby's middleware, beside the tasks of ruby_middleware_tasks."""

from __future__ import annotations

import asyncio

from bridge import app
from bridge.execution.task import SidekiqTask
from tests.support import ruby_middleware_tasks
from tests.support.native_tasks import note


@app.task(name="AsyncJob", bind=True, ruby_middleware=True)
async def coroutine(self: SidekiqTask, word: str) -> None:
    """A coroutine."""
    await asyncio.sleep(0.01)
    note(self, "python", word)


__all__ = ["ruby_middleware_tasks"]
