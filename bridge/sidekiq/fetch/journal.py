"""The journal: decisions on their way to Redis, each kept until Redis has taken or fenced it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from bridge.sidekiq.fetch.listeners import JobListeners
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome import poison_pill
from bridge.sidekiq.outcome.decision import Decision, Done, GiveBack
from bridge.sidekiq.store.effects import SettlementEffects
from bridge.sidekiq.store.settlement import Arrived, Settled, Settlement
from bridge.sidekiq.store.tuples import new

logger = logging.getLogger(__name__)

LARGEST_BATCH = 1000

Decided = tuple[UnitOfWork, Decision]


class Batch:
    """Decisions that are being written, and how the store takes them."""

    def __init__(self, decided: Sequence[Decided], effects: SettlementEffects) -> None:
        self.decided = decided
        self.settlements = [_settlement(unit, decision, effects) for unit, decision in decided]


NO_DECISION = Batch((), SettlementEffects())


class Journal:
    """Any thread appends to it; the thread of the exchange reads it, one at a time."""

    def __init__(self, listeners: JobListeners, effects: SettlementEffects | None = None) -> None:
        self._listeners = listeners
        self._effects = effects or SettlementEffects()
        self.waiting: deque[Decided] = deque()
        """Decisions for the next exchange. The consumer's loop looks at it in each turn."""
        self.returning: deque[Decided] = deque()
        """Jobs that a stopping worker gives back, kept for their order."""
        self._in_order = False
        self._places: dict[int, int] = {}
        """By token, for jobs that were found late: the token that they would have had."""
        self.fenced = 0
        self.buried = 0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.returning)

    @property
    def units(self) -> list[UnitOfWork]:
        """All that waits."""
        return [unit for unit, _ in [*list(self.waiting), *list(self.returning)]]

    @property
    def has_unbegun(self) -> bool:
        """Whether one waits about a job that has not begun: the end of no run will write it."""
        return any(unit.began is None for unit, _ in list(self.waiting))

    @property
    def tokens(self) -> set[int]:
        """Of all that waits."""
        return {unit.delivery.token for unit in self.units}

    def add(self, unit: UnitOfWork, decision: Decision, place: int | None = None) -> None:
        """Note the decision about a job. ``place``: the token that it would have had in its order."""
        for change in self._listeners.decided:
            decision = change(unit, decision)
        if self._in_order and isinstance(decision, GiveBack) and not decision.unknown_outcome:
            if place is not None:
                self._places[unit.delivery.token] = place
            self.returning.append((unit, decision))
        else:
            self.waiting.append((unit, decision))

    def keep_order(self) -> None:
        """Keep what is given back until all has come in: it goes back in the order in which Redis gave it."""
        self._in_order = True

    def _release(self) -> None:
        """All that is given back has come in: the first taken goes back last, and so runs first."""
        returning: list[Decided] = []
        while self.returning:
            # One by one: another thread may add a decision at any moment, and none may fall between.
            returning.append(self.returning.popleft())
        self.waiting.extend(sorted(returning, key=self._place, reverse=True))

    def _place(self, decided: Decided) -> tuple[int, int]:
        token = decided[0].delivery.token
        return self._places.get(token, token), token

    def batch(self, *, everything: bool = True) -> Batch:
        """Take decisions out, to be written now; ``everything``: also what was kept for its order.

        Not while this worker has a watch under way: it would take the first job that goes back.
        """
        if everything and self.returning:
            self._release()
        if not self.waiting:
            return NO_DECISION
        count = min(len(self.waiting), LARGEST_BATCH)
        return Batch([self.waiting.popleft() for _ in range(count)], self._effects)

    def put_back(self, batch: Batch) -> None:
        """They could not be written."""
        self.waiting.extendleft(reversed(batch.decided))

    def confirm(self, batch: Batch, outcomes: Sequence[Settled]) -> None:
        """Redis has answered: what it refused for now is kept."""
        for (unit, decision), outcome in zip(batch.decided, outcomes, strict=True):
            if outcome is not Settled.OK:
                if outcome is Settled.FAILED:
                    self.waiting.append((unit, decision))
                    continue
                self._count_loss(unit, outcome)
            unit.arrived = ""  # the same bytes may come to the same list again
            for tell in self._listeners.settled:
                tell(unit, decision, outcome)

    def _count_loss(self, unit: UnitOfWork, outcome: Settled) -> None:
        if outcome is Settled.FENCED:
            self.fenced += 1
            logger.warning("FENCED: jid=%s was no longer held by this worker; not written", unit.job.jid)
        else:
            self.buried += 1
            logger.error("buried jid=%s: its outcome was lost too often (poison pill)", unit.job.jid)


def _settlement(unit: UnitOfWork, decision: Decision, effects: SettlementEffects) -> Settlement:
    """A decision as the store takes it."""
    delivery = unit.delivery
    # Asked here and not in the effects: nearly all jobs have none.
    has_effects = effects.sources or delivery.tracked or not effects.fields.isdisjoint(unit.job.fields)
    if type(decision) is Done and not has_effects and not unit.arrived:
        fields = (*delivery[:4], decision, unit.job.jid or "", b"", False, (), None)
        return new(Settlement, fields)  # type: ignore[no-any-return]
    unknown = isinstance(decision, GiveBack) and decision.unknown_outcome
    may_run = isinstance(decision, GiveBack) and decision.may_run
    return Settlement(
        delivery.identity,
        delivery.token,
        delivery.queue,
        delivery.payload,
        decision,
        unit.job.jid or "",
        poison_pill.payload(unit.job) if unknown else b"",
        delivery.recovered > 0 or may_run,
        effects.of(unit.job, decision, delivery.identity, delivery.token) if has_effects else (),
        Arrived(unit.arrived, has_row=unit.may_have_row) if unit.arrived else None,
    )
