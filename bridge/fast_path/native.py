"""Runs an unobserved native task: its code, and the context that Celery promises to a running task.

That is ``self.request`` and the current task. Celery traces a run that ends in an exception: it carries out
retries, and tells the observers.
"""

from __future__ import annotations

import time
from typing import Any

from celery._state import _task_stack  # type: ignore[attr-defined]
from celery.app.task import Context

from bridge.execution import async_exceptions, failure_log, outcomes
from bridge.execution.call import apply
from bridge.execution.coroutine_run import finish
from bridge.fast_path.request import LazyRequest


def run(request: LazyRequest) -> None:
    """Run it to its end. Raises nothing."""
    try:
        began = time.monotonic()
        if not request.begin():
            return
        raised = _run(request)
        if raised is None:
            return
        if not raised:
            request.done(time.monotonic() - began)
        else:
            apply(request.call(**raised))
    except BaseException:
        # A fault of ours, or what was raised for the task and came too late, costs neither thread nor job.
        request.lose()
        failure_log.fault("jid=%s could not be run to its end", request.id)


def _run(request: LazyRequest) -> dict[str, Any] | None:
    """Call the task's code. Returns headers: its error and the retry it asked for; none for a success.

    None: the run is to be retried, and settled.
    """
    task: Any = request.task
    fields, args, kwargs = request.context()
    context = Context(fields, args=args, kwargs=kwargs, called_directly=False)
    _task_stack.push(task)
    task.request_stack.push(context)
    try:
        token = request.unit.delivery.token
        result = async_exceptions.call(task.code, token, args, kwargs)
        if result is not None:
            result = finish(task, result, token)
            if request.unit.delivery.tracked:
                request.returned(result)
    except BaseException as error:
        return None if request.retried(error) else outcomes.as_headers(context, error)
    finally:
        task.request_stack.pop()
        _task_stack.pop()
    # Its code may have asked for a retry and swallowed it.
    return outcomes.as_headers(context) if outcomes.ASKED_ATTRIBUTE in context.__dict__ else {}
