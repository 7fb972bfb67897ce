"""After a cut connection or a restored Redis: compares what Redis holds with what this worker knows."""

from __future__ import annotations

import logging
from collections.abc import Callable

from bridge.sidekiq.fetch.in_flight import InFlight
from bridge.sidekiq.fetch.journal import Journal
from bridge.sidekiq.fetch.unit_of_work import Delivery, UnitOfWork
from bridge.sidekiq.lease.lease import Lease
from bridge.sidekiq.outcome.decision import GiveBack
from bridge.sidekiq.store.store import RedisStore

logger = logging.getLogger(__name__)


class RolledBackJobs:
    """Tokens that Redis holds for this process, and that this process does not know.

    One look is not enough: a job that is being settled leaves Redis a little later than this process.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def seen_again(self, tokens: set[int]) -> set[int]:
        """Those of ``tokens`` that the last look found already."""
        again = tokens & self._seen
        self._seen = tokens - again
        return again


class Reconciler:
    """Adopts jobs of unanswered claims, and gives back jobs that this worker does not know.

    ``promoting`` gives the tokens of due entries that the scheduler has taken out of their sets; they are
    negative. ``compare`` and ``reconnect`` may be called by any thread, ``adopt_unknown`` by one at a time.
    """

    def __init__(
        self,
        store: RedisStore,
        lease: Lease,
        in_flight: InFlight,
        journal: Journal,
        wake: Callable[[], None],
        promoting: Callable[[], frozenset[int]] = frozenset,
    ) -> None:
        self._store = store
        self._lease = lease
        self._wake = wake
        self._in_flight = in_flight
        self._journal = journal
        self._promoting = promoting
        self._rolled_back = RolledBackJobs()
        self._missing: set[int] = set()

    def reconnect(self) -> None:
        """The connection was cut: have what Redis holds for this worker compared with what it remembers."""
        self._in_flight.unanswered.look_now()

    def compare(self, identity: str, in_flight: int) -> None:
        """Have a close look where Redis holds another number of jobs than this worker knows.

        Called by another thread at each renewal of the lease. A job on its way makes the numbers differ for a
        moment; the close look tells.
        """
        if identity == self._lease.identity and in_flight != self._in_flight.known(identity):
            self._in_flight.unanswered.look_soon()
            self._wake()

    def adopt_unknown(self) -> tuple[UnitOfWork, ...]:
        """Take over what was claimed for us in an answer that never came.

        Only by the tokens of such claims: a job that is being settled at this moment stays in Redis a little
        longer than here, and must not run again. A claim that Redis has not carried out yet is fenced.
        """
        in_flight, identity = self._in_flight, self._lease.identity
        now_ms, tokens_there = self._store.fence_claims(identity, in_flight.next_token)
        self._push_forgotten(identity, tokens_there)
        tokens = {token for token in tokens_there if token > 0}
        unknown = sorted(token for token in tokens if token in in_flight.unanswered)
        found = self._store.entries(identity, unknown)
        units = in_flight.admit(identity, found, now_ms)
        in_flight.unanswered.looked()
        in_flight.note_recoveries(units)
        self._give_back_rolled_back(identity, tokens, now_ms)
        self._note_missing(identity, tokens)
        if found:
            logger.warning("adopted %d jobs whose claim was answered into a cut connection", len(found))
        if in_flight.is_quiet:
            # No slot begins a job any more: another worker runs these, and nothing counts against them.
            in_flight.give_back_all(units)
            return ()
        return units

    def _push_forgotten(self, identity: str, tokens: set[int]) -> None:
        """Push due entries that the scheduler does not know; their tokens are negative."""
        forgotten = {token for token in tokens if token < 0} - self._promoting()
        for job in self._store.entries(identity, sorted(forgotten)):
            self._store.push_promoted(identity, job.token, job.queue, job.payload)

    def _give_back_rolled_back(self, identity: str, tokens: set[int], now_ms: int) -> None:
        """Redis holds jobs for this worker that this worker does not know.

        Redis came back with an older state, and the jobs were settled since; or a claim came late. The worker
        does not know whether they ran. So the next delivery asks every sidecar first: one that remembers the
        job answers from memory.
        """
        known = self._in_flight.held.keys() | self._journal.tokens
        again = self._rolled_back.seen_again(tokens - known)
        found = self._store.entries(identity, sorted(again, reverse=True))
        for job in found:
            delivery = Delivery(identity, job.token, job.queue, job.payload, now_ms)
            self._journal.add(UnitOfWork.stray(delivery), GiveBack(may_run=True))
        if found:
            logger.warning(
                "gave back %d jobs that Redis held for %s and this worker did not know: Redis was restored "
                "from an older state, or a claim came late",
                len(found), identity,
            )  # fmt: skip

    def _note_missing(self, identity: str, tokens: set[int]) -> None:
        """Jobs in hand that Redis does not hold for this worker: their settlements will be fenced."""
        units = list(self._in_flight.held.items())
        held = {token for token, unit in units if unit.delivery.identity == identity and not unit.arrived}
        if gone := held - tokens - self._missing:
            logger.warning(
                "FENCED: Redis no longer holds %d jobs that run here; another worker may run them as well",
                len(gone),
            )
        self._missing = held - tokens
