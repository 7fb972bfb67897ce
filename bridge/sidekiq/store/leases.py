"""A reaper's view of ``bridge:lease`` and the in-flight hashes. All methods raise StoreUnavailable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bridge.redis.outages import outages
from bridge.sidekiq import keys

#: Keys that one step of a search looks at.
STEP = 1000


@dataclass(frozen=True)
class LeaseTable:
    """The leases of all workers."""

    client: Any
    """A redis.Redis that answers in bytes."""

    def ends(self) -> dict[str, float]:
        """Identity to the end of its lease in ms of Redis TIME; 0: ended, jobs left; < 0: being reaped."""
        with outages():
            found = self.client.zrange(keys.LEASE, 0, -1, withscores=True)
        return {name.decode(errors="replace"): score for name, score in found}

    def search(self, cursor: int) -> tuple[int, list[str]]:
        """One step through all keys. Returns the next cursor, 0 at the end, and who has an in-flight hash."""
        prefix = keys.inflight("")
        with outages():
            following, found = self.client.scan(cursor, match=f"{prefix}*", count=STEP)
        return int(following), [name.decode(errors="replace").removeprefix(prefix) for name in found]

    def holders(self, identities: Iterable[str]) -> list[str]:
        """Those who hold jobs and have no lease."""
        names = list(identities)
        if not names:
            return []
        with outages():
            pipeline = self.client.pipeline(transaction=False)
            for name in names:
                pipeline.exists(keys.inflight(name))
                pipeline.zscore(keys.LEASE, name)
            found = pipeline.execute()
        answers = zip(names, found[::2], found[1::2], strict=True)
        return [name for name, holds, lease in answers if holds and lease is None]

    def end_lost(self, identity: str) -> None:
        """Give a holder of jobs an ended lease, for the reapers, unless it has one."""
        with outages():
            self.client.zadd(keys.LEASE, {identity: 0}, nx=True)
