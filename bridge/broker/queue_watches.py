"""The watches on a consumer's queues: one on each of the first few, one tracker for all beyond."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import redis

from bridge import errors
from bridge.event_loop import EventLoop
from bridge.redis.client_tracking import ClientTracking
from bridge.sidekiq import keys
from bridge.sidekiq.fetch.arrivals import Arrivals
from bridge.sidekiq.fetch.peek import Peek
from bridge.sidekiq.fetch.take import Take

logger = logging.getLogger(__name__)

#: Each watch costs a connection. Queues beyond are watched together once they were quiet for a second.
WATCHED_QUEUES = 4


class Listener(Protocol):
    """Told by the watches, in the consumer's thread."""

    def job_came(self, queue: str, payload: bytes) -> None:
        """A peek has found a job."""

    def job_arrived(self, take: Take, payload: bytes) -> None:
        """A watch has taken a job."""

    def woken(self) -> None:
        """Something else asks for a look: a change in a tracked queue, or a watch that was cut."""

    def woken_without_job(self) -> None:
        """A peek has found nothing and has timed out."""


class Watches:
    """Belongs to the consumer's thread.

    A queue has a watch that takes (:class:`Take`) while a slot is free for each of them, and while every job
    of the queue may run here. Otherwise it has a peek, which takes nothing.
    """

    def __init__(
        self, client: redis.Redis, event_loop: EventLoop, arrivals: Arrivals, listener: Listener
    ) -> None:
        self._client = client
        self._event_loop = event_loop
        self._arrivals = arrivals
        self._listener = listener
        self._peeks: dict[str, Peek] = {}
        self._takes: dict[str, Take] = {}
        self._tracking: ClientTracking | None = None
        self._left_over = False

    def watch(self, names: Sequence[str]) -> None:
        """Have a watch on each of the first of these queues, which a claim has just found empty."""
        watched = names[:WATCHED_QUEUES]
        for name in {*self._peeks, *self._takes} - set(watched):
            self._drop(self._peeks.get(name))
            self._drop(self._takes.get(name))
        for name in watched:
            if not self._is_on(name) and not self.take(name):
                self._peek(name)

    def take(self, name: str) -> bool:
        """Have a watch on this queue that takes. False where none may be, or no slot is free for it."""
        arrivals = self._arrivals
        armed = sum(take.armed for take in self._takes.values())
        if armed >= arrivals.free_slots or not arrivals.may_take(name) or not (seconds := arrivals.seconds):
            return False
        take = self._takes.get(name)
        if take is not None and not arrivals.serves(take):
            self._drop(take)
            take = None
        try:
            take = take or arrivals.open(self._client, name)
            return take is not None and self._arm(take, seconds)
        except (redis.RedisError, OSError, errors.StoreError) as error:
            logger.debug("cannot take from queue %s by a watch: %s", name, error)
            arrivals.refused(error)
            self._drop(take)
            return False

    def are_on(self, names: Sequence[str]) -> bool:
        """Whether a watch is under way on each of the first of these queues."""
        return all(self._is_on(name) for name in names[:WATCHED_QUEUES])

    def find_beyond(self, names: Sequence[str]) -> bool:
        """Whether a queue beyond the first ones has a job; from then on they are watched together."""
        beyond = tuple(keys.queue(name) for name in names[WATCHED_QUEUES:])
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

    def drop(self, *, end: bool = False) -> None:
        """Watch no more. ``end``: Redis answers, so have it end the watches that take."""
        self._drop_tracker()
        for peek in list(self._peeks.values()):
            self._drop(peek)
        for take in list(self._takes.values()):
            self._drop(take, ended=end and take.end())

    # -- one queue

    def _is_on(self, name: str) -> bool:
        """Whether this queue is watched. Drops a watch whose answer is late, or which may not go on."""
        take, peek = self._takes.get(name), self._peeks.get(name)
        if take is not None and take.armed:
            if not take.overdue and self._arrivals.serves(take) and self._arrivals.may_take(name):
                return True
            self._drop(take)
        if peek is not None and peek.overdue:
            self._drop(peek)
        return peek is not None and peek.armed

    def _arm(self, take: Take, seconds: float) -> bool:
        self._takes[take.queue] = take
        watched = take.socket
        self._arrivals.number(take)
        if not take.arm(seconds):
            self._listener.woken()  # the queue is paused: a claim finds out which are
        if take.socket is not watched:
            self._event_loop.watch(take.socket, lambda: self._arrived(take))
        return True

    def _arrived(self, take: Take) -> None:
        try:
            for payload in take.answered():
                if payload is not None:
                    self._listener.job_arrived(take, payload)
                elif not self.take(take.queue):
                    self._peek(take.queue)
        except (redis.RedisError, OSError) as error:
            logger.debug("the watch on queue %s was cut: %s", take.queue, error)
            if isinstance(error, redis.ResponseError) and self._arrivals.serves(take):
                self._arrivals.refused(error)
            self._drop(take)
            self._listener.woken()

    def _peek(self, name: str) -> None:
        if (peek := self._peeks.get(name)) is None:
            peek = self._peeks[name] = Peek(self._client, name)
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
            self._listener.woken()
            return
        if payload is None:
            self._listener.woken_without_job()
        else:
            self._listener.job_came(peek.queue, payload)

    def _drop(self, watch: Peek | Take | None, *, ended: bool = False) -> None:
        if watch is None:
            return
        self._event_loop.unwatch(watch.socket)
        watch.close()
        if isinstance(watch, Take):
            self._takes.pop(watch.queue, None)
            self._arrivals.close(watch, ended=ended)
        else:
            self._peeks.pop(watch.queue, None)

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
        self._listener.woken()

    def _drop_tracker(self) -> None:
        if self._tracking is not None:
            self._event_loop.unwatch(self._tracking.socket)
            self._tracking.close()
        self._tracking = None
