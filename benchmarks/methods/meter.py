"""CPU, memory and time of a peer between two moments."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks import procfs

#: Reading the memory map of a process stops it for some milliseconds: not more often than this.
MEMORY_SECONDS = 1.0
MB = 1e6


class Meter:
    """Runs from its making on."""

    def __init__(self, pids: Sequence[int], redis_pid: int) -> None:
        self._pids = pids
        self._redis_pid = redis_pid
        self._peak_bytes = 0
        self._memory_due = 0.0
        self._cpu = procfs.cpu_seconds(pids)
        self._redis_cpu = procfs.cpu_seconds([redis_pid])
        self.started = time.monotonic()
        self._memory_due = self.started + MEMORY_SECONDS

    def look(self) -> None:
        """Read the memory when it is time to."""
        if time.monotonic() >= self._memory_due:
            self._peak_bytes = max(self._peak_bytes, procfs.pss_bytes(self._pids))
            self._memory_due = time.monotonic() + MEMORY_SECONDS

    def stop(self) -> dict[str, float]:
        """``seconds``, ``cpu_seconds`` and ``redis_cpu_seconds`` since it was made; ``pss_mb`` at most."""
        ended = time.monotonic()
        cpu, redis_cpu = procfs.cpu_seconds(self._pids), procfs.cpu_seconds([self._redis_pid])
        self._peak_bytes = max(self._peak_bytes, procfs.pss_bytes(self._pids))
        return {
            "seconds": ended - self.started,
            "cpu_seconds": cpu - self._cpu,
            "redis_cpu_seconds": redis_cpu - self._redis_cpu,
            "pss_mb": self._peak_bytes / MB,
        }
