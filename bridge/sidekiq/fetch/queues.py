"""The order in which a worker looks into its queues."""

from __future__ import annotations

import random


class QueueOrder:
    """The queues that are consumed now, in the order given, and their weights (0: none given).

    Without any weight the order is strict. With one, each slot draws its own order, a weight of 3 being three
    tickets (``fetch.rb``: the expanded list is shuffled and de-duplicated for every job).
    """

    def __init__(self) -> None:
        self._set({})

    def _set(self, weights: dict[str, int]) -> None:
        self._weights = weights
        self._tickets = [
            index for index, weight in enumerate(weights.values()) for _ in range(max(weight, 1))
        ]
        self._is_strict = not any(weights.values())
        self.names: tuple[str, ...] = tuple(weights)
        """Names of the queues, in the order in which they were added. Read many times a turn."""

    @property
    def weights(self) -> dict[str, int]:
        """Weight of each queue, in the same order."""
        return dict(self._weights)

    def add(self, name: str, weight: int = 0) -> None:
        """Look into this queue too, after the others."""
        self._set({**self._weights, name: weight})

    def remove(self, name: str) -> None:
        """Look into it no more."""
        self._set({known: weight for known, weight in self._weights.items() if known != name})

    def draw(self, slots: int, rng: random.Random) -> tuple[tuple[int, ...], ...]:
        """One visiting order (indexes into ``names``) for each slot; none at all when the order is strict."""
        if self._is_strict:
            return ()
        return tuple(_shuffled(self._tickets, rng) for _ in range(slots))


def _shuffled(tickets: list[int], rng: random.Random) -> tuple[int, ...]:
    return tuple(dict.fromkeys(rng.sample(tickets, len(tickets))))
