"""Who may leave a queue at the moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.payload.job import SidekiqJob


class Gate(Protocol):
    """Says which jobs may leave their queues at the moment."""

    restricts: bool
    """Whether there is a limit; while there is none, the gate is not asked."""

    @property
    def admits(self) -> Callable[[SidekiqJob], bool]:
        """Says whether a job may be taken though not all may (a native one while the sidecar is away)."""

    def limit(self) -> int | None:
        """How many jobs may be held at once. 0: only jobs it ``admits``; None: any number of any kind."""

    def settled(self, decided: Sequence[tuple[UnitOfWork, Decision]]) -> None:
        """Told what was settled while it restricts."""
