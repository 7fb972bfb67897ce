"""Which processes live, and which limits each of them declares."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import redis

from bridge.errors import StoreError
from bridge.limits import declaration
from bridge.limits.declaration import Limit
from bridge.redis.outages import outages
from bridge.sidekiq import keys

logger = logging.getLogger(__name__)


class Declarers:
    """The hash ``bridge:limits``. Every process that knows a limit has a field in it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.dead: set[str] = set()
        """Workers that this one has reaped: their rows on the Busy page outlive them."""

    def register(self, identity: str, declared: Iterable[Limit]) -> None:
        """Tell the other processes what this one declares; possibly nothing."""
        with outages():
            self._client.hset(keys.LIMITS, identity, json.dumps([limit.as_json() for limit in declared]))

    def leave(self, identity: str) -> None:
        """This process ends."""
        with outages():
            self._client.hdel(keys.LIMITS, identity)

    def forget_claims(self, identity: str) -> None:
        """A worker has died: the jobs of its last claim are back in their queue. Never raises."""
        with suppress(StoreError), outages():
            claims: Any = self._client.zrange(keys.CLAIMING, 0, -1)
            if its := [claim for claim in claims if claim.startswith(f"{identity} ".encode())]:
                self._client.zrem(keys.CLAIMING, *its)

    def living(self, besides: str = "") -> dict[str, list[dict[str, object]]]:
        """Identity to declarations, of processes that live. Those of dead ones are removed."""
        with outages():
            found: dict[bytes, bytes] = self._client.hgetall(keys.LIMITS)  # type: ignore[assignment]
            declared = {name.decode(): value for name, value in found.items() if name.decode() != besides}
            alive = self._alive(list(declared))
            dead = [name for name, is_alive in zip(declared, alive, strict=True) if not is_alive]
            # A reaper frees the places of a dead worker's jobs by what that worker has declared.
            if ended := [name for name in dead if not self._client.exists(keys.inflight(name))]:
                self._client.hdel(keys.LIMITS, *ended)
                self.dead.difference_update(ended)
        return {name: _parsed(value) for name, value in declared.items() if name not in dead}

    def declared_by(self, identity: str) -> list[Limit]:
        """The limits of one process, living or dead. Without those that only a newer release knows."""
        with outages():
            value: bytes | None = self._client.hget(keys.LIMITS, identity)  # type: ignore[assignment]
        return list(_readable(_parsed(value or b"[]")))

    def limits(self) -> Iterator[Limit]:
        """Each limit that a living process declares, once for each process. As ``declared_by``."""
        for entries in self.living().values():
            yield from _readable(entries)

    def names(self, besides: str) -> dict[str, bool]:
        """The limits that other living processes declare: name to whether it counts by a key."""
        found = self.living(besides).values()
        return {str(one.get("name")): one.get("key") is not None for declared in found for one in declared}

    def _alive(self, identities: Sequence[str]) -> list[bool]:
        """A worker has a lease, and every process of Sidekiq a row on the Busy page."""
        if not identities:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for identity in identities:
            pipeline.zscore(keys.LEASE, identity)
            pipeline.exists(identity)
        pipeline.time()
        *found, (seconds, _) = pipeline.execute()
        pairs = zip(found[::2], found[1::2], strict=True)
        return [
            name not in self.dead and ((till is not None and till > seconds * 1000) or row == 1)
            for name, (till, row) in zip(identities, pairs, strict=True)
        ]


def _parsed(value: bytes) -> list[dict[str, object]]:
    try:
        found = json.loads(value)
    except ValueError:
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _readable(entries: Iterable[dict[str, object]]) -> Iterator[Limit]:
    for entry in entries:
        with suppress(ValueError):  # of a newer release
            yield declaration.limit(entry)
