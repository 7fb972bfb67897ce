"""Makes a task of any base class run Sidekiq jobs, and tells Celery's own tasks from a user's."""

from __future__ import annotations

import inspect
from typing import Any

from bridge.execution.task import SidekiqTask

#: Where Celery defines the tasks that every application has.
_BUILTINS = "celery.app.builtins"


def is_builtin(task: Any) -> bool:
    """Whether Celery itself defines this task."""
    return bool(task.__class__.__module__ == _BUILTINS)


def adopted(base: type) -> type:
    """The class itself, or one that adds ``SidekiqTask`` below it: its own methods and attributes count."""
    if issubclass(base, SidekiqTask):
        return base
    if issubclass(SidekiqTask, base):
        return SidekiqTask  # Celery's Task, or object
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base.__name__, (base, SidekiqTask), {"abstract": True, **names})


def adopted_task(task: Any) -> Any:
    """The same for what ``app.register_task`` gets: a class, or its instance, which stays the same object."""
    if inspect.isclass(task):
        return adopted(task)
    if not isinstance(task, SidekiqTask):
        task.__class__ = adopted(type(task))
        task.take_over()
    return task
