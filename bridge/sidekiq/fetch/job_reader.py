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
        self._reads_all = True

    def before_claim(self, payload: bytes) -> SidekiqJob:
        """Read a job that may be claimed next."""
        job = self.known[payload] = SidekiqJob.parse(payload)
        return job

    def leave_arguments(self) -> None:
        """The pool reads the arguments of a large native job, each right before its run.

        To read many at a claim and free them later takes half as long again: they leave the caches.
        """
        self._reads_all = False

    def forget(self) -> None:
        """Drop what was read and not claimed."""
        self.known.clear()

    def claimed(self, payload: bytes) -> SidekiqJob:
        """Read a claimed job, without the arguments of a large one that Ruby or the pool reads."""
        # Popped: a task may have changed the arguments in place when the same bytes come again.
        if self.known and (known := self.known.pop(payload, None)) is not None:
            return known
        job = SidekiqJob.claimed(payload)
        if self._reads_all and job.is_outline and self.needs_arguments(job):
            job.read_whole()
        return job

    def needs_arguments(self, job: SidekiqJob) -> bool:
        """Whether Python runs it."""
        return self._gate.admits(job)
