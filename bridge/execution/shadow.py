"""Shadows of Ruby runs: what a task says and sees of them, and the dry run itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from celery._state import _task_stack  # type: ignore[attr-defined]
from celery.exceptions import Ignore

from bridge.execution import coroutine_run
from bridge.sidekiq.payload.job import SidekiqJob

#: Field of the request of a dry run.
SHADOW_FIELD = "bridge_is_shadow"
#: Celery's option, and its environment variables (celery/bin/celery.py).
_OPTIONS, _VARIABLES = ("-A", "--app"), ("APP", "CELERY_APP")


class Shadowed:
    """The part of a task that is about shadows."""

    shadow_safe: bool = False
    """Whether the code writes nothing while ``is_shadow`` is true. No other task runs as a shadow."""
    request: Any

    @property
    def is_shadow(self) -> bool:
        """Whether this run only shows what the code would return: Ruby has done the job."""
        return bool(self.request.get(SHADOW_FIELD))


def is_accepted(app: Any, name: str) -> bool:
    """Whether a class has a task that may run as a shadow."""
    return bool(getattr(app.tasks.get(name), "shadow_safe", False))


def origin(app: Any) -> dict[str, Any]:
    """The facts with which another process loads the tasks of this worker."""
    modules = sorted({task.__module__ for name, task in app.tasks.items() if is_accepted(app, name)})
    return {
        "app": app_name(sys.argv[1:], os.environ),
        "modules": modules,
        "path": sys.path,
        "show_args": app.bridge.settings.show_args,
    }


def app_name(words: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """The application that a ``celery`` command names; None for a worker that a program has started."""
    for place, word in enumerate(words):
        option, _, value = word.partition("=")
        if option in _OPTIONS:
            return value or next(iter(words[place + 1 :]), None)
        if word.startswith("-A"):
            return word[2:]
    return next((environ[name] for name in _VARIABLES if environ.get(name)), None)


def dry_run(app: Any, job: SidekiqJob) -> Any:
    """Run the native task of a job with ``is_shadow``. Returns what it returns; raises what it raises."""
    task = app.tasks[job.native_class]
    args, kwargs = job.native_arguments()
    count = job.retry_count
    # Called directly: self.retry raises, and decides nothing. Eager: a coroutine is awaited.
    own = {"id": job.jid, "retries": 0 if count is None else count + 1, SHADOW_FIELD: True}
    _task_stack.push(task)
    task.push_request(args=args, kwargs=kwargs, called_directly=True, is_eager=True, **own)
    try:
        return coroutine_run.finish(task, task.code(*args, **kwargs), None)
    except Ignore:
        return None
    finally:
        task.pop_request()
        _task_stack.pop()
