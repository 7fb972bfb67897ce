"""Runs of ``task_always_eager`` and ``Task.apply``: in the caller's process, without Sidekiq's retries."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

#: Runs after the first, if neither the task nor the call says a number: Sidekiq's own.
DEFAULT_RETRIES = 25
_AUTORETRY = "celery.app.autoretry"


def retry(
    celerys: Callable[..., Any], task: Any, given: dict[str, Any], options: dict[str, Any], *, implicit: bool
) -> Any:
    """Celery's own retry, for a run outside of a worker.

    ``celerys`` is ``Task.retry`` and ``given`` its arguments. ``implicit``: the task does not name the errors
    to retry, and so every error comes here. Celery has no such retries, and the caller of an eager run wants
    the error: a task that always failed ran 490 times, into a RecursionError.
    """
    exc = given["exc"]
    if task.request.is_eager and implicit and exc is not None and _asked_by_autoretry():
        raise exc
    if given["max_retries"] is None:
        given["max_retries"] = _limit(task)
    try:
        return celerys(**given, **options)
    finally:
        # Celery leaves the limit of one call on the task, for its next runs.
        vars(task).pop("override_max_retries", None)


def _asked_by_autoretry() -> bool:
    """Whether Celery's wrapper around the task called, and not the task's own code."""
    return sys._getframe(3).f_globals.get("__name__") == _AUTORETRY


def _limit(task: Any) -> int:
    found = task.max_retries if task.max_retries is not None else task.push_options().get("retry")
    if isinstance(found, bool) or not isinstance(found, int):
        return 0 if found is False else DEFAULT_RETRIES
    return found
