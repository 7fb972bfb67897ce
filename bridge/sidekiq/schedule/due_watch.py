"""Says whether ``retry`` and ``schedule`` are worth a look: they changed, or the next entry is due."""

from __future__ import annotations

import logging
import time

import redis

from bridge.redis.client_tracking import ClientTracking
from bridge.sidekiq import keys

logger = logging.getLogger(__name__)

SETS = (keys.RETRY, keys.SCHEDULE)
#: Entries are due by Redis' clock. It may be set, and this machine may sleep: so it is asked that often.
LOOK_SECONDS = 10.0


class DueWatch:
    """For one thread. Where Redis tells nothing of changes, each look is worth it."""

    def __init__(self, client: redis.Redis | None = None) -> None:
        self._client = client
        self._tracking: ClientTracking | None = None
        self._due_at = 0.0

    def worth_a_look(self) -> bool:
        """Never raises: the scheduler's next look meets the same outage and deals with it."""
        if time.monotonic() >= self._due_at:
            self._arm()
        elif not self._news():
            return False
        # Until ``seen``: a look that fails is to be had again, and no message will ask for it.
        self._due_at = 0.0
        return True

    def seen(self, next_in_seconds: float | None) -> None:
        """Note the look's result: seconds until the next entry is due."""
        wait = LOOK_SECONDS if next_in_seconds is None else min(next_in_seconds, LOOK_SECONDS)
        self._due_at = time.monotonic() + wait

    @property
    def due_in_seconds(self) -> float:
        """Until the next look that no change calls for."""
        return max(0.0, self._due_at - time.monotonic())

    def _news(self) -> bool:
        try:
            if self._tracking is not None and self._tracking.watches(SETS) and not self._tracking.has_news():
                return False
        except (OSError, ValueError):
            self._drop()
        return self._arm()

    def _arm(self) -> bool:
        """Watch from now on; before the look, so that nothing falls between."""
        if self._client is None:
            return True
        try:
            self._tracking = self._tracking or ClientTracking(self._client)
            return self._tracking.arm(SETS)
        except redis.ResponseError as error:
            logger.debug("cannot watch the sets, so they are looked at: %s", error)
            self._client = None
        except (redis.RedisError, OSError):
            self._drop()
        return True

    def _drop(self) -> None:
        if self._tracking is not None:
            self._tracking.close()
        self._tracking = None
