"""The job store: every write the bridge makes to Sidekiq's queues and sets, as one small set of verbs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

from bridge.redis import scripts
from bridge.redis.encoding import Words
from bridge.redis.outages import outages, raise_first_error, translated
from bridge.redis.pipeline import KeptConnections
from bridge.sidekiq import keys
from bridge.sidekiq.outcome.decision import DeadLimits
from bridge.sidekiq.store import large_claims, lua
from bridge.sidekiq.store.arrived import ArrivedJobs
from bridge.sidekiq.store.arrived_settlement import settlement_batch
from bridge.sidekiq.store.claims import (
    Claimed,
    ClaimRequest,
    Exchange,
    LeaseState,
    Standing,
    claim_answer,
    claim_call,
    entry,
)
from bridge.sidekiq.store.due import DueEntries
from bridge.sidekiq.store.exact_claims import ExactClaims
from bridge.sidekiq.store.lease_calls import LeaseCalls
from bridge.sidekiq.store.settlement import RECOVER_BURIED, Settlement, recover_call
from bridge.sidekiq.store.unbegun import UnbegunJobs

logger = logging.getLogger(__name__)

#: Two clocks that differ by less agree: the answer was on its way for a while.
WRONG_SECONDS = 1.0


class RedisStore(LeaseCalls, DueEntries, UnbegunJobs, ExactClaims, ArrivedJobs):
    """The store on a Redis (or Valkey) server of at least 6.2."""

    def __init__(
        self,
        client: redis.Redis,
        dead_limits: Callable[[], DeadLimits] = lambda: DeadLimits(),
        before_push: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(client)
        self._before_push = before_push
        self._dead_limits = dead_limits
        self.ahead = 0.0
        """Seconds by which Redis' clock is before that of this machine, where one of them is wrong."""
        self._lines = KeptConnections(client)

    def now(self) -> float:
        """Epoch seconds by Redis' clock, as far as its last answers tell.

        Every process sees an entry due by that clock. By a wrong one of this machine a retry comes early or
        late by as much, and the dead set is emptied as too old.
        """
        return time.time() + self.ahead

    def _learn_time(self, told_ms: float) -> None:
        ahead = told_ms / 1000 - time.time()
        self.ahead = ahead if abs(ahead) > WRONG_SECONDS else 0.0

    def exchange(self, settlements: Sequence[Settlement], claim: ClaimRequest | None) -> Exchange:
        """Settle and claim in one round trip; finished jobs of one worker share one script call.

        For one thread at a time.
        """
        batch = None
        if settlements:
            batch = settlement_batch(settlements, self._dead_limits, self.ahead, tells_ruby=self.tells_ruby)
        calls = batch.calls if batch else []
        reads = large_claims.ListReads(self._line.send, claim) if claim is not None and claim.lists else None
        if claim is not None:
            calls = [*calls, claim_call(claim) if reads is None else large_claims.claim_call(claim)]
        if not calls:
            return Exchange()
        results = scripts.run(self.client, calls, reads or self._line.send)
        answer = None if claim is None else results.pop()
        settled = batch.outcomes(results) if batch else ()
        if batch and batch.has_notices:
            self.on_notice()
        if claim is None:
            return Exchange(settled)
        if isinstance(answer, redis.RedisError):
            return Exchange(settled, refusal=translated(answer))
        taken = (
            claim_answer(claim, answer)
            if reads is None
            else large_claims.claim_answer(claim, answer, reads.found)
        )
        if taken.lease is LeaseState.HELD:
            self._learn_time(taken.claimed_at_ms)
        return Exchange(settled, taken)

    def inflight(self, identity: str) -> list[Claimed]:
        """All a worker holds, oldest first."""
        # In this order: a job moves from its list into the hash. It may be seen twice, and is not missed.
        arrived = self.arrived(identity)
        with outages():
            entries: Any = self.client.hgetall(keys.inflight(identity))
        jobs = [
            entry(int(token), value)
            for token, value in sorted(entries.items(), key=lambda item: int(item[0]))
        ]
        seen = {job.payload for job in jobs}
        return [*jobs, *(job for job in arrived if job.payload not in seen)]

    def fence_claims(self, identity: str, first_valid_token: int) -> tuple[int, set[int]]:
        """Refuse earlier claims of this worker that Redis has not carried out yet.

        Returns the time of Redis in ms, and the tokens of all jobs in flight: the list is complete.
        """
        now_ms, tokens = self._one(
            scripts.Call(
                lua.load("claim_fence"),
                (keys.inflight(identity), keys.fence(identity)),
                (first_valid_token, keys.FENCE_TTL_SECONDS),
            )
        )
        return int(now_ms), {int(token) for token in tokens}

    def entries(self, identity: str, tokens: Sequence[int]) -> list[Claimed]:
        """The jobs in flight under these tokens, in this order; those that are gone are left out."""
        if not tokens:
            return []
        with outages():
            found: Any = self.client.hmget(keys.inflight(identity), [str(token) for token in tokens])
        return [entry(token, value) for token, value in zip(tokens, found, strict=True) if value is not None]

    def standing(self, identity: str) -> Standing:
        """The lease of one worker, and how many jobs it holds."""
        with outages():
            pipeline = self.client.pipeline(transaction=False)
            pipeline.zscore(keys.LEASE, identity)
            pipeline.hlen(keys.inflight(identity))
            pipeline.time()
            till, held, (seconds, microseconds) = pipeline.execute()
        now_ms = seconds * 1000 + microseconds / 1000
        self._learn_time(now_ms)
        return Standing(float(till or 0), int(held), now_ms)

    def recoveries(self, jids: Sequence[str]) -> list[int]:
        """How often each job was orphaned within 72 hours; at least 1 where a run may go on.

        They wait in a queue no more.
        """
        if not jids:
            return []
        with outages():
            pipeline = self.client.pipeline(transaction=False)
            pipeline.mget([keys.recovered(jid) for jid in jids])
            pipeline.smismember(keys.RECOVERING, list(jids))
            pipeline.srem(keys.RECOVERING, *jids)
            found, marked, _ = pipeline.execute(raise_on_error=False)
        raise_first_error([found, marked])
        return [max(int(count or 0), mark) for count, mark in zip(found, marked, strict=True)]

    def recover(self, settlement: Settlement, limits: DeadLimits, now: float) -> int:
        """Take one job out of a dead worker's hands. Returns 0 (gone), 1 (given back) or 2 (buried)."""
        outcome = int(self._one(recover_call(settlement, limits, now, tells_ruby=self.tells_ruby)))
        if outcome == RECOVER_BURIED:
            self.on_notice()
        return outcome

    def push(self, queue: str, payload: bytes) -> None:
        """Push a job as Sidekiq's client does: SADD ``queues``, LPUSH."""
        self._push([("SADD", keys.QUEUES, queue), ("LPUSH", keys.queue(queue), payload)])

    def schedule(self, at: float, payload: bytes) -> None:
        """Put a job into ``schedule`` for ``at`` (epoch seconds)."""
        self._push([("ZADD", keys.SCHEDULE, at, payload)])

    def put(self, queue: str, payload: bytes, at: float | None) -> None:
        """Push a job, or schedule it where there is a time."""
        if at is None:
            self.push(queue, payload)
        else:
            self.schedule(at, payload)

    def push_by(self, call: scripts.Call) -> Any:
        """Push jobs by a script. Returns its result."""
        self._before_push()
        return self._one(call)

    def _push(self, commands: Sequence[Words]) -> None:
        self._before_push()
        with outages():
            answers = self._lines.send(commands)
        raise_first_error(answers)

    def clear(self, queue: str) -> int:
        """Remove a queue and all its jobs, as the Web UI's "Clear queue" does. Returns their number."""
        with outages():
            pipeline = self.client.pipeline(transaction=True)
            pipeline.llen(keys.queue(queue))
            pipeline.unlink(keys.queue(queue))
            pipeline.srem(keys.QUEUES, queue)
            return int(pipeline.execute()[0])

    def size(self, queue: str) -> int:
        """Number of waiting jobs."""
        with outages():
            return int(self.client.llen(keys.queue(queue)))
