"""The ceiling of the worker's own memory: above it the worker ends, and its supervisor starts another."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable

from bridge.sidekiq.process.rows import rss_kb

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class MemoryCeiling:
    """Looks at the resident memory now and then; TERM ends the worker as at a deployment: no job is lost."""

    def __init__(
        self,
        megabytes: int,
        memory_kb: Callable[[], int] = rss_kb,
        end: Callable[[], None] = _terminate,
    ) -> None:
        self._megabytes = megabytes
        self._memory_kb = memory_kb
        self._end = end
        self._over = False
        if self._is_over():
            # Restarting would help nothing and never stop.
            logger.warning("the worker needs more than %d MB from the start: no ceiling is held", megabytes)
            self._over = True

    def round(self) -> float:
        """Look once. Returns seconds to the next look."""
        if not self._over and self._is_over():
            self._over = True
            logger.warning(
                "the worker has grown above %d MB: it ends, for its supervisor to start another",
                self._megabytes,
            )
            self._end()
        return LOOK_SECONDS

    def _is_over(self) -> bool:
        return self._memory_kb() * 1024 > self._megabytes * 1_000_000
