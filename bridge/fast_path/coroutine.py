"""Runs an unobserved coroutine task on the event loop; no thread waits for it.

As for every native task, Celery traces a run that ends in an exception. That is done in a pool thread: what
the tracer calls may block.
"""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Callable
from typing import Any

from celery.app.task import Context

from bridge.broker.messages import RAISED_HEADER
from bridge.execution.call import apply
from bridge.execution.coroutine_loop import CoroutineLoop
from bridge.execution.coroutine_run import CoroutineRun
from bridge.fast_path.request import LazyRequest

logger = logging.getLogger(__name__)


async def run(request: LazyRequest, loop: CoroutineLoop, in_thread: Callable[..., None]) -> None:
    """Run it to its end. Raises nothing. ``in_thread`` calls a function with arguments in a thread."""
    try:
        began = time.monotonic()
        if not request.begin():
            return
        error = await _error_of(request, loop)
        if error is None:
            request.done(time.monotonic() - began)
        else:
            call = request.call(**{RAISED_HEADER: error})
            in_thread(contextvars.copy_context().run, apply, call)
    except BaseException:
        # A fault of ours costs neither the loop nor the job.
        logger.exception("jid=%s could not be run to its end", request.id)
        request.lose()


async def _error_of(request: LazyRequest, loop: CoroutineLoop) -> BaseException | None:
    """Await the task's coroutine; returns what it raised."""
    task: Any = request.task
    try:
        fields, args, kwargs = request.context()
        run = CoroutineRun(task.code(*args, **kwargs), task, request.unit.delivery.token)
        with run.as_current(Context(fields, args=args, kwargs=kwargs, called_directly=False)):
            await loop.result(run)
    except BaseException as error:
        return error
    return None
