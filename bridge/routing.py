"""Routing: which Celery task runs a job, the native one of its class or the task of all Ruby jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from bridge.broker.messages import RUBY_TASK
from bridge.execution.task import SidekiqTask
from bridge.execution.task_classes import is_builtin
from bridge.moves.move import PYTHON, RUBY, Move, side_before
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.settlement import RECOVERED_TTL_SECONDS

_NONE: Mapping[str, Move] = {}


class Routing:
    """Knows the native tasks of one Celery application: those that a user registered, by their names."""

    def __init__(self, app: Any, has_sidecar: Callable[[], bool] = lambda: False) -> None:
        """``has_sidecar``: whether a sidecar takes jobs at this moment."""
        self._app = app
        self._has_sidecar = has_sidecar
        self._natives: dict[str, Any] = {}
        self._moves: Mapping[str, Move] = {}
        self._finished: Mapping[str, Move] = {}
        self._on_move: Callable[[], object] = lambda: None

    def task_of(self, job: SidekiqJob, recovered: int = 0) -> str:
        """Name of the task that runs a job: the native one for its class, else that of all Ruby jobs.

        ``recovered``: how often the job was orphaned.
        """
        name = job.native_class
        if name is None or not self._is_native_class(name):
            return RUBY_TASK
        move = self._moves.get(name)
        if move is None:
            return RUBY_TASK if recovered and self._may_still_run_in_ruby(job, name) else name
        if move.side_of(job.jid, job.fields) == RUBY:
            return RUBY_TASK
        return RUBY_TASK if recovered and self._may_run_in_ruby(job, move) else name

    def _may_run_in_ruby(self, job: SidekiqJob, move: Move) -> bool:
        """Whether a sidecar may still run an orphaned job that was Ruby's at an earlier percentage.

        Ruby then takes it over. A task inside Ruby's middleware asks the sidecar in any case.
        """
        is_open = side_before(job.fields) is None and not self.joins_ruby(job)
        changed = time.time() - move.changed_ms / 1000 < RECOVERED_TTL_SECONDS
        return is_open and changed and self._has_sidecar()

    def _may_still_run_in_ruby(self, job: SidekiqJob, name: str) -> bool:
        """The same for a class whose move has finished: its retries in Ruby have left that side as well."""
        move = self._finished.get(name)
        if move is None or side_before(job.fields) == PYTHON or self.joins_ruby(job):
            return False
        return time.time() - move.changed_ms / 1000 < RECOVERED_TTL_SECONDS and self._has_sidecar()

    def is_native(self, job: SidekiqJob) -> bool:
        """Whether a job runs in Python."""
        return self.task_of(job) != RUBY_TASK

    def needs_no_sidecar(self, job: SidekiqJob) -> bool:
        """Whether a job runs while no sidecar answers: in Python, and outside of Ruby's middleware."""
        name = job.native_class or ""
        task = self._natives.get(name)
        if task is not None and task is self._tasks.get(name) and name not in self._moves:
            return not task.in_ruby_middleware
        return self.is_native(job) and not self.joins_ruby(job)

    def joins_ruby(self, job: SidekiqJob) -> bool:
        """Whether the native task of a job's class runs inside Ruby's middleware."""
        return bool(self._tasks[job.native_class].in_ruby_middleware)

    def is_moving(self, name: str) -> bool:
        """Whether each job of this class has a side of its own."""
        return name in self._moves

    def attach(self, on_move: Callable[[], object]) -> None:
        """The consumer is ready: tell its dispatcher of each change of the moves, from any thread."""
        self._on_move = on_move

    def follow(self, moves: Mapping[str, Move], finished: Mapping[str, Move] = _NONE) -> None:
        """Route by these moves from now on. ``finished``: those whose orphaned jobs may still run in Ruby."""
        self._moves, self._finished = moves, finished
        self._on_move()

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
