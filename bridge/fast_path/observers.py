"""Whether anything but the outcome of a run could be noticed: Celery's machinery is there for that."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.app import trace
from celery.loaders.base import BaseLoader
from celery.worker import strategy

from bridge.broker.messages import RUBY_TASK

HOOKS = ("__call__", "before_start", "on_success", "after_return")
LOADER_HOOKS = ("on_task_init", "on_process_cleanup")


def observation(task: Any) -> Callable[[], bool]:
    """Return a function that says whether an observer would miss Celery's signals about a run that succeeds.

    Observers are: a receiver of the task's signals, a method of the task class or of the loader,
    a log at INFO, a rate limit, or a library that has replaced the tracer (Sentry, New Relic).
    """
    if is_replaced(trace.build_tracer) or _has_hooks(task):
        return lambda: True
    received, prerun, postrun, success = (
        signals.task_received,
        signals.task_prerun,
        signals.task_postrun,
        signals.task_success,
    )
    receiving: logging.Logger = strategy.logger
    tracing: logging.Logger = trace.logger
    info = logging.INFO

    def is_observed() -> bool:
        # The lists of receivers are looked up each time: Celery makes new ones.
        return bool(
            received.receivers
            or prerun.receivers
            or postrun.receivers
            or success.receivers
            or task.rate_limit
            or receiving.isEnabledFor(info)
            or tracing.isEnabledFor(info)
        )

    return is_observed


def need_tracer(task: Any) -> bool:
    """Whether each run that raises must end in Celery's tracer, also one that is to be retried."""
    # Celery's backoff for a Ruby job asks the task's context for the number of its retries.
    has_backoff = task.name == RUBY_TASK and bool(getattr(task, "retry_backoff", None))
    return has_backoff or overrides(task, "on_retry") or not task.ignore_result


def _has_hooks(task: Any) -> bool:
    loader = type(task.app.loader)
    return any(overrides(task, name) for name in HOOKS) or any(
        getattr(loader, name) is not getattr(BaseLoader, name) for name in LOADER_HOOKS
    )


def is_replaced(function: Any) -> bool:
    """Whether a function of Celery's tracer is not Celery's own."""
    return type(function) is not types.FunctionType or function.__module__ != trace.__name__


def overrides(task: Any, name: str) -> bool:
    """Whether a class of the task's, below Celery's own, has such a method."""
    for cls in task.__class__.__mro__:  # not type(): the task may still be a proxy
        if cls.__module__.startswith("celery."):
            return False
        if name in vars(cls):
            return True
    return False
