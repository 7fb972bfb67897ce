"""The queues a worker serves, and in which order it looks at them."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable
from dataclasses import dataclass


class QueueMode(enum.Enum):
    """Sidekiq's three ways; all queues of a worker share one."""

    STRICT = "strict"
    """No weights: the order given, always."""
    RANDOM = "random"
    """All weights 1: shuffled for each claim."""
    WEIGHTED = "weighted"
    """Shuffled for each claim, a weight of 3 being three tickets."""


@dataclass(frozen=True, slots=True)
class QueueSet:
    """Names in the order given, each once, and their weights (0: none given)."""

    names: tuple[str, ...]
    weights: tuple[int, ...]

    @classmethod
    def of(cls, entries: Iterable[tuple[str, int]]) -> QueueSet:
        """From (name, weight) pairs. A name given n times has at least the weight n.

        Once any queue has a weight, one without counts as 1.
        """
        pairs = list(entries)
        weighted = any(weight for _, weight in pairs) or len(dict(pairs)) < len(pairs)
        totals: dict[str, int] = {}
        for name, weight in pairs:
            totals[name] = totals.get(name, 0) + (max(weight, 1) if weighted else 0)
        return cls(tuple(totals), tuple(totals.values()))

    @property
    def mode(self) -> QueueMode:
        if not any(self.weights):
            return QueueMode.STRICT
        return QueueMode.RANDOM if set(self.weights) == {1} else QueueMode.WEIGHTED

    @property
    def weight_by_name(self) -> dict[str, int]:
        return dict(zip(self.names, self.weights, strict=True))

    def order(self, rng: random.Random) -> tuple[str, ...]:
        """The order of one claim."""
        if self.mode is QueueMode.STRICT:
            return self.names
        tickets = [name for name, weight in self.weight_by_name.items() for _ in range(weight)]
        rng.shuffle(tickets)
        return tuple(dict.fromkeys(tickets))
