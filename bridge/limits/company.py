"""Whether processes of Sidekiq itself serve the same Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis

from bridge.redis.outages import outages
from bridge.sidekiq import fleet, keys

LOOK_SECONDS = 15.0


class Company:
    """For the thread of the lines."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._look_at = 0.0
        self.has_sidekiq = False

    def look(self) -> bool:
        """Look now and then. A living process without a lease is one of Sidekiq. Raises StoreError."""
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + LOOK_SECONDS
            with outages():
                names: Any = self._client.smembers(keys.PROCESSES)
                self.has_sidekiq = self._is_among(names)
            self._look_at = self._clock() + max(LOOK_SECONDS, fleet.rest_seconds(len(names)))
        return self.has_sidekiq

    def _is_among(self, names: Any) -> bool:
        if not names:
            return False
        ends: Any = self._client.zmscore(keys.LEASE, list(names))
        others = [name for name, end in zip(names, ends, strict=True) if end is None]
        return bool(others) and bool(self._client.exists(*others))
