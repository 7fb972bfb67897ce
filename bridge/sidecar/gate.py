"""Says which jobs may leave their queues: while no sidecar can run them, native ones only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.sidecar.breaker import Breaker, State
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Decision, GiveBack
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.settlement import Settled

_LIMITS = {State.OPEN: 0, State.HALF_OPEN: 1, State.CLOSED: None}


@dataclass
class SidecarGate:
    """The fetcher's gate. ``is_native`` says whether a job runs in Python."""

    breaker: Breaker
    is_native: Callable[[SidekiqJob], bool]

    def admits(self, job: SidekiqJob) -> bool:
        """Native jobs never wait for the sidecar."""
        return self.is_native(job)

    def limit(self) -> int | None:
        """None leaves for a sidecar that does not answer; one goes first when it has just come back."""
        return _LIMITS[self.breaker.state]

    def settled(self, unit: UnitOfWork, decision: Decision, outcome: Settled) -> None:
        """A Ruby job that has run closes the circuit."""
        if (
            self.breaker.state is State.HALF_OPEN
            and unit.started_at is not None
            and not isinstance(decision, GiveBack)
            and not unit.native
        ):
            self.breaker.passed()
