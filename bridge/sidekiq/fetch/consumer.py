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

    def settled(self) -> None:
        """A job has ended, and its decision waits in the journal. Called by any thread."""

    def interrupt(self) -> None:
        """As ``wake``, but also from within a signal handler of the consumer's own thread."""


def loop_ticks(ticks: int | None, in_flight: InFlight) -> int:
    """The turns of the consumer's loop; None for ``ticks``: it has no consumer.

    Nothing turns while the worker drains, or while the solo pool runs a job on that very thread: then time
    itself counts.
    """
    is_inline = in_flight.slot_limit == 1 and bool(in_flight.held)
    return int(time.monotonic()) if is_inline or ticks is None else ticks


class ForConsumer:
    """Works for one consumer at a time, or for none."""

    def __init__(self) -> None:
        self._consumer: Consumer | None = None

    @property
    def has_consumer(self) -> bool:
        """Whether a consumer calls ``Fetcher.turn`` again and again."""
        return self._consumer is not None

    def attach(self, consumer: Consumer) -> None:
        """Its thread writes from now on what ends."""
        self._consumer = consumer

    def detach(self, consumer: Consumer) -> None:
        """Work for it no more. Without a consumer, what ends is written at once."""
        if self._consumer is consumer:
            self._consumer = None

    @property
    def ticks(self) -> int | None:
        """Turns of the consumer's loop; None without a consumer."""
        return consumer.ticks if (consumer := self._consumer) is not None else None

    def wake(self) -> None:
        """There is something to do for the consumer's thread. Called by any thread."""
        if (consumer := self._consumer) is not None:
            consumer.wake()
