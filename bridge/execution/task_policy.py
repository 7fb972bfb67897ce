"""Refuses tasks whose attributes lose, double or stop jobs, or that cannot run a job."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from typing import Any

from celery.app.annotations import resolve_all
from celery.app.task import Task

from bridge.broker.messages import RUBY_TASK
from bridge.errors import ConfigurationError
from bridge.execution import coroutine_rules, task_rules
from bridge.execution.canvas import ERRBACK_TASK
from bridge.execution.task import SidekiqTask
from bridge.execution.task_classes import is_builtin

logger = logging.getLogger(__name__)

_SETTINGS = dict(Task.from_config)
#: Options of a task, by Celery's documentation and ours.
_OPTIONS = frozenset(
    [name for name, value in vars(Task).items() if not name.startswith("_") and not callable(value)]
    + [
        "autoretry_for", "dont_autoretry_for", "retry_kwargs", "retry_backoff", "retry_backoff_max",
        "retry_jitter", "sidekiq_options", "ruby_middleware", "shadow_safe", "track", "queue", "bind",
        "pydantic",
    ]
)  # fmt: skip
#: As similar as two names are that differ in one or two letters.
_SIMILAR = 0.85
#: Tasks of ours, and the module that registers them.
_OURS = dict.fromkeys([RUBY_TASK, "SidekiqBridge::NativeProbe", ERRBACK_TASK], "bridge.tasks")


class TaskPolicy:
    """Judges the tasks of one application.

    ``enforce`` judges each task once, at the start of a worker: Celery has then applied the decorator, the
    base class, the annotations and the settings. After that the policy judges each new task and each change
    of an attribute.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._enforced = False

    @staticmethod
    def check_name(name: str, module: str) -> None:
        """Refuse a task of another module that has the name of ours. Raises ConfigurationError."""
        if _OURS.get(name, module) != module:
            raise ConfigurationError(
                f"the task {name} of the module {module} has the name of a task of the bridge. "
                "Give it another name: @app.task(name=...)."
            )

    def enforce(self) -> None:
        """Judge every task, and every later change.

        Raises:
            ConfigurationError: the sentence names the option, the task, and what to write instead.
        """
        for task in sorted(self._app.tasks.values(), key=_all_of_ruby_first):
            self._judge(task)
            _warn_of_slips(task)
        self._enforced = True

    def judge_new(self, task: Any) -> None:
        """Judge a task that was just registered. Raises ConfigurationError in a running worker."""
        if self._enforced:
            self._judge(task)

    def judge_change(self, task: Any, attribute: str, value: Any) -> None:
        """Judge a value that is about to be set. Raises ConfigurationError in a running worker."""
        wrong = task_rules.objection(task, attribute, value) if self._enforced else None
        if wrong is not None:
            raise ConfigurationError(f"{attribute} = {value!r} for the task {task.name}: {wrong}.")
        if self._enforced and attribute in ("track", "ignore_result"):
            self._app.bridge.tracked.set(task.name, wanted=value is (attribute == "track"))

    def _judge(self, task: Any) -> None:
        for sentence in () if is_builtin(task) else self._objections(task):
            raise ConfigurationError(sentence)
        if getattr(task, "is_tracked", False):
            self._app.bridge.tracked.set(task.name, wanted=True)

    def _objections(self, task: Any) -> Iterator[str]:
        if not isinstance(task, SidekiqTask):
            yield (
                f"the task {task.name} was put into app.tasks, and cannot run a Sidekiq job. "
                "Register it with @app.task or app.register_task(...)."
            )
            return
        for attribute in task_rules.RULES:
            value = getattr(task, attribute, None)
            wrong = task_rules.objection(task, attribute, value)
            if wrong is not None:
                yield f"{self._source(task, attribute, value)}: {wrong}."
        yield from coroutine_rules.objections(task)

    def _source(self, task: Any, attribute: str, value: Any) -> str:
        """The option as the user wrote it, with its value and the task."""
        for annotation in resolve_all(self._app.annotations, task):
            if attribute in annotation:
                return f"{attribute} = {value!r} in task_annotations, for the task {task.name}"
        setting = _SETTINGS.get(attribute)
        if setting is not None and self._app.conf[setting] == value:
            return f"{setting} = {value!r}, for the task {task.name}"
        return f"{attribute} = {value!r} of the task {task.name}"


def _warn_of_slips(task: Any) -> None:
    """Name an attribute that is nearly an option: Celery keeps it, and it has no effect."""
    for name in sorted({*vars(task.__class__), *task.__dict__} - _OPTIONS):
        if name.startswith("_") or hasattr(SidekiqTask, name):
            continue
        for near in difflib.get_close_matches(name, _OPTIONS, n=1, cutoff=_SIMILAR):
            logger.warning("%s of the task %s has no effect: did you mean %s?", name, task.name, near)


def _all_of_ruby_first(task: Any) -> tuple[bool, str]:
    """Sort key: a sentence about all tasks names the one that runs every Ruby job."""
    return task.name != RUBY_TASK, str(task.name)
