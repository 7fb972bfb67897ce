"""Who wants to know what happens to the jobs of this process: metrics, logs."""

from __future__ import annotations

from typing import Protocol

from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.store.settlement import Settled


class JobListener(Protocol):
    """Told in the worker's parent, whatever the pool; on the hot path, so it must be quick and never wait."""

    def started(self, unit: UnitOfWork) -> None:
        """A pool slot has begun to run this job. Called by any thread."""

    def settled(self, unit: UnitOfWork, decision: Decision, outcome: Settled) -> None:
        """Redis has answered what became of it. Never called by two threads at once."""
