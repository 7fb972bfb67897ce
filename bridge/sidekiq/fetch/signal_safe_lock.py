"""A lock that a signal handler may ask for inside the very thread that holds it."""

from __future__ import annotations

import threading
from types import TracebackType


class SignalSafeLock:
    """``with lock as mine``: ``mine`` is False where this thread has it already, so that it must not go on.

    Python runs signal handlers between two bytecodes of the main thread, whatever that thread holds. A plain
    lock would make it wait for itself.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0

    @property
    def busy(self) -> bool:
        """Whether a thread holds it."""
        return self._depth > 0

    def __enter__(self) -> bool:
        self._lock.acquire()
        self._depth += 1
        return self._depth == 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        self._lock.release()
