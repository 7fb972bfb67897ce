"""Who is told what happens to the jobs of this process: logs, metrics, the breaker."""

from __future__ import annotations

from collections.abc import Callable

from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.store.settlement import Settled

OnStarted = Callable[[UnitOfWork], object]
OnDecided = Callable[[UnitOfWork, Decision], Decision]
OnSettled = Callable[[UnitOfWork, Decision, Settled], object]


class JobListeners:
    """Told in the worker's parent, whatever the pool. Each call is on the hot path: quick, without a wait.

    ``started``: a pool slot has begun to run a job; called by any thread. ``tracked``: the same of jobs that
    are tracked, or whose results a shadow compares. ``decided``: a decision is noted, and the listener
    returns the one to write; called by any thread. ``settled``: Redis has answered what became of it; never
    called by two threads at once.
    """

    def __init__(self) -> None:
        self.started: list[OnStarted] = []
        self.tracked: list[OnStarted] = []
        self.decided: list[OnDecided] = []
        self.settled: list[OnSettled] = []

    @property
    def of_tracked(self) -> tuple[OnStarted, ...]:
        """All that are told of the start of a tracked job."""
        return (*self.started, *self.tracked)
