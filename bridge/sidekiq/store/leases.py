"""A reaper's view of ``bridge:lease`` and the in-flight hashes. All methods raise StoreUnavailable."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bridge.redis.outages import outages
from bridge.sidekiq import keys
from bridge.sidekiq.store.arrived import NAMES_LOST

#: Keys that one step of a search looks at.
STEP = 1000
#: Keys that hold jobs of workers: hashes, sets of watches, and their lists. It matches a few others.
HELD = "bridge:[ai]*"
_ARRIVED = re.compile(
    rf"{keys.ARRIVED_PREFIX}(?P<identity>.+?:\d+:[0-9a-f]{{12}})(?::(?P<watch>\d+:.*))?", re.DOTALL
)


def holder_of(name: bytes) -> tuple[str, str | None] | None:
    """The worker whose key this is, and the watch whose list it is; None: the key holds no jobs."""
    text = name.decode(errors="replace")
    if text.startswith(prefix := keys.inflight("")):
        return text.removeprefix(prefix), None
    match = _ARRIVED.fullmatch(text)
    return (match["identity"], match["watch"]) if match else None


@dataclass(frozen=True)
class LeaseTable:
    """The leases of all workers."""

    client: Any
    """A redis.Redis that answers in bytes."""

    def ends(self) -> dict[str, float]:
        """Identity to the end of its lease in ms of Redis TIME; 0: ended, jobs left; < 0: being reaped."""
        with outages():
            return _ends(self.client.zrange(keys.LEASE, 0, -1, withscores=True))

    def ends_outside(self, first_ms: float, last_ms: float) -> dict[str, float]:
        """The same of those that end at ``first_ms`` or before, or after ``last_ms``. Nearly always none."""
        with outages():
            pipeline = self.client.pipeline(transaction=False)
            pipeline.zrangebyscore(keys.LEASE, "-inf", first_ms, withscores=True)
            pipeline.zrangebyscore(keys.LEASE, f"({last_ms}", "+inf", withscores=True)
            before, after = pipeline.execute()
        return _ends([*before, *after])

    def search(self, cursor: int) -> tuple[int, list[str]]:
        """One step through all keys. Returns the next cursor, 0 at the end, and who may hold jobs.

        A list of arrived jobs that its worker's set does not name is named there: the set was lost.
        """
        with outages():
            following, names = self.client.scan(cursor, match=HELD, count=STEP)
            found = [(name, *held) for name in names if (held := holder_of(name)) is not None]
            for name, identity, watch in found:
                is_list = watch is not None and self.client.type(name) == b"list"
                if is_list and self.client.sadd(keys.arrived(identity), watch):
                    self.client.sadd(keys.arrived(identity), NAMES_LOST)  # perhaps not this one alone
        return int(following), list({identity: None for _, identity, _ in found})

    def holders(self, identities: Iterable[str]) -> list[str]:
        """Those who hold jobs and have no lease."""
        names = list(identities)
        if not names:
            return []
        with outages():
            pipeline = self.client.pipeline(transaction=False)
            for name in names:
                pipeline.exists(keys.inflight(name), keys.arrived(name))
                pipeline.zscore(keys.LEASE, name)
            found = pipeline.execute()
        answers = zip(names, found[::2], found[1::2], strict=True)
        return [name for name, holds, lease in answers if holds and lease is None]

    def end_lost(self, identity: str) -> bool:
        """Give a holder of jobs a lease that a reaper has marked: it cannot renew. False where it has one."""
        with outages():
            return bool(self.client.zadd(keys.LEASE, {identity: -1}, nx=True))


def _ends(found: Iterable[tuple[bytes, float]]) -> dict[str, float]:
    return {name.decode(errors="replace"): score for name, score in found}
