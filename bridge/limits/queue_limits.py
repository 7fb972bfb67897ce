"""Limits of whole queues: a queue at its limit is not claimed from."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

import redis

from bridge import errors
from bridge.limits.declaration import Limit
from bridge.limits.gates import Gate
from bridge.limits.key_path import ALL
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.fetch.rooms import Room

#: Seconds until a queue at its limit is looked at again. Places that this worker frees count at once.
ASK_AGAIN_SECONDS = 1.0


class QueueLimits:
    """How many places of each limited queue are free, as far as this worker knows. For the consumer's thread.

    The number may be too high for a moment, because other workers take places. Then the last jobs of a claim
    wait in a line, as those of any limit.
    """

    def __init__(
        self,
        client: redis.Redis,
        declared: tuple[Limit, ...],
        held: Callable[[], Counter[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``held``: how many jobs this process holds of each queue."""
        self._client = client
        self._clock = clock
        self._held = held
        self._limits = {
            limit.queue: limit
            for limit in declared
            if limit.queue is not None and limit.job_class is None and limit.key is None and limit.concurrency
        }
        self._free = {name: limit.concurrency or 0 for name, limit in self._limits.items()}
        self._at = dict.fromkeys(self._limits, 0)
        """How many jobs this process held when it learned the number."""
        self._asked_at = float("-inf")

    @property
    def limited(self) -> frozenset[str]:
        """The queues with a limit."""
        return frozenset(self._limits)

    def reserve(self, held: Counter[str], want: int) -> None:
        """A claim begins (``want`` jobs) or has ended (0). A place is taken when the job is admitted."""
        if want and self._clock() - self._asked_at >= ASK_AGAIN_SECONDS:
            self.ask(held)

    def rooms(self, held: Counter[str]) -> Iterator[Room]:
        """The free places of each queue."""
        for name in self._limits:
            yield Room(frozenset((name,)), self._free[name] + self._at[name] - held[name])

    def learn(self) -> None:
        """Jobs of a limited queue were claimed: the next claim must know what is left."""
        self.ask(self._held())

    def ask(self, held: Counter[str]) -> None:
        """Ask Redis. A place reserved for a job on its way is free: that job is the next in its queue."""
        self._asked_at = self._clock()
        try:
            with outages():
                pipeline = self._client.pipeline(transaction=False)
                pipeline.time()
                for limit in self._limits.values():
                    pipeline.zrange(keys.gate(Gate(limit, ALL).line)[0], 0, -1, withscores=True)
                (seconds, _), *found = pipeline.execute()
        except errors.StoreError:
            return  # the claim meets the same outage
        for (name, limit), holders in zip(self._limits.items(), found, strict=True):
            taken = sum(till > seconds for _, till in holders)
            self._free[name], self._at[name] = (limit.concurrency or 0) - taken, held[name]
