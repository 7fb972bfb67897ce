"""The prefork pool, with queues that a killed process cannot lock permanently.

billiard's queues are pipes behind semaphores, and an idle pool process holds that of the way in while it
waits for work. A process that is killed never lets go: all the others wait without end, and the jobs of
the pool stay in flight. A file lock is taken off a dead process by the kernel.
"""

from __future__ import annotations

import fcntl
import tempfile
from typing import Any

import billiard.pool
from celery.concurrency import prefork

Pool: Any = billiard.pool.Pool


class FileLock:
    """Exclusive among processes, not among threads: a pool process reads and writes in one thread."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the pool lives

    def acquire(self) -> None:
        """Wait for it."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def release(self) -> None:
        """Let go."""
        fcntl.lockf(self._file, fcntl.LOCK_UN)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class MortalPool(Pool):  # type: ignore[misc]
    """billiard's pool, whose processes may be killed at any moment."""

    def _setup_queues(self) -> None:
        super()._setup_queues()
        self._inqueue._rlock = FileLock()
        self._outqueue._wlock = FileLock()


class PreforkPool(prefork.TaskPool):
    """Celery's prefork pool on it. It uses ``BlockingPool`` without an event loop."""

    BlockingPool: Any = MortalPool
