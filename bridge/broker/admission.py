"""Admission: which of the claimed jobs may run now, for those that limits or tracking concern."""

from __future__ import annotations

from bridge.broker.context import BrokerContext, Units
from bridge.sidekiq.fetch.in_flight import InFlight
from bridge.sidekiq.payload.options import LIMIT


class Admission:
    """Belongs to the consumer's thread."""

    def __init__(self, context: BrokerContext, in_flight: InFlight) -> None:
        self._context, self._in_flight = context, in_flight
        self.has_limits = context.has_limits
        """Whether each job is asked for."""

    def of(self, units: Units) -> Units:
        """Those of the jobs that may run now. Raises StoreError."""
        if self.has_limits or any(LIMIT in unit.job.fields for unit in units):
            self._in_flight.enter(units)  # a limit moves a job that must wait out of the hash
            return self._context.admit(units)
        if tracked := [unit for unit in units if unit.delivery.tracked]:
            self._in_flight.enter(tracked)  # a run tells its progress only while the hash has its token
        return units
