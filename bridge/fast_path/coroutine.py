"""Runs an unobserved coroutine task on the event loop; no thread waits for it.

As for every native task, Celery traces a run that ends in an exception. That is done in a pool thread: what
the tracer calls may block.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from celery.app.task import Context

from bridge.execution import failure_log, outcomes
from bridge.execution.call import apply
from bridge.execution.coroutine_loop import CoroutineLoop
from bridge.execution.coroutine_run import CoroutineRun
from bridge.fast_path.request import LazyRequest


async def run(request: LazyRequest, loop: CoroutineLoop, in_thread: Callable[..., None]) -> None:
    """Run it to its end. Raises nothing. ``in_thread`` calls a function with arguments in a thread."""
    try:
        if not request.may_begin():
            return
        request.begin()
        raised = await _run(request, loop)
        if not raised:
            request.done()
        else:
            call = request.call(**raised)
            in_thread(contextvars.copy_context().run, apply, call)
    except BaseException:
        # A fault of ours costs neither the loop nor the job.
        request.lose()
        failure_log.fault("jid=%s could not be run to its end", request.id)


async def _run(request: LazyRequest, loop: CoroutineLoop) -> dict[str, Any]:
    """Await the task's coroutine. Returns headers, as ``outcomes.as_headers`` says."""
    task: Any = request.task
    fields, args, kwargs = request.context()
    context = Context(fields, args=args, kwargs=kwargs, called_directly=False)
    try:
        run = CoroutineRun(task.code(*args, **kwargs), task, request.unit.delivery.token)
        with run.as_current(context):
            result = await loop.result(run)
        if request.unit.delivery.tracked:
            request.returned(result)
    except BaseException as error:
        return outcomes.as_headers(context, error)
    return outcomes.as_headers(context)
