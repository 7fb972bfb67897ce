"""A running task tells of itself: its progress, and states of its own."""

from __future__ import annotations

from typing import Any

from celery import Task

from bridge.execution.claimed_job import job_of
from bridge.execution.shadow import SHADOW_FIELD
from bridge.results.results import progress_fields, state_fields


class TellsProgress(Task[Any, Any]):
    """A part of ``SidekiqTask``."""

    abstract = True
    track: bool = False  # whether progress and results of its jobs are stored

    @property
    def is_tracked(self) -> bool:
        """Whether the attributes ask for it: ``track=True``, or Celery's ``ignore_result=False``."""
        return bool(self.track) or self.ignore_result is False

    def progress(
        self, at: float | None = None, total: float | None = None, message: str | None = None
    ) -> bool:
        """Store how far this run has come; None leaves a value as it is.

        Returns False where nothing is stored: the job is not tracked (a warning says so once), the function
        was called without a job, or another worker has taken the job over.

        Raises:
            TypeError: ``at`` or ``total`` is not a number.
            StoreUnavailable: Redis does not answer.
        """
        return self._tell(progress_fields(at, total, message))

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **_: Any
    ) -> None:
        """Celery's: store a state of the task's own, with what belongs to it.

        ``current`` (or ``at``) and ``total`` of ``meta`` are the progress that Ruby and the Web UI show.

        Raises:
            TypeError, ValueError: JSON cannot hold ``meta``, or it has more than 64 KiB.
        """
        fields = state_fields(state, meta)
        if task_id is None or task_id == self.request.id:
            self._tell(fields)
        elif not self.request.get(SHADOW_FIELD):
            self.backend.store_result(task_id, meta, state or "")

    def _tell(self, fields: Any) -> bool:
        task: Any = self
        delivery = task.delivery
        if delivery is None:
            return False
        told: bool = task.app.bridge.results.told(job_of(task.app, delivery), delivery, fields)
        return told
