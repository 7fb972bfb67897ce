"""Large jobs: a queue that has shown some is claimed from by a script that makes no text of their bytes."""

from __future__ import annotations

import itertools
import logging
import math

from bridge.redis import commands
from bridge.sidekiq.fetch.arrivals import Arrivals
from bridge.sidekiq.fetch.journal import Journal
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.store.claims import ArrivedList, Claim, ClaimRequest, LeaseState
from bridge.sidekiq.store.large_claims import watch_name

logger = logging.getLogger(__name__)

#: From this size on a list for each job costs Redis less than a text of Lua.
LARGE_BYTES = 4096
#: Jobs of one such claim: Redis sends all of them at once.
MOST_LISTS = 100
#: Seconds without such claims after Redis has refused one.
REST_SECONDS = 60.0


class LargeJobs:
    """Turns a claim into one for large jobs, and holds those. For one thread at a time."""

    def __init__(self, arrivals: Arrivals, journal: Journal) -> None:
        self._arrivals = arrivals
        self._journal = journal
        self._numbers = itertools.count(1)
        self._rest_until = 0.0
        self.queues: set[str] = set()
        """Queues whose last claim brought large jobs."""

    def request(self, request: ClaimRequest) -> ClaimRequest:
        """The claim to make instead. A queue is claimed from only if those before it are empty."""
        if (request.orders and len(request.queues) > 1) or self._arrivals.clock() < self._rest_until:
            return request
        place = next((i for i, name in enumerate(request.queues) if name in self.queues), None)
        if place is None:
            return request
        queues = request.queues[: place + 1]
        lists = self._empty_lists(request.identity, queues[-1], min(request.want, MOST_LISTS))
        self._arrivals.own.update({home: token for token, home in enumerate(lists, request.first_token)})
        return request._replace(queues=queues, orders=(), lists=lists, want=len(lists))

    def admit(self, request: ClaimRequest, claim: Claim) -> tuple[UnitOfWork, ...]:
        """Hold the jobs of such a claim."""
        if claim.lease is LeaseState.HELD and not self._is_full_and_large(request, claim):
            self.queues.discard(request.queues[-1])
        units: list[UnitOfWork] = []
        for job in claim.jobs:
            home = request.lists[job.token - request.first_token]
            units += self._arrivals.hold(home, job, claim.claimed_at_ms)
        return tuple(units)

    def is_put_off(self, request: ClaimRequest, error: Exception) -> bool:
        """Whether the refused claim was one for large jobs: an ordinary one follows."""
        if not request.lists:
            return False
        is_forbidden = commands.is_forbidden(error.__cause__ or error)
        self._rest_until = math.inf if is_forbidden else self._arrivals.clock() + REST_SECONDS
        logger.info("large jobs are claimed as all others, Redis refused the other way: %s", error)
        return True

    def _empty_lists(self, identity: str, queue: str, count: int) -> tuple[ArrivedList, ...]:
        # A list is used again. After a cut connection it is not: its key is a string before a settlement that
        # comes late could find the next job there.
        own, in_use = self._arrivals.own, self._keys_in_use()
        lists = [home for home in own if home.queue == queue and home.identity == identity]
        empty = [home for home in lists if home.key not in in_use][:count]
        new = [
            ArrivedList.of(identity, watch_name(next(self._numbers), queue))
            for _ in range(count - len(empty))
        ]
        return (*empty, *new)

    def _keys_in_use(self) -> set[str]:
        """Of the lists in which a job that is not settled may be."""
        return {unit.arrived for unit in (*self._arrivals.units, *self._journal.units)}

    @staticmethod
    def _is_full_and_large(request: ClaimRequest, claim: Claim) -> bool:
        is_full = len(claim.jobs) == len(request.lists)
        return is_full and any(len(job.payload) >= LARGE_BYTES for job in claim.jobs)
