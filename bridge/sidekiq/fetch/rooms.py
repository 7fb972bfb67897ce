"""Limits on the jobs that this process may hold of some queues: each claim heeds them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from bridge import errors
from bridge.sidekiq.fetch.marked_claims import MarkedClaims
from bridge.sidekiq.fetch.unit_of_work import Fetched, UnitOfWork

logger = logging.getLogger(__name__)

Order = tuple[int, ...]


class Room(NamedTuple):
    """How many more jobs a claim may take from these queues together."""

    queues: frozenset[str]
    jobs: int


class RoomSource(Protocol):
    """One kind of limit on queues."""

    @property
    def limited(self) -> frozenset[str]:
        """The queues that it limits at present."""

    def reserve(self, held: Counter[str], want: int) -> None:
        """A claim of at most ``want`` jobs begins; 0: it has ended. Raises StoreError."""

    def rooms(self, held: Counter[str]) -> Iterable[Room]:
        """The room in its queues. ``held``: jobs that this process holds, by queue."""


class QueueRooms:
    """The limits of one process. Without any, a claim pays one look at an empty set."""

    def __init__(self, held: Mapping[int, UnitOfWork]) -> None:
        """``held``: the units of this process."""
        self._held = held
        self._sources: list[RoomSource] = []
        self.marked = MarkedClaims()
        self.limited: frozenset[str] = frozenset()
        """All queues with a limit."""
        self.freed = False
        """Whether a job of a limited queue has ended since the last claim began."""

    def add(self, source: RoomSource) -> None:
        """Heed these limits too."""
        if source not in self._sources:
            self._sources.append(source)
        self.refresh()

    def refresh(self) -> None:
        """A source limits other queues than before, or gives more room. Called by any thread."""
        self.limited = frozenset[str]().union(*(source.limited for source in self._sources))
        self.freed = True

    def let_go(self, unit: UnitOfWork) -> None:
        """This process holds the job no more. Called by any thread."""
        if unit.delivery.queue in self.limited:
            self.freed = True

    def orders(self, names: Sequence[str], drawn: tuple[Order, ...], want: int) -> tuple[Order, ...] | None:
        """Visiting orders for the slots of a claim, so that no queue gives more jobs than it has room for.

        ``drawn``: those without limits. None: no queue has room.
        """
        return (fitted(self._reserved(want), names, drawn, want) or None) if self.limited else drawn

    def cut(self, name: str, payloads: list[bytes]) -> list[bytes]:
        """As many of the jobs that run next in one queue as it has room for."""
        if name not in self.limited:
            return payloads
        rooms = [room.jobs for room in self._reserved(len(payloads)) if name in room.queues]
        return payloads[: max(0, min(rooms, default=len(payloads)))]

    def heeded(self, fetched: Fetched) -> Fetched:
        """The result of a claim. A queue without room is not to be watched; room since then asks again."""
        if not self.limited:
            return fetched
        try:
            rooms = self._reserved(0)
        except errors.StoreError as error:
            # The jobs that were claimed must be handed over. The next claim meets the same error.
            logger.debug("cannot tell which queues have room: %s", error)
            return fetched._replace(paused=fetched.paused | self.limited)
        shut = (room.queues for room in rooms if room.jobs <= 0)
        return fetched._replace(
            paused=fetched.paused.union(*shut), drained=fetched.drained and not self.freed
        )

    @property
    def held(self) -> Counter[str]:
        """How many jobs of each queue this process holds."""
        return Counter(unit.delivery.queue for unit in list(self._held.values()))

    def _reserved(self, want: int) -> list[Room]:
        held = self.held
        for source in self._sources:
            source.reserve(held, want)
        return [room for source in self._sources for room in source.rooms(held)]


def fitted(
    rooms: Sequence[Room], names: Sequence[str], drawn: Sequence[Order], want: int
) -> tuple[Order, ...]:
    """One visiting order for each slot. Empty: no slot may visit any queue.

    The last slots of a claim visit a limited queue, as many as its room. The slots before them take from the
    others, so a limited queue with many jobs takes no slot from these.
    """
    every = tuple(range(len(names)))
    found = [_fit(rooms, names, drawn[slot] if drawn else every, want - slot) for slot in range(want)]
    return tuple(found) if any(found) else ()


def _fit(rooms: Sequence[Room], names: Sequence[str], order: Order, slots_left: int) -> Order:
    shut = {name for room in rooms if room.jobs < slots_left for name in room.queues}
    return tuple(index for index in order if names[index] not in shut)
