"""Runs of ``task_always_eager`` and ``Task.apply``: in the caller's process, without Sidekiq's retries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.exceptions import Ignore, Retry

#: Runs after the first, if neither the task nor the call says a number: Sidekiq's own.
DEFAULT_RETRIES = 25


def run(task: Any, args: Any, kwargs: Any) -> Any:
    """The task's own code, with the retries that its own ``autoretry_for`` names.

    The base of all tasks names every error. The caller of an eager run wants that error: a task that always
    failed ran 490 times, into a RecursionError.
    """
    named = tuple(task.autoretry_for)
    if BaseException in named:
        return task.as_function(args, kwargs)
    try:
        return task.as_function(args, kwargs)
    except (Ignore, Retry, *task.dont_autoretry_for):
        raise
    except named as error:
        raise task.retry(exc=error, **task.retry_kwargs) from None


def retry(celerys: Callable[..., Any], task: Any, given: dict[str, Any], options: dict[str, Any]) -> Any:
    """Celery's own retry, outside of a worker. ``celerys`` is ``Task.retry``, ``given`` its arguments."""
    if given["max_retries"] is None:
        given["max_retries"] = _limit(task)
    try:
        return celerys(**given, **options)
    finally:
        # Celery leaves the limit of one call on the task, for its next runs.
        vars(task).pop("override_max_retries", None)


def _limit(task: Any) -> int:
    found = task.max_retries if task.max_retries is not None else task.push_options().get("retry")
    if isinstance(found, bool) or not isinstance(found, int):
        return 0 if found is False else DEFAULT_RETRIES
    return found
