"""Whom the fetcher works for."""

from __future__ import annotations

import time
from typing import Protocol

from bridge.sidekiq.fetch.in_flight import InFlight


class Consumer(Protocol):
    """The consumer that the fetcher works for: its thread calls ``turn`` again and again."""

    @property
    def ticks(self) -> int:
        """Grows with each turn of its loop."""

    def wake(self) -> None:
        """End its wait. Called by any thread."""

    def interrupt(self) -> None:
        """As ``wake``, but also from within a signal handler of the consumer's own thread."""


def loop_ticks(ticks: int | None, in_flight: InFlight) -> int:
    """The turns of the consumer's loop; None for ``ticks``: it has no consumer.

    Nothing turns while the worker drains, or while the solo pool runs a job on that very thread: then time
    itself counts.
    """
    is_inline = in_flight.slot_limit == 1 and bool(in_flight.held)
    return int(time.monotonic()) if is_inline or ticks is None else ticks
