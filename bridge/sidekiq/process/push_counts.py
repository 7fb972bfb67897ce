"""How many jobs this process has pushed."""

from __future__ import annotations

import threading
from collections import Counter


class Pushes:
    """Counts by queue and class. Any thread may add and read: native tasks push from theirs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, queue: str, job_class: str) -> None:
        """Count one that Redis has taken."""
        with self._lock:
            self._counts[queue, job_class] += 1

    def counts(self) -> dict[tuple[str, str], int]:
        """As of now, by queue and class."""
        with self._lock:
            return dict(self._counts)
