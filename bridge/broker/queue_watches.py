"""The watches on a consumer's queues: one on each of the first few, one tracker for all beyond."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Protocol

import redis

from bridge import errors
from bridge.broker import queues_beyond
from bridge.event_loop import EventLoop
from bridge.sidekiq.fetch.arrivals import Arrivals
from bridge.sidekiq.fetch.peek import Peek
from bridge.sidekiq.fetch.queues import QueueOrder
from bridge.sidekiq.fetch.take import Take
from bridge.sidekiq.fetch.unit_of_work import UnitOfWork

logger = logging.getLogger(__name__)

#: Each watch costs a connection. Queues beyond are watched together once they were quiet for a second.
WATCHED_QUEUES = 4


class Listener(queues_beyond.Listener, Protocol):
    """Told by the watches, in the consumer's thread. ``woken``: also a watch was cut."""

    def job_came(self, queue: str, payload: bytes) -> None:
        """A peek has found a job."""

    def woken_without_job(self) -> None:
        """A peek has found nothing and has timed out."""


class Watches:
    """Belongs to the consumer's thread.

    A queue has a watch that takes (:class:`Take`) while a slot is free for each of them, and while every job
    of the queue may run here. Otherwise it has a peek, which takes nothing. In strict order a watch leaves a
    slot for each queue before its own.
    """

    def __init__(
        self,
        client: redis.Redis,
        event_loop: EventLoop,
        arrivals: Arrivals,
        order: QueueOrder,
        listener: Listener,
    ) -> None:
        self._client = client
        self._arrivals = arrivals
        self._order = order
        self._listener = listener
        self.arrived: list[tuple[Take, bytes]] = []
        """Jobs that watches have taken, for ``read`` to hold."""
        self.met_backlog = False
        """Whether more jobs wait where the last ones that were read came from."""
        self.unwatched: set[str] = set()
        """Queues whose watch has taken a job, and has not begun again."""
        self._watched: Sequence[str] = ()
        """The queues with a watch, in their order."""
        # A thread of the pool may wait for these watches.
        self._readers = event_loop.shared or event_loop
        self._peeks: dict[str, Peek] = {}
        self._takes: dict[str, Take] = {}
        self.beyond = queues_beyond.QueuesBeyond(client, self._readers, order, WATCHED_QUEUES, listener)
        """The queues after the first ones."""

    def watch(self, names: Sequence[str]) -> None:
        """Have a watch on each of the first of these queues, which a claim has just found empty."""
        self._watched = watched = names[:WATCHED_QUEUES]
        self.unwatched.clear()
        self.met_backlog = False
        for name in {*self._peeks, *self._takes} - set(watched):
            self._drop(self._peeks.get(name))
            self._drop(self._takes.get(name), end=True)
        for name in watched:
            if not self._is_on(name, taken=True) and not self.take(name) and not self._is_on(name):
                self._peek(name)

    def take(self, name: str) -> bool:
        """Have a watch on this queue that takes. False where none may be, or no slot is free for it."""
        arrivals, take = self._arrivals, self._takes.get(name)
        if take is not None and take.armed and arrivals.serves(take):
            return True  # the end of a lower watch has begun it again
        in_flight = arrivals.in_flight
        free = in_flight.slots - len(in_flight.held)
        if free <= 0 or not arrivals.may_take(name) or not (seconds := arrivals.seconds):
            return False
        if take is not None and not arrivals.serves(take):
            self._drop(take)
            take = None
        try:
            if free <= len(self._watched) and not self._has_slot(name, free):
                return False
            take = take or arrivals.open(self._client, name)
            if take is None:
                return False
            arrivals.number(take)
            return self._arm(take, seconds)
        except (redis.RedisError, OSError, errors.StoreError) as error:
            logger.debug("cannot take from queue %s by a watch: %s", name, error)
            arrivals.refused(error)
            self._drop(take)
            return False

    def read(self) -> list[UnitOfWork]:
        """Hold the jobs that watches have taken, but those that may not run here now."""
        arrived, self.arrived = self.arrived, []
        units: list[UnitOfWork] = []
        for take, payload in arrived:
            self.met_backlog = self.met_backlog or take.met_backlog
            self.unwatched.add(take.queue)
            units += self._arrivals.admit(take, payload)
        return units

    def take_again(self) -> bool:
        """Have watches take again where they took the last jobs. Returns whether all do."""
        unwatched, self.unwatched, self.met_backlog = self.unwatched, set(), False
        return all(list(map(self.take, unwatched)))

    def _has_slot(self, name: str, free: int) -> bool:
        """Whether one of ``free`` slots is left for this queue.

        In strict order, watches of lower queues let go of theirs.
        """
        armed = {take.queue for take in self._takes.values() if take.armed} - {name}
        if not self._order.is_strict or name not in self._watched:
            return len(armed) < free
        before = set(self._watched[: self._watched.index(name)])
        if len(before) < free <= len(before | armed):
            for lower in armed - before:
                self._takes[lower].unblock()
        return len(before | armed) < free

    def are_on(self, names: Sequence[str]) -> bool:
        """Whether a watch is under way on each of the first of these queues."""
        return all(self._is_on(name) for name in names[:WATCHED_QUEUES])

    def drop(self, *, end: bool = False) -> None:
        """Watch no more. ``end``: Redis answers, so have it end the watches that take."""
        self.beyond.drop()
        for peek in list(self._peeks.values()):
            self._drop(peek)
        for take in list(self._takes.values()):
            self._drop(take, end=end)

    # -- one queue

    def _is_on(self, name: str, *, taken: bool = False) -> bool:
        """Whether this queue is watched. Drops a watch whose answer is late, or which may not go on.

        ``taken``: by a watch that takes.
        """
        take, peek = self._takes.get(name), self._peeks.get(name)
        if take is not None and take.armed:
            is_well = not take.overdue and self._arrivals.serves(take)
            if is_well and self._arrivals.may_take(name):
                return True
            self._drop(take, end=is_well)
        if peek is not None and peek.overdue:
            self._drop(peek)
        return peek is not None and peek.armed and not taken

    def _arm(self, take: Take, seconds: float) -> bool:
        self._takes[take.queue] = take
        watched = take.socket
        if not take.arm(seconds):
            self._listener.woken()  # the queue is paused: a claim finds out which are
        if take.socket is not watched:
            self._readers.watch(take.socket, functools.partial(self._arrived, take))
        peek = self._peeks.get(take.queue)
        if peek is not None and (peek.armed or self._arrivals.in_flight.free_slots > WATCHED_QUEUES):
            # It would wake this worker as well. A worker with few free slots soon needs a peek again.
            self._drop(peek)
        return True

    def _arrived(self, take: Take) -> None:
        try:
            for payload in take.answered():
                if payload is not None:
                    self.arrived.append((take, payload))
                else:
                    self._timed_out(take.queue)
        except (redis.RedisError, OSError) as error:
            logger.debug("the watch on queue %s was cut: %s", take.queue, error)
            if isinstance(error, redis.ResponseError) and self._arrivals.serves(take):
                self._arrivals.refused(error)
            self._drop(take)
            self._listener.woken()

    def _timed_out(self, name: str) -> None:
        # A queue before this one may have waited for its slot.
        waiting = [first for first in self._watched if not self._is_on(first, taken=True)]
        for each in waiting if self._order.is_strict else ():
            self.take(each)
        if not self._is_on(name, taken=True) and not self.take(name):
            self._peek(name)

    def _peek(self, name: str) -> None:
        if (peek := self._peeks.get(name)) is None:
            peek = self._peeks[name] = Peek(self._client, name)
        try:
            watched = peek.socket
            peek.arm()
            if peek.socket is not watched:
                # Else it is watched still: it is silent while no BLMOVE is under way.
                self._readers.unwatch(watched)
                self._readers.watch(peek.socket, functools.partial(self._answered, peek))
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

    def _drop(self, watch: Peek | Take | None, *, end: bool = False) -> None:
        """``end``: its connection is well, so Redis ends a watch that takes. Otherwise a fence stays."""
        if watch is None:
            return
        self._readers.unwatch(watch.socket)
        if isinstance(watch, Take):
            ended = end and watch.end()
            watch.close()
            self._takes.pop(watch.queue, None)
            self._arrivals.close(watch, ended=ended)
        else:
            watch.close()
            self._peeks.pop(watch.queue, None)
