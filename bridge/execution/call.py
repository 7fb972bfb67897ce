"""A run of a task, as Celery's worker asks a pool for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from celery.concurrency.base import apply_target

from bridge.execution import failure_log


class Call(NamedTuple):
    """``target`` with ``args`` is Celery's tracer with its task; ``callback`` gets what it returns."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any] | None
    callback: Callable[..., Any]
    accept_callback: Callable[..., Any] | None
    """Called with process id and monotonic time when the run begins; None when that was done."""


def apply(call: Call) -> None:
    """Run it to its end. Raises nothing."""
    target, args, kwargs, callback, accept_callback = call
    try:
        apply_target(
            target, args, kwargs, callback, accept_callback, pid=os.getpid(), monotonic=time.monotonic
        )
    except BaseException:
        # The tracer turns every error of a task into a result; what arrives here is a fault of ours or of
        # Celery, and it must cost neither the thread nor the loop.
        request = getattr(callback, "__self__", None)
        if request is not None and hasattr(request, "lose"):
            request.lose()
        failure_log.fault("a task could not be run to its end")
