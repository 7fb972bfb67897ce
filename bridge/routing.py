"""Routing: which Celery task runs a job, the native one of its class or the task of all Ruby jobs."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from bridge.broker.messages import RUBY_TASK
from bridge.execution.task import SidekiqTask
from bridge.execution.task_classes import is_builtin
from bridge.sidekiq.payload.job import SidekiqJob


class Routing:
    """Knows the native tasks of one Celery application: those that a user registered, by their names."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._natives: dict[str, object] = {}

    def task_of(self, job: SidekiqJob) -> str:
        """Name of the task that runs a job: the native one for its class, else that of all Ruby jobs."""
        name = job.native_class
        return name if name is not None and self._is_native_class(name) else RUBY_TASK

    def is_native(self, job: SidekiqJob) -> bool:
        """Whether a job runs in Python."""
        return self.task_of(job) != RUBY_TASK

    def needs_no_sidecar(self, job: SidekiqJob) -> bool:
        """Whether a job runs while no sidecar answers: in Python, and outside of Ruby's middleware."""
        return self.is_native(job) and not self._tasks[job.native_class].in_ruby_middleware

    def _is_native_class(self, name: str) -> bool:
        task = self._tasks.get(name)
        return task is not None and (self._natives.get(name) is task or self._becomes_native(name, task))

    def _becomes_native(self, name: str, task: Any) -> bool:
        # No job may reach a task of Celery's own by the name of its class.
        if not isinstance(task, SidekiqTask) or is_builtin(task):
            return False
        self._natives[name] = task
        return True

    @cached_property
    def _tasks(self) -> Any:
        """The application's tasks. Celery's own property takes a lock each time."""
        return self._app.tasks
