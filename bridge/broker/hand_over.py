"""Hands claimed jobs over to the consumer, or straight to the pool."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from bridge.broker.context import BrokerContext
from bridge.sidekiq.fetch.in_flight import InFlight
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.payload.options import LIMIT

logger = logging.getLogger(__name__)


class HandOver:
    """Belongs to the consumer's thread."""

    def __init__(
        self,
        context: BrokerContext,
        in_flight: InFlight,
        channel: Any,
        deliver: Callable[[UnitOfWork], None],
    ) -> None:
        self._context, self._has_limits = context, context.has_limits
        self._in_flight = in_flight
        self._channel = channel
        self._deliver = deliver

    def admitted(self, units: tuple[UnitOfWork, ...]) -> tuple[UnitOfWork, ...]:
        """Those of the jobs that may run now. Raises StoreError."""
        if units and (self._has_limits or any(LIMIT in unit.job.fields for unit in units)):
            self._in_flight.enter(units)  # a limit moves a job that must wait out of the hash
            return self._context.admit(units)
        if tracked := [unit for unit in units if unit.delivery.tracked]:
            self._in_flight.enter(tracked)  # a run tells its progress only while the hash has its token
        return units

    def deliver(self, units: Sequence[UnitOfWork]) -> list[UnitOfWork]:
        """Returns those that could not be handed over."""
        return [unit for unit in units if not self._hand_over(unit)]

    def _hand_over(self, unit: UnitOfWork) -> bool:
        try:
            if not self._context.fast_dispatch(unit, self._channel):
                self._deliver(unit)
        except Exception:
            # A fault between claim and pool must not lose the job, nor those claimed with it.
            logger.exception("could not hand over jid=%s; it is given back", unit.job.jid)
            return False
        return True
