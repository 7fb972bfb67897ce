"""The watches on a consumer's queues: a peek on each of the first few, one tracker for all beyond."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import redis

from bridge.event_loop import EventLoop
from bridge.redis.client_tracking import ClientTracking
from bridge.sidekiq import keys
from bridge.sidekiq.fetch.peek import Peek

logger = logging.getLogger(__name__)

#: Each peek costs a connection. Queues beyond are watched together once they were quiet for a second.
PEEKED_QUEUES = 4


class Watches:
    """Belongs to the consumer's thread.

    ``on_job`` is called when a peek has found a job, with its queue and its bytes; ``on_change`` when
    something else asks for a look: a change in a tracked queue, or a watch that was cut; ``on_timeout`` when
    a peek has found nothing and has timed out.
    """

    def __init__(
        self,
        client: redis.Redis,
        event_loop: EventLoop,
        on_job: Callable[[str, bytes], None],
        on_change: Callable[[], None],
        on_timeout: Callable[[], None],
    ) -> None:
        self._client = client
        self._event_loop = event_loop
        self._on_job = on_job
        self._on_change = on_change
        self._on_timeout = on_timeout
        self._peeks: dict[str, Peek] = {}
        self._tracking: ClientTracking | None = None
        self._left_over = False

    def peek(self, names: Sequence[str]) -> None:
        """Have a peek on each of the first of these queues, which a claim has just found empty."""
        watched = names[:PEEKED_QUEUES]
        for name in list(self._peeks):
            if name not in watched:
                self._drop(self._peeks[name])
        for name in watched:
            self._arm(name)

    def are_on(self, names: Sequence[str]) -> bool:
        """Whether a peek is under way on each of the first of these queues."""
        watched = [self._peeks.get(name) for name in names[:PEEKED_QUEUES]]
        return all(peek is not None and peek.armed and not peek.overdue for peek in watched)

    def find_beyond(self, names: Sequence[str]) -> bool:
        """Whether a queue beyond the first ones has a job; from then on they are watched together."""
        beyond = tuple(keys.queue(name) for name in names[PEEKED_QUEUES:])
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
            self._drop_tracker()
            return True

    def drop(self) -> None:
        """Watch no more."""
        self._drop_tracker()
        for peek in list(self._peeks.values()):
            self._drop(peek)

    # -- peeks

    def _arm(self, name: str) -> None:
        peek = self._peeks.get(name)
        if peek is not None and peek.overdue:
            self._drop(peek)
            peek = None
        if peek is not None and peek.armed:
            return
        peek = peek or self._peeks.setdefault(name, Peek(self._client, name))
        try:
            watched = peek.socket
            peek.arm()
            if peek.socket is not watched:
                # Else it is watched still: it is silent while no BLMOVE is under way.
                self._event_loop.unwatch(watched)
                self._event_loop.watch(peek.socket, lambda: self._answered(peek))
        except (redis.RedisError, OSError) as error:
            logger.debug("cannot watch queue %s: %s", name, error)
            self._drop(peek)

    def _answered(self, peek: Peek) -> None:
        try:
            payload = peek.answered()
        except (redis.RedisError, OSError) as error:
            logger.debug("the watch on queue %s was cut: %s", peek.queue, error)
            self._drop(peek)
            self._on_change()
            return
        if payload is None:
            self._on_timeout()
        else:
            self._on_job(peek.queue, payload)

    def _drop(self, peek: Peek) -> None:
        self._event_loop.unwatch(peek.socket)
        peek.close()
        self._peeks.pop(peek.queue, None)

    # -- the tracker

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
            self._drop_tracker()
        self._on_change()

    def _drop_tracker(self) -> None:
        if self._tracking is not None:
            self._event_loop.unwatch(self._tracking.socket)
            self._tracking.close()
        self._tracking = None
