"""All parts of one process that keep limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import redis

from bridge.limits.admission import Admission, Units
from bridge.limits.company import Company
from bridge.limits.declaration import Limit
from bridge.limits.gates import Limits
from bridge.limits.lines import Lines
from bridge.limits.queue_limits import QueueLimits
from bridge.sidekiq.fetch.fetcher import Fetcher
from bridge.sidekiq.outcome.decision import Decision
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.effects import Effect


class Limiter:
    """Made once for each process. A process without limits pays one look into each job that it claims."""

    def __init__(
        self,
        client: redis.Redis,
        declared: tuple[Limit, ...],
        identity: Callable[[], str],
        fetcher: Callable[[], Fetcher],
        nudge: Callable[[], object] = lambda: None,
    ) -> None:
        self.limits = Limits(declared)
        self.lines = Lines(client, self.limits, identity, nudge)
        self.company = Company(client)
        self.queues = QueueLimits(client, declared, lambda: _held(fetcher()))
        self.admission = Admission(client, self.limits, self.lines)
        self._fetcher = fetcher

    def keep_order(self, fetcher: Fetcher) -> None:
        """Have the claims of jobs with declared limits noted."""
        if declared := self.limits.declared:
            fetcher.rooms.marked.add(self.limits.marks, [limit.queue for limit in declared])

    def round(self) -> float:
        """Move on what is due. Returns seconds until the next look. For a thread of its own."""
        if self.limits.declared:
            self._fetcher().rooms.marked.shared = self.company.look()
        return self.lines.round()

    def admit(self, units: Units) -> Units:
        """Those of the claimed units that may run now. Raises StoreError."""
        return self.admission.admit(units, self._fetcher(), self.queues)

    def effects(self, job: SidekiqJob, decision: Decision, identity: str, token: int) -> tuple[Effect, ...]:
        """A source of :class:`SettlementEffects`."""
        return self.admission.effects(job, decision, identity, token)


def _held(fetcher: Fetcher) -> Counter[str]:
    return Counter(unit.delivery.queue for unit in list(fetcher.in_flight.held.values()))
