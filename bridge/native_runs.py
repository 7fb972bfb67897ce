"""Runs a native task that nobody watches: its code, and what Celery promises to code that runs as a task.

That is ``self.request`` and the current task. What ends in an exception is traced by Celery after all: it
carries out retries, and tells whoever wants to know.
"""

from __future__ import annotations

import time
from typing import Any

from celery._state import _task_stack
from celery.app.task import Context

from bridge.broker.messages import RAISED_HEADER
from bridge.plain_request import PlainRequest
from bridge.runs import apply


def run(request: PlainRequest) -> None:
    """Run it to its end. Raises nothing."""
    began = time.monotonic()
    request.begin()
    error = _error_of(request.task, request)
    if error is None:
        request.done(time.monotonic() - began)
    else:
        apply(request.call(**{RAISED_HEADER: error}))


def _error_of(task: Any, request: PlainRequest) -> BaseException | None:
    """Call the task's code; returns what it raised."""
    args, kwargs = request.args, request.kwargs
    _task_stack.push(task)
    task.request_stack.push(Context(request.request_dict, args=args, kwargs=kwargs, called_directly=False))
    try:
        task.code(*args, **kwargs)
    except BaseException as error:
        return error
    finally:
        task.request_stack.pop()
        _task_stack.pop()
    return None
