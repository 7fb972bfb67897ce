"""Jobs that this process holds and that wait for their time (a rate limit), beside its slots."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from bridge import errors
from bridge.sidekiq.fetch.unit_of_work import Delivery

logger = logging.getLogger(__name__)

#: More of them take slots: a worker must not empty a queue into its memory.
MOST_SET_ASIDE = 200


class Marks(Protocol):
    """Redis' note of the jobs that have not begun."""

    def note_unbegun(self, identity: str, token: int) -> None:
        """Note one. Raises StoreError."""

    def forget_unbegun(self, identity: str, *tokens: int) -> None:
        """Forget some. Raises StoreError."""


class SetAside:
    """A job is set aside, becomes ready (it wants a slot), and is taken: to begin, or to be given back.

    Any thread may take a job; one of them gets it. Redis knows these jobs as not begun, so that a crash of
    this worker counts towards no poison pill.
    """

    def __init__(
        self, marks: Marks, changed: Callable[[], None], enter: Callable[[int], None] = lambda token: None
    ) -> None:
        """``enter``: has a job in the hash whose tokens the marks name. It may raise StoreError."""
        self._marks = marks
        self._changed = changed
        self._enter = enter
        self._held: dict[int, Delivery] = {}
        self._ready: set[int] = set()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def beside_slots(self) -> int:
        """How many of them take no slot."""
        return min(MOST_SET_ASIDE, len(self._held) - len(self._ready))

    def holds(self, token: int) -> bool:
        """Whether this job is set aside."""
        return token in self._held

    def add(self, delivery: Delivery) -> None:
        """Set a job aside: it has not begun, and takes no slot."""
        self._held[delivery.token] = delivery
        self._changed()
        self._note(lambda: self._note_unbegun(delivery))

    def _note_unbegun(self, delivery: Delivery) -> None:
        self._enter(delivery.token)
        self._marks.note_unbegun(delivery.identity, delivery.token)
        if (
            delivery.token not in self._held
        ):  # taken meanwhile: its mark was perhaps not there to be forgotten
            self._marks.forget_unbegun(delivery.identity, delivery.token)

    def make_ready(self, token: int) -> None:
        """Its time has come: it takes the next free slot."""
        if token in self._held:
            self._ready.add(token)
            self._changed()

    def take(self, token: int) -> bool:
        """Take a job out. False where another thread has."""
        delivery = self._held.pop(token, None)
        if delivery is None:
            return False
        self._ready.discard(token)
        self._changed()
        self._note(lambda: self._marks.forget_unbegun(delivery.identity, token))
        return True

    def take_all(self) -> list[int]:
        """Take all of them out; gives their tokens."""
        return [token for token in list(self._held) if self.take(token)]

    def _note(self, note: Callable[[], None]) -> None:
        try:
            note()
        except errors.StoreError as error:
            # A crash in an outage counts this job as begun, once.
            logger.debug("cannot note that a job has not begun: %s", error)
