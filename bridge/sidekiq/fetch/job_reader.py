"""Reads the jobs that a worker claims, each once."""

from __future__ import annotations

from bridge.sidekiq.fetch.gate import Gate
from bridge.sidekiq.payload.job import SidekiqJob


class JobReader:
    """Each method that reads raises PayloadError. For one thread at a time."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.known: dict[bytes, SidekiqJob] = {}
        """Jobs that were read before their claim."""

    def before_claim(self, payload: bytes) -> SidekiqJob:
        """Read a job that may be claimed next."""
        job = self.known[payload] = SidekiqJob.parse(payload)
        return job

    def forget(self) -> None:
        """Drop what was read and not claimed."""
        self.known.clear()

    def claimed(self, payload: bytes) -> SidekiqJob:
        """Read a claimed job, without the arguments of a large one for Ruby."""
        # Popped: a task may have changed the arguments in place when the same bytes come again.
        if self.known and (known := self.known.pop(payload, None)) is not None:
            return known
        job = SidekiqJob.claimed(payload)
        if job.is_outline and self._gate.admits(job):
            job.read_whole()
        return job
