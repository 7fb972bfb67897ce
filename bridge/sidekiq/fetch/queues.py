"""The queues a worker serves, and in which order it looks at them."""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
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


@dataclass(frozen=True, slots=True)
class Capsule:
    """Queues of Sidekiq 7 and later of whose jobs a process runs ``concurrency`` at once."""

    name: str
    queues: frozenset[str]
    concurrency: int


class QueueOrder:
    """The queues that are consumed now, and the order of each claim.

    Without any weight the order is strict. With one, each slot draws its own order, a weight of 3 being three
    tickets (``fetch.rb``: the expanded list is shuffled and de-duplicated for every job).
    """

    def __init__(self) -> None:
        self._asked: QueueOrder = self
        self.catch_up: Callable[[], None] | None = None
        """Called before a claim, where ``ask`` has not heard all news."""
        self.told: AbstractSet[str] = frozenset()
        """Of the queues that a claim asks, those that may have jobs."""
        self._set({})

    def _set(self, given: dict[str, int]) -> None:
        self._given = given
        self.queues = QueueSet.of(given.items())
        self._tickets = [
            index for index, weight in enumerate(self.queues.weights) for _ in range(max(weight, 1))
        ]
        self.is_strict = self.queues.mode is QueueMode.STRICT
        self.names = self.queues.names
        """Names of the queues, in the order in which they were added. Read many times a turn."""
        self._place = {name: place for place, name in enumerate(self.names)}
        self.ask_all()

    @property
    def asked(self) -> QueueOrder:
        """The queues that a claim has to ask: all, or those that are not known as empty."""
        if self.catch_up is not None:
            self.catch_up()
        return self._asked if time.monotonic() < self._asked_until else self

    def ask(self, first: Iterable[str], told: AbstractSet[str], until: float) -> None:
        """Until then, by the monotonic clock, claims ask these queues alone: all others are empty.

        ``told``: those of which Redis has told something.
        """
        names = sorted({*first, *told}, key=self._place.__getitem__)
        given = {name: self._given[name] for name in names}
        if given != self._asked._given:
            self._asked = QueueOrder()
            self._asked._set(given)
        self._asked.told, self._asked_until = frozenset(told), until

    def ask_all(self) -> None:
        """From now on claims ask all queues."""
        self._asked, self._asked_until, self.told = self, 0.0, frozenset()

    def add(self, name: str, weight: int = 0, *, ahead: bool = False) -> None:
        """Look into this queue too, after the others or ahead of them."""
        self._set({name: weight, **self._given} if ahead else {**self._given, name: weight})

    def remove(self, name: str) -> None:
        """Look into it no more."""
        self._set({known: weight for known, weight in self._given.items() if known != name})

    def draw(self, slots: int, rng: random.Random) -> tuple[tuple[int, ...], ...]:
        """One visiting order (indexes into ``names``) for each slot; none at all when the order is strict."""
        if self.is_strict:
            return ()
        return tuple(_shuffled(self._tickets, rng) for _ in range(slots))


def _shuffled(tickets: list[int], rng: random.Random) -> tuple[int, ...]:
    return tuple(dict.fromkeys(rng.sample(tickets, len(tickets))))
