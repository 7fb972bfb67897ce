"""Queues that are not worth a look for a moment: sidekiq-throttled holds all of their next jobs back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from bridge.sidekiq.fetch.rooms import Room
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Decision, Postpone
from bridge.sidekiq.store.settlement import Settled


class Cooldowns:
    """Follows the gem's cooldown, of which the sidecar tells."""

    def __init__(self, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """``changed`` is called when a queue cools down."""
        self._changed = changed
        self._clock = clock
        self._until: dict[str, float] = {}

    @property
    def limited(self) -> frozenset[str]:
        """Queues that have cooled down once."""
        return frozenset(self._until)

    def settled(self, unit: UnitOfWork, decision: Decision, outcome: Settled) -> None:
        """A job was settled; ``JobListeners`` calls this."""
        if isinstance(decision, Postpone) and decision.pause_seconds:
            queue = unit.delivery.queue
            is_new = queue not in self._until
            self._until[queue] = self._clock() + decision.pause_seconds
            if is_new:
                self._changed()

    def reserve(self, held: Counter[str], want: int) -> None:
        """Nothing is asked."""

    def rooms(self, held: Counter[str]) -> Iterator[Room]:
        """No room in a queue that cools down."""
        now = self._clock()
        return (Room(frozenset([queue]), 0) for queue, until in list(self._until.items()) if until > now)
