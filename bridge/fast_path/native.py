"""Runs an unobserved native task: its code, and the context that Celery promises to a running task.

That is ``self.request`` and the current task. Celery traces a run that ends in an exception: it carries out
retries, and tells the observers.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery._state import _task_stack  # type: ignore[attr-defined]
from celery.app.task import Context

from bridge.broker.messages import RAISED_HEADER
from bridge.execution import async_exceptions
from bridge.execution.call import apply
from bridge.execution.coroutine_run import finish
from bridge.fast_path.request import LazyRequest

logger = logging.getLogger(__name__)


def run(request: LazyRequest) -> None:
    """Run it to its end. Raises nothing."""
    try:
        began = time.monotonic()
        if not request.begin():
            return
        error = _error_of(request)
        if error is None:
            request.done(time.monotonic() - began)
        else:
            apply(request.call(**{RAISED_HEADER: error}))
    except BaseException:
        # A fault of ours, or what was raised for the task and came too late, costs neither thread nor job.
        logger.exception("jid=%s could not be run to its end", request.id)
        request.lose()


def _error_of(request: LazyRequest) -> BaseException | None:
    """Call the task's code; returns what it raised."""
    task: Any = request.task
    fields, args, kwargs = request.context()
    _task_stack.push(task)
    task.request_stack.push(Context(fields, args=args, kwargs=kwargs, called_directly=False))
    try:
        token = request.unit.delivery.token
        result = async_exceptions.call(task.code, token, args, kwargs)
        if result is not None:
            finish(task, result, token)
    except BaseException as error:
        return error
    finally:
        task.request_stack.pop()
        _task_stack.pop()
    return None
