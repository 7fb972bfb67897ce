"""Which processes live, and which limits each of them declares."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence

import redis

from bridge.limits.declaration import Limit
from bridge.redis.outages import outages
from bridge.sidekiq import keys

logger = logging.getLogger(__name__)


class Declarers:
    """The hash ``bridge:limits``. Every process that knows a limit has a field in it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def register(self, identity: str, declared: Iterable[Limit]) -> None:
        """Tell the other processes what this one declares; possibly nothing."""
        with outages():
            self._client.hset(keys.LIMITS, identity, json.dumps([limit.as_json() for limit in declared]))

    def leave(self, identity: str) -> None:
        """This process ends."""
        with outages():
            self._client.hdel(keys.LIMITS, identity)

    def living(self, besides: str = "") -> dict[str, list[dict[str, object]]]:
        """Identity to declarations, of processes that live. Those of dead ones are removed."""
        with outages():
            found: dict[bytes, bytes] = self._client.hgetall(keys.LIMITS)  # type: ignore[assignment]
            declared = {name.decode(): value for name, value in found.items() if name.decode() != besides}
            alive = self._alive(list(declared))
            dead = [name for name, is_alive in zip(declared, alive, strict=True) if not is_alive]
            if dead:
                self._client.hdel(keys.LIMITS, *dead)
        return {name: _parsed(value) for name, value in declared.items() if name not in dead}

    def names(self, besides: str) -> set[str]:
        """Names of the limits that other living processes declare."""
        return {str(one.get("name")) for found in self.living(besides).values() for one in found}

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
        return [(till is not None and till > seconds * 1000) or row == 1 for till, row in pairs]


def _parsed(value: bytes) -> list[dict[str, object]]:
    try:
        found = json.loads(value)
    except ValueError:
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
