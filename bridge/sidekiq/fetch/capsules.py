"""Capsules of Sidekiq 7 and later: some queues of a process, and how many of their jobs it runs at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from bridge.sidekiq.fetch.queues import Capsule
from bridge.sidekiq.fetch.rooms import Room


class Capsules:
    """The capsules of this process. Each counts the jobs that this process holds, as Sidekiq's own does."""

    def __init__(self, capsules: Collection[Capsule] = ()) -> None:
        self._by_name = {capsule.name: capsule for capsule in capsules}

    @property
    def limited(self) -> frozenset[str]:
        """The queues of all capsules."""
        return frozenset(name for capsule in list(self._by_name.values()) for name in capsule.queues)

    def learn(self, capsule: Capsule) -> None:
        """Note some queues of a capsule, beside those that are known."""
        known = self._by_name.get(capsule.name)
        queues = capsule.queues | (known.queues if known else frozenset())
        self._by_name[capsule.name] = Capsule(capsule.name, queues, capsule.concurrency)

    def reserve(self, held: Counter[str], want: int) -> None:
        """Nothing is asked: a capsule counts within this process."""

    def rooms(self, held: Counter[str]) -> Iterator[Room]:
        """The slots that each capsule has free."""
        for capsule in list(self._by_name.values()):
            busy = sum(held[name] for name in capsule.queues)
            yield Room(capsule.queues, capsule.concurrency - busy)
