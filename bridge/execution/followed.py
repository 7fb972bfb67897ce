"""A task whose job is followed by others (see ``canvas``)."""

from __future__ import annotations

from typing import Any

from celery import Task

from bridge.errors import PushRefused
from bridge.execution.claimed_job import job_of
from bridge.results.following import BATCH_FIELD, FIELD


class Followed(Task[Any, Any]):
    """A part of ``SidekiqTask``."""

    abstract = True

    def replace(self, sig: Any) -> Any:
        """Celery's own, for a job that nothing follows and whose result nothing waits for.

        Raises PushRefused for any other: it would be done before the job in its place has run.
        """
        task: Any = self
        delivery = task.delivery
        fields: Any = {} if delivery is None else job_of(task.app, delivery).fields
        if delivery is not None and (delivery.tracked or BATCH_FIELD in fields):
            raise PushRefused(
                f"{task.name}: self.replace would lose the result, and a batch would not wait. Push a chain, "
                "or add the job to Batch.current()."
            )
        if FIELD in fields:
            raise PushRefused(
                f"{task.name}: self.replace would lose the jobs that follow. Return a value for them."
            )
        return super().replace(sig)

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Raises PushRefused: the header of a chord is known when it is pushed."""
        raise PushRefused(
            f"{self.name}: self.add_to_chord has no place: write the job into the header, or use a Batch."
        )
