"""Judges beat's schedule when a worker (``-B``) or ``celery beat`` reads it.

A push that a Sidekiq job cannot carry would fail at each tick, with a traceback in the log, and no job would
ever be pushed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from celery import bootsteps

from bridge.errors import ConfigurationError, PushRefused
from bridge.execution import pushing
from bridge.worker import preflight

#: The fields of an entry (celery/beat.py, ``ScheduleEntry``).
FIELDS = ("task", "schedule", "args", "kwargs", "options", "relative")


class BeatCheck(bootsteps.Step):
    """A step of the worker. It does nothing unless the worker has ``-B``."""

    def __init__(self, parent: Any, beat: bool = False, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        if beat:
            check_or_end(parent.app)

    def include_if(self, parent: Any) -> bool:
        """Its work is done."""
        return False


def check_or_end(app: Any) -> None:
    """End this process over a bad entry, with one sentence and exit status 78."""
    app.finalize()  # receivers of on_after_finalize add entries
    try:
        check(app)
    except ConfigurationError as error:
        preflight.refuse(error)


def check(app: Any) -> None:
    """Raises ConfigurationError: it names the entry, and what to write instead."""
    for name, entry in dict(app.conf.beat_schedule or {}).items():
        try:
            _check_entry(app, _fields(entry))
        except PushRefused as error:
            raise ConfigurationError(f"beat_schedule[{name!r}]: {error}") from None


def _fields(entry: Any) -> Mapping[str, Any]:
    if isinstance(entry, Mapping):
        return entry
    return {name: getattr(entry, name, None) for name in FIELDS}


def _check_entry(app: Any, entry: Mapping[str, Any]) -> None:
    if unknown := sorted(str(field) for field in entry if field not in FIELDS):
        raise PushRefused(f"{', '.join(unknown)} is not a field of an entry: {', '.join(FIELDS)}")
    task = entry.get("task")
    if not isinstance(task, str) or not task:
        raise PushRefused(f"its task is {task!r}: write the name of a Sidekiq class or of a task")
    if not _is_schedule(entry.get("schedule")):
        raise PushRefused(
            f"its schedule is {entry.get('schedule')!r}: write seconds, a timedelta, or crontab(minute=0)"
        )
    args, options = entry.get("args") or (), entry.get("options") or {}
    if not isinstance(args, list | tuple):
        raise PushRefused(f"its args are {args!r}: write a list")
    pushing.check(task, args, entry.get("kwargs"), None, {**_of_task(app, task), **options})
    pushing.fields(app.tasks.get(task), task, dict(options))


def _is_schedule(value: Any) -> bool:
    if isinstance(value, int | float | timedelta):
        return not isinstance(value, bool)
    return hasattr(value, "is_due") or callable(value)


def _of_task(app: Any, name: str) -> dict[str, Any]:
    """Options that the task itself gives each push."""
    task = app.tasks.get(name)
    return {} if task is None else dict(task._get_exec_options())
