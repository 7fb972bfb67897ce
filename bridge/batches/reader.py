"""Reads batches, for programs, `bridge batches` and the Web tab."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from bridge.redis.outages import outages
from bridge.sidekiq import keys

#: Names of members that are child batches begin so.
CHILD = "batch:"
_STATES = {b"w": "waiting", b"f": "failed", b"d": "dead"}


@dataclass(frozen=True)
class BatchStatus:
    """One batch as of now. Times are epoch seconds; None: not yet."""

    bid: str
    description: str
    parent: str
    created_at: float
    total: int
    """Jobs that were ever in it, callbacks of child batches among them."""
    pending: int
    """Jobs that are not done."""
    failed: int
    """Jobs that failed and run again."""
    dead: int
    children: int
    """Child batches that are not done."""
    is_open: bool
    """Its jobs are still being pushed, or the process that pushed them died."""
    complete_at: float | None
    success_at: float | None
    death_at: float | None
    moved_at: float | None
    """When a job of it last ended."""

    @property
    def last_moved_at(self) -> float:
        """The last of all its times."""
        times = (self.created_at, self.moved_at, self.complete_at, self.death_at)
        return max(time for time in times if time is not None)

    @property
    def state(self) -> str:
        """One word."""
        if self.success_at is not None:
            return "done"
        if self.is_open:
            return "open"
        return "complete" if self.complete_at is not None else "running"


def status(client: redis.Redis, bid: str) -> BatchStatus | None:
    """One batch; None if Redis does not know it. Raises StoreError."""
    with outages():
        pipeline = client.pipeline(transaction=True)
        pipeline.hgetall(keys.batch(bid))
        pipeline.hlen(keys.batch_jobs(bid))
        found, left = pipeline.execute()
    return _status(bid, found, left) if b"created_at" in found else None


def newest(client: redis.Redis, most: int = 100) -> list[BatchStatus]:
    """The batches that end of life comes last for, newest first."""
    with outages():
        found: Any = client.zrange(keys.BATCHES, 0, most - 1, desc=True)
    statuses = [status(client, bid.decode(errors="replace")) for bid in found]
    return sorted((one for one in statuses if one), key=lambda one: -one.created_at)


def members(client: redis.Redis, bid: str) -> Iterator[tuple[str, str]]:
    """Everything that the batch waits for: jid or ``batch:<bid>``, and waiting, failed or dead."""
    with outages():
        for name, state in client.hscan_iter(keys.batch_jobs(bid), count=1000):
            yield name.decode(errors="replace"), _STATES.get(state, "waiting")


def _status(bid: str, found: dict[bytes, bytes], left: int) -> BatchStatus:
    def number(name: bytes) -> int:
        return int(found.get(name, 0))

    def moment(name: bytes) -> float | None:
        return float(found[name]) if name in found else None

    return BatchStatus(
        bid,
        found.get(b"description", b"").decode(errors="replace"),
        found.get(b"parent", b"").decode(errors="replace"),
        float(found[b"created_at"]),
        number(b"total"),
        left - number(b"children"),
        number(b"failed"),
        number(b"dead"),
        number(b"children"),
        b"open" in found,
        moment(b"complete_at"),
        moment(b"success_at"),
        moment(b"death_at"),
        moment(b"moved_at"),
    )
