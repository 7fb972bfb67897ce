"""The queues beyond the first few: one connection on which Redis reports changes of all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import redis

from bridge.event_loop import EventLoop
from bridge.redis.client_tracking import ClientTracking
from bridge.sidekiq import keys

logger = logging.getLogger(__name__)


class QueuesBeyond:
    """Belongs to the consumer's thread. ``woken`` is called when one of the queues has changed."""

    def __init__(self, client: redis.Redis, event_loop: EventLoop, woken: Callable[[], object]) -> None:
        self._client = client
        self._event_loop = event_loop
        self._woken = woken
        self._tracking: ClientTracking | None = None
        self._left_over = False

    def find(self, names: Sequence[str]) -> bool:
        """Whether one of these queues has a job; from then on they are watched together."""
        beyond = tuple(keys.queue(name) for name in names)
        tracked = self._tracking is not None and self._tracking.watches(beyond)
        if not beyond or (tracked and not self._left_over):
            return False
        try:
            # A claim may have left jobs there (few at once, after an outage): the next look asks again.
            self._left_over = self._track(beyond)
            return self._left_over
        except (redis.RedisError, OSError) as error:
            # Forbidden, or the link was cut: a claim looks as well, and knows what to do about an outage.
            logger.debug("cannot watch %d queues together: %s", len(beyond), error)
            self.drop()
            return True

    def drop(self) -> None:
        """Watch no more."""
        if self._tracking is not None:
            self._event_loop.unwatch(self._tracking.socket)
            self._tracking.close()
        self._tracking = None

    def _track(self, names: tuple[str, ...]) -> bool:
        self._tracking = tracking = self._tracking or ClientTracking(self._client)
        self._event_loop.unwatch(tracking.socket)
        found = tracking.arm(names)
        self._event_loop.watch(tracking.socket, self._told)
        return found

    def _told(self) -> None:
        assert self._tracking is not None
        self._event_loop.unwatch(self._tracking.socket)
        try:
            self._tracking.told()
        except (redis.RedisError, OSError) as error:
            logger.debug("the watch on many queues was cut: %s", error)
            self.drop()
        self._woken()
