"""One call of a script, for the parts of the store."""

from __future__ import annotations

from typing import Any

import redis

from bridge.redis import scripts
from bridge.redis.outages import raise_first_error
from bridge.sidekiq.store.effects import SettlementEffects


class ScriptCalls:
    """A client of Redis, and how a single script is called over it. Raises StoreError."""

    tells_ruby = False
    """Whether ends outside of Ruby are noted for it: a sidecar is configured."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.effects = SettlementEffects()
        """Asked for each job that ends. Features register their sources here."""

    def _one(self, call: scripts.Call) -> Any:
        results = scripts.run(self.client, [call])
        raise_first_error(results)
        return results[0]
