"""The job that a run belongs to, and this worker's right to run it."""

from __future__ import annotations

from typing import Any, cast

from bridge.execution.outcomes import Settle
from bridge.sidekiq.fetch.unit_of_work import Delivery
from bridge.sidekiq.outcome import decision as decisions
from bridge.sidekiq.payload.job import SidekiqJob


def require_lease(app: Any, delivery: Delivery) -> None:
    """Begin no job that was taken from this worker while it was frozen; its settlement is fenced anyway."""
    if not app.bridge.lease.holds(delivery.identity):
        raise Settle(decisions.GiveBack())


def job_of(app: Any, delivery: Delivery) -> SidekiqJob:
    """The job of a delivery; where this process holds it, it has been parsed already."""
    unit = app.bridge.fetcher.in_flight.held.get(delivery.token)
    if unit is not None and unit.delivery.payload == delivery.payload:
        return cast(SidekiqJob, unit.job)
    return SidekiqJob.parse(delivery.payload)
