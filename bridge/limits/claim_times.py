"""The moment of the claim of each job: the order of jobs at a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.sidekiq.fetch.unit_of_work import UnitOfWork
from bridge.sidekiq.store.claims import ClaimMark

#: Tenths of a microsecond between two jobs of a claim. A score in Redis, a time in s, has steps of 2.4.
LEAST_STEP, MOST_STEP = 3, 10


class ClaimTimes:
    """Tells jobs of one claim apart. Redis runs one claim at a time, so times of two claims do not mix."""

    def __init__(self) -> None:
        self._last = 0

    def times(self, asked: Sequence[tuple[UnitOfWork, Any]], marks: Sequence[ClaimMark]) -> list[str]:
        """Redis TIME in s with 7 digits, later for each job. Without a mark Redis told milliseconds."""
        return [self._time(unit, marks) for unit, _ in asked]

    def _time(self, unit: UnitOfWork, marks: Sequence[ClaimMark]) -> str:
        began, step = unit.delivery.claimed_at_ms * 10_000, MOST_STEP
        for mark in marks:
            if mark.first_token <= unit.delivery.token:
                began = mark.began_us * 10
                step = (mark.ended_us - mark.began_us) * 10 // max(1, mark.jobs)
        self._last = max(began, self._last + min(MOST_STEP, max(LEAST_STEP, step)))
        seconds, tenths = divmod(self._last, 10_000_000)
        return f"{seconds}.{tenths:07d}"
