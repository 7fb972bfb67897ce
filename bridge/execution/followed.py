"""A task whose job is followed by others (see ``canvas``)."""

from __future__ import annotations

from typing import Any

from celery import Task

from bridge.errors import PushRefused
from bridge.execution.claimed_job import job_of
from bridge.results.following import FIELD


class Followed(Task[Any, Any]):
    """A part of ``SidekiqTask``."""

    abstract = True

    def replace(self, sig: Any) -> Any:
        """Celery's own, for a job that nothing follows. Raises PushRefused for any other."""
        task: Any = self
        if task.delivery is not None and FIELD in job_of(task.app, task.delivery).fields:
            raise PushRefused(
                f"{task.name}: self.replace would lose the jobs that follow. Return a value for them."
            )
        return super().replace(sig)
