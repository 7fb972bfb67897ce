"""Quality of service: how many jobs may be held, and what an ack or a reject settles."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from kombu.transport import virtual

from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, Decision, Done, GiveBack
from bridge.sidekiq.outcome.notice import refused


class QoS(virtual.QoS):
    """Delegates to the process-wide fetcher, which outlives channels and connections.

    Celery acknowledges on success, retry, revoke, expiry and failure alike, so an ack alone says nothing:
    what was recorded for the delivery counts, and only where nothing was is a job that had started taken as
    done.
    """

    #: Unacknowledged jobs are in Redis, in the in-flight hash: nothing to restore from memory.
    restore_at_shutdown = False

    channel: Any

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)

    @cached_property
    def fetcher(self) -> Fetcher:
        """The holder of this process's jobs."""
        fetcher: Fetcher = self.channel.context.fetcher()
        return fetcher

    def can_consume(self) -> bool:
        """Whether a slot is free."""
        return self.fetcher.in_flight.free_slots > 0

    def append(self, message: Any, delivery_tag: int) -> None:
        """Nothing to do: the fetcher has held the job since its claim."""

    def get(self, delivery_tag: int) -> UnitOfWork:
        """The unit behind a delivery tag. Raises KeyError when it is settled."""
        return self.fetcher.in_flight.held[delivery_tag]

    def ack(self, delivery_tag: int) -> None:
        """Settle by the recorded decision; else done if it had started, given back if not."""
        self.fetcher.settle(delivery_tag, self._after_ack(delivery_tag))

    def reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """Settle by the recorded decision; else give back (``requeue``) or bury: nothing is ever dropped."""
        self.fetcher.settle(delivery_tag, GiveBack() if requeue else self._buried(delivery_tag))

    def _after_ack(self, delivery_tag: int) -> Decision:
        unit = self.fetcher.in_flight.held.get(delivery_tag)
        return Done() if unit is not None and unit.started_at is not None else GiveBack()

    def _buried(self, delivery_tag: int) -> Decision:
        unit = self.fetcher.in_flight.held.get(delivery_tag)
        if unit is None:
            return GiveBack()
        reason = "Celery rejected this message as one it cannot run; see the worker's log"
        told = refused("Bridge::Rejected", reason)
        return Bury(unit.job.with_fields(unit.job.entry_fields(told.fields)), ran=False, notice=told)
