"""Who may leave a queue at the moment."""

from __future__ import annotations

from typing import Protocol

from bridge.sidekiq.payload.job import SidekiqJob


class Gate(Protocol):
    """Says which jobs may leave their queues at the moment."""

    def admits(self, job: SidekiqJob) -> bool:
        """Whether this job may be taken though not all may (a native one while the sidecar is away)."""

    def limit(self) -> int | None:
        """How many jobs may be held at once. 0: only jobs it ``admits``; None: any number of any kind."""
