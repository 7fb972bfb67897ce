"""Whom the fetcher works for."""

from __future__ import annotations

from typing import Protocol


class Consumer(Protocol):
    """The consumer that the fetcher works for: its thread calls ``turn`` again and again."""

    @property
    def ticks(self) -> int:
        """Grows with each turn of its loop."""

    def wake(self) -> None:
        """End its wait. Called by any thread."""

    def interrupt(self) -> None:
        """As ``wake``, but also from within a signal handler of the consumer's own thread."""
