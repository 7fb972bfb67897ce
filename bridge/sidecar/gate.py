"""Says which jobs may leave their queues: while no sidecar can run them, native ones only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.sidecar.breaker import Breaker, State
from bridge.sidekiq.payload.job import SidekiqJob


@dataclass
class SidecarGate:
    """The fetcher's gate. ``is_native`` says whether a job runs in Python."""

    breaker: Breaker
    is_native: Callable[[SidekiqJob], bool]

    def everything(self) -> bool:
        """Whether any job may be taken."""
        return not self.breaker.is_open

    def admits(self, job: SidekiqJob) -> bool:
        """Native jobs never wait for the sidecar."""
        return self.is_native(job)

    def limit(self) -> int | None:
        """One job goes first to a sidecar that has just come back."""
        return 1 if self.breaker.state is State.HALF_OPEN else None
