"""Keeps a retry on the side of the attempt before, by a field in its payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bridge.errors import PayloadError
from bridge.moves.move import PYTHON, RUBY, SIDE_FIELD, Move
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.outcome.decision import Bury, Decision, Interrupt, Retry
from bridge.sidekiq.payload.splice import splice


class SideMark:
    """Writes the side into what a run leaves behind: a retry, a dead entry, a job at a checkpoint."""

    def __init__(self) -> None:
        self._moves: Mapping[str, Move] = {}

    def follow(self, moves: Mapping[str, Move]) -> None:
        """Mark the jobs of these classes from now on."""
        self._moves = moves

    def decided(self, unit: UnitOfWork, decision: Decision) -> Decision:
        """The decision, with the side in its payload where the class moves."""
        if not isinstance(decision, Retry | Bury | Interrupt) or unit.started_at is None:
            return decision
        name = unit.job.native_class
        return decision if name is None or name not in self._moves else _marked(decision, unit)


def _marked(decision: Retry | Bury | Interrupt, unit: UnitOfWork) -> Decision:
    side = PYTHON if unit.native else RUBY
    try:
        return replace(decision, payload=splice(decision.payload, {SIDE_FIELD: side}))
    except (PayloadError, ValueError):  # bytes that only Ruby can read
        return decision
