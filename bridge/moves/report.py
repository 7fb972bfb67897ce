"""The state of each move, for people and scripts: both sides beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from bridge import errors
from bridge.moves import runs, share
from bridge.moves.move import PYTHON, RUBY, Move, side_before
from bridge.moves.store import MoveStore
from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.api.values import object_of

#: Entries of ``retry`` that are searched for retries of the classes that move.
MOST_RETRIES = 10_000
PAGE = 500


@dataclass(frozen=True, slots=True)
class SideRow:
    """One side of a move, since its counts began."""

    runs: int
    failures: int
    failure_rate: float
    """0 to 1."""
    p50_ms: float | None
    p95_ms: float | None
    retries: int
    """Jobs in the retry set that stay on this side."""


@dataclass(frozen=True, slots=True)
class MoveRow:
    """One move. Times are epoch milliseconds."""

    job_class: str
    percent: float
    shadow: float
    guard: bool
    is_back: bool
    reason: str
    since_ms: int
    changed_ms: int
    python: SideRow
    ruby: SideRow
    sidekiq_share: float | None
    """Share (0 to 1) of the last hour's runs that stock Sidekiq processes made; None if it is unknown."""
    shadow_runs: int
    """Dry runs in Python."""
    shadow_differences: int
    """Of those, how many ended otherwise than in Ruby."""
    shadow_left_out: int
    """Ruby runs that were to have one, and came too fast."""


class MoveReport:
    """Reads, and nothing else. Every method raises StoreUnavailable when Redis cannot answer."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._store = MoveStore(client)

    def rows(self) -> list[MoveRow]:
        """Every class that moves."""
        moves = list(self._store.all().values())
        if not moves:
            return []
        retries, now_ms = self._retries(moves), self._store.now_ms()
        return [self._row(move, retries, now_ms) for move in moves]

    def differences(self, job_class: str) -> list[dict[str, Any]]:
        """The differences that shadow runs of a class have found, newest first."""
        with outages():
            found: list[bytes] = self._client.lrange(keys.move_differences(job_class), 0, -1)  # type: ignore[assignment]
        return [difference for raw in found if (difference := object_of(raw))]

    def _row(self, move: Move, retries: dict[tuple[str, str], int], now_ms: int) -> MoveRow:
        name = move.job_class
        both = runs.read(self._counts(move))
        shadow = [both.shadow.get(what, 0) for what in ("runs", "differences", "left out")]
        sides = {side: _side(both.of(side), retries.get((name, side), 0)) for side in (PYTHON, RUBY)}
        return MoveRow(
            name,
            move.percent,
            move.shadow,
            move.guard,
            move.is_back,
            move.reason,
            move.since_ms,
            move.changed_ms,
            sides[PYTHON],
            sides[RUBY],
            share.of_sidekiq(self._client, name, move.since_ms, now_ms),
            *shadow,
        )

    def _counts(self, move: Move) -> dict[bytes, bytes]:
        try:
            with outages():
                return self._client.hgetall(keys.move_runs(move.job_class, move.since_ms))  # type: ignore[return-value]
        except errors.StoreUnavailable:
            raise
        except errors.StoreError:  # a key of another type counts nothing
            return {}

    def _retries(self, moves: Sequence[Move]) -> dict[tuple[str, str], int]:
        """Jobs in the retry set by class and side."""
        names = {move.job_class for move in moves}
        counts: dict[tuple[str, str], int] = {}
        for first in range(0, MOST_RETRIES, PAGE):
            with outages():
                found: list[bytes] = self._client.zrange(keys.RETRY, first, first + PAGE - 1)  # type: ignore[assignment]
            for raw in found:
                side = _side_of(raw, names)
                if side is not None:
                    counts[side] = counts.get(side, 0) + 1
            if len(found) < PAGE:
                break
        return counts


def _side_of(raw: bytes, names: set[str]) -> tuple[str, str] | None:
    if not any(name.encode("utf-8", "surrogatepass") in raw for name in names):
        return None  # most entries: their payloads are not parsed
    job = object_of(raw)
    name = job.get("wrapped") or job.get("class")
    return (name, side_before(job) or RUBY) if isinstance(name, str) and name in names else None


def _side(counts: runs.Counts, retries: int) -> SideRow:
    percentiles = (counts.percentile_ms(0.5), counts.percentile_ms(0.95))
    return SideRow(counts.runs, counts.failures, counts.failure_rate, *percentiles, retries)
