"""The end of a run, as its batch is told of it: an effect of the settlement."""

from __future__ import annotations

from bridge.sidekiq import keys
from bridge.sidekiq.outcome.decision import Bury, Decision, Discard, Done, GiveBack, Retry
from bridge.sidekiq.payload.job import SidekiqJob
from bridge.sidekiq.store.effects import Effect

#: Field of a payload with the id of its batch.
FIELD = "bridge_batch"

#: Each decision, in the words of batch_job.lua. ``Interrupt`` and ``GiveBack`` end no job.
_EVENTS: dict[type, str] = {Done: "done", Retry: "failed", Bury: "dead", Discard: "dead"}


def effects(job: SidekiqJob, decision: Decision, identity: str = "", token: int = 0) -> tuple[Effect, ...]:
    """The effect of this end: a source of :class:`SettlementEffects`."""
    bid = job.fields.get(FIELD)
    return () if bid is None else _effects(bid, job.jid, decision)


def _effects(bid: object, jid: str | None, decision: Decision) -> tuple[Effect, ...]:
    event = _EVENTS.get(type(decision))
    if isinstance(decision, GiveBack) and decision.unknown_outcome:
        event = "orphan"
    if event is None or not jid or not isinstance(bid, str) or not bid:
        return ()
    return (Effect("batch_job", (keys.batch(bid), keys.batch_jobs(bid)), (bid, jid, event)),)
