"""The queues beyond the first few: one connection on which Redis reports changes of all of them."""

from __future__ import annotations

import logging
import time
from typing import Protocol

import redis

from bridge.event_loop import EventLoop, SharedSockets
from bridge.redis.client_tracking import TRUST_SECONDS, ClientTracking
from bridge.sidekiq import keys
from bridge.sidekiq.fetch.queues import QueueOrder
from bridge.sidekiq.fetch.unit_of_work import Fetched

logger = logging.getLogger(__name__)

#: Queues with jobs, among many, of which it is found out which they are.
MOST_NAMED = 8
#: Wake-ups in a row whose claims bring no job, until the worker rests.
MOST_VAIN = 8


class Listener(Protocol):
    """Told in the consumer's thread."""

    @property
    def poll_seconds(self) -> float:
        """Between two looks at all queues."""

    def woken(self) -> None:
        """One of the queues has changed."""


class QueuesBeyond:
    """Belongs to the consumer's thread.

    Redis tells which queue has changed. A claim then asks that queue and the first ones alone, and the others
    stay watched: a push costs each worker that it wakes the same among ten queues and among a thousand.

    A push wakes all workers. One that gets no job several times in a row *rests*: it reads the news at its
    claims and polls alone, while each poll finds that the others were quicker.
    """

    def __init__(
        self,
        client: redis.Redis,
        event_loop: EventLoop | SharedSockets,
        order: QueueOrder,
        first: int,
        listener: Listener,
    ) -> None:
        """``first``: number of queues that have watches of their own."""
        self._client = client
        self._event_loop = event_loop
        self._order = order
        self._first = first
        self._listener = listener
        self._tracking: ClientTracking | None = None
        self._names: tuple[str, ...] = ()
        self._beyond: frozenset[str] = frozenset()
        self._until = 0.0
        """When to ask about all of them again: a dead link says nothing."""
        self._stirred: set[str] = set()
        """Queues that may have jobs: those that have changed since Redis was asked about them."""
        self._got_jobs = False
        """Whether a claim has brought jobs since one has emptied the queues."""
        self._left: frozenset[str] = frozenset()
        """Queues whose jobs the last claim had to leave there: it is a claim that learns of their end."""
        self._look_at = time.monotonic() + listener.poll_seconds
        """When the next look is due, also where each poll is a claim."""
        self._was_told = False
        """Whether news has asked for the claim that follows."""
        self._vain = 0
        self._is_resting = False

    def find(self) -> bool:
        """Whether one of these queues has a job; from then on they are watched together."""
        if len(self._order.names) <= self._first:
            return False
        self._look_at = time.monotonic() + self._listener.poll_seconds
        try:
            return self._look() if self._is_on() else self._begin()
        except (redis.RedisError, OSError) as error:
            # Forbidden, or the link was cut: a claim looks as well, and knows what to do about an outage.
            logger.debug("cannot watch %d queues together: %s", len(self._names), error)
            self.drop()
            return True

    def claimed(self, fetched: Fetched, *, is_to_watch: bool) -> None:
        """A claim has ended; ``is_to_watch``: it has emptied the queues, and no rest follows.

        The quickest worker, which got jobs by this claim or those before it, watches on at once.
        """
        self._got_jobs = self._got_jobs or bool(fetched.units)
        if not fetched.drained:
            return
        self._left = self._beyond & fetched.paused
        self._vain = 0 if self._got_jobs else self._vain + self._was_told
        self._was_told, is_watching = False, self._tracking is not None
        if is_watching and self._vain >= MOST_VAIN:
            self._rest(True)
        if not is_to_watch:
            return
        got_jobs, self._got_jobs = self._got_jobs, False
        if ((got_jobs and is_watching) or time.monotonic() >= self._look_at) and self.find():
            self._listener.woken()

    def drop(self) -> None:
        """Watch no more."""
        if self._tracking is not None:
            self._event_loop.unwatch(self._tracking.socket)
            self._tracking.close()
        self._tracking, self._is_resting, self._order.catch_up = None, False, None
        self._stirred.clear()
        self._order.ask_all()

    def _is_on(self) -> bool:
        tracking = self._tracking
        return tracking is not None and self._names is self._order.names and time.monotonic() < self._until

    def _begin(self) -> bool:
        self._names = self._order.names
        self._order.ask_all()
        tracking = self._tracking = self._tracking or ClientTracking(self._client)
        self._rest(True)
        self._beyond = frozenset(self._names[self._first :])
        found = tracking.arm([keys.queue(name) for name in self._beyond])
        self._rest(False)
        self._until = time.monotonic() + TRUST_SECONDS
        self._stirred = set(self._beyond) if found else set()
        return self._look_again()

    def _look(self) -> bool:
        if self._is_resting:
            self._read()
        if not (has_news := bool(self._stirred - self._left)):
            self._vain = 0  # no other worker was quicker
        if not self._vain:
            self._rest(False)
        return has_news and self._look_again()

    def _look_again(self) -> bool:
        # A claim may leave jobs there (few slots): then the next look asks again.
        self._stirred = self._with_jobs([*self._stirred - self._left])
        self._read()
        found = bool(self._stirred)
        self._stirred |= self._left
        self._ask()
        return found

    def _rest(self, is_to_rest: bool) -> None:
        """From now on news does not wake this worker, or does again."""
        assert self._tracking is not None
        if is_to_rest != self._is_resting:
            self._is_resting = is_to_rest
            self._order.catch_up = self._catch_up if is_to_rest else None
            if is_to_rest:
                self._event_loop.unwatch(self._tracking.socket)
            else:
                self._event_loop.watch(self._tracking.socket, self._told)

    def _catch_up(self) -> None:
        """A claim of a resting worker begins: it asks the queues that have changed since, too."""
        try:
            self._read()
            self._ask()
        except (redis.RedisError, OSError) as error:
            logger.debug("the watch on many queues was cut: %s", error)
            self.drop()

    def _with_jobs(self, names: list[str]) -> set[str]:
        """Those of these queues that have jobs. All of them where many have: a claim asks them at once."""
        assert self._tracking is not None
        found = self._tracking.arm_again([keys.queue(name) for name in names]) if names else 0
        if not found:
            return set()
        if found > MOST_NAMED or len(names) == 1:
            return set(names)
        middle = len(names) // 2
        return self._with_jobs(names[:middle]) | self._with_jobs(names[middle:])

    def _told(self) -> None:
        try:
            known = len(self._stirred)
            self._read()
            self._ask()
        except (redis.RedisError, OSError) as error:
            logger.debug("the watch on many queues was cut: %s", error)
            self.drop()
        else:
            if len(self._stirred) == known:
                return
        self._was_told = True
        self._listener.woken()

    def _read(self) -> None:
        assert self._tracking is not None
        changed = self._tracking.changed()
        # The connection may still watch a queue that was given up.
        self._stirred |= self._beyond if changed is None else self._beyond & set(map(keys.queue_of, changed))

    def _ask(self) -> None:
        if self._names is not self._order.names:
            return  # claims ask all queues until they are watched
        self._order.ask(self._names[: self._first], self._stirred, self._until)
