"""Queues in which only native jobs were seen: without a sidecar, a watch may take from these."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from bridge.sidekiq.fetch.gate import Gate

#: Native jobs in a row that a queue must have shown.
ENOUGH = 3
#: Seconds after a Ruby job, in which jobs stay in their queue until it is known what they are.
RUBY_SECONDS = 600.0


class NativeQueues:
    """While no sidecar answers, Ruby jobs stay in their queues, so a job is looked at before it is taken.

    A queue in which only native jobs were seen is taken from at once. The first Ruby job there is given back.
    """

    def __init__(self, gate: Gate, clock: Callable[[], float] = time.monotonic) -> None:
        self._gate = gate
        self._clock = clock
        self._seen: Counter[str] = Counter()
        self._ruby_at: dict[str, float] = {}

    def note(self, queue: str, *, admitted: bool) -> None:
        """A job of this queue was seen."""
        if admitted:
            self._seen[queue] += 1
        else:
            self._seen[queue] = 0
            self._ruby_at[queue] = self._clock()

    def are_in(self, queue: str) -> bool:
        """Whether only native jobs were seen there lately. Not while a sidecar is tried again."""
        if self._seen[queue] < ENOUGH or self._gate.limit() != 0:
            return False
        ruby_at = self._ruby_at.get(queue)
        return ruby_at is None or self._clock() - ruby_at > RUBY_SECONDS
