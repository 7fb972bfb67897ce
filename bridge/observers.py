"""Whether anything but the result of a task's run could be noticed: Celery's tracer is there for that."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.app import trace

HOOKS = ("__call__", "before_start", "on_success", "after_return")


def observation(task: Any) -> Callable[[], bool]:
    """Says, whenever it is asked, whether somebody would miss the tracer of a run that succeeds.

    Somebody is: a receiver of the task's signals, a method of the task class, a log at INFO, or a library
    that has replaced the tracer (Sentry, New Relic).
    """
    if _is_replaced(trace.build_tracer) or any(_overrides(task, name) for name in HOOKS):
        return lambda: True
    watched = (signals.task_prerun, signals.task_postrun, signals.task_success)
    logger: logging.Logger = trace.logger

    def is_observed() -> bool:
        return any(signal.receivers for signal in watched) or logger.isEnabledFor(logging.INFO)

    return is_observed


def _is_replaced(function: Any) -> bool:
    return type(function) is not types.FunctionType or function.__module__ != trace.__name__


def _overrides(task: Any, name: str) -> bool:
    """Whether a class of the task's, below Celery's own, has such a method."""
    for cls in task.__class__.__mro__:  # not type(): the task may still be a proxy
        if cls.__module__.startswith("celery."):
            return False
        if name in vars(cls):
            return True
    return False
