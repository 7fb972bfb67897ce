"""Waits for the end of a job: by a message of Redis, never by asking again and again."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from bridge.errors import StoreUnavailable
from bridge.redis import eviction
from bridge.redis.commands import is_forbidden
from bridge.redis.outages import connection_error, translated
from bridge.results.lookup import Lookup
from bridge.results.record import Record
from bridge.results.store import ResultStore
from bridge.sidekiq import keys

logger = logging.getLogger(__name__)

#: Seconds until the hash is read again: a message may be lost with its connection, and a hash may be evicted.
LOOK_SECONDS = 15.0
#: The same on a Redis that drops keys when it is full.
LOOK_EVICTING_SECONDS = 1.0
#: The same where Redis refuses SUBSCRIBE.
LOOK_ANYWAY_SECONDS = 0.5
#: Seconds between the attempts to listen again, once the connection is lost.
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0)
#: A Redis that has answered, and was not lost for this number of seconds, was back: the pauses begin again.
SERVED_SECONDS = 1.0
#: Subscribed connections that are kept for the next wait.
_MOST_IDLE = 16

Changed = Callable[[Record], object]


class Subscriptions:
    """Connections for messages. One serves one waiting thread at a time; a forked child has its own."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._idle: deque[Any] = deque()
        self._pid = os.getpid()

    def take(self) -> Any:
        """A redis-py PubSub."""
        if self._pid != os.getpid():
            self._idle, self._pid = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._client.pubsub()

    def give_back(self, subscribed: Any) -> None:
        """It has unsubscribed, and may serve another wait."""
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(subscribed)
        else:
            subscribed.close()


class Wait:
    """One wait for the end of one job. ``until`` is a time of the monotonic clock."""

    def __init__(self, lookup: Lookup, jid: str, until: float | None, changed: Changed) -> None:
        self.jid = jid
        self._lookup = lookup
        self._until = until
        self._changed = changed
        self._lost = 0
        self._began = self._answered = 0.0

    def left(self, most: float) -> float:
        """Seconds until the next look; 0 when the time is over."""
        return most if self._until is None else max(0.0, min(most, self._until - time.monotonic()))

    def look(self) -> Record | None:
        """The record, once the job has ended. Raises NotTracked and ResultUnknown."""
        record = self._lookup.record(self.jid)
        self._answered = time.monotonic()
        if record is None or record.is_finished:
            return record
        self._changed(record)
        return None

    def begin(self) -> None:
        """Redis is asked now."""
        self._began = time.monotonic()

    def pause(self) -> bool:
        """Wait for a Redis that does not answer. False where it was away for too long."""
        now = time.monotonic()
        if self._answered >= self._began and now - self._began >= SERVED_SECONDS:
            self._lost = 0
        if self._lost == len(PAUSES):
            return False
        pause = PAUSES[self._lost]
        self._lost += 1
        if self._until is not None and now + pause >= self._until:
            return False
        time.sleep(pause)
        return True


class Waiter:
    """Waits in the calling thread; any number of threads may wait."""

    def __init__(self, store: ResultStore, lookup: Lookup) -> None:
        self._store = store
        self._lookup = lookup
        self._subscriptions = Subscriptions(store.client)
        self._policy = eviction.Policy(store.client)

    def wait(self, jid: str, timeout: float | None, changed: Changed = lambda record: None) -> Record | None:
        """The record of a job that has ended; None when ``timeout`` (seconds) is over.

        ``changed`` is told of each change before the end. Listens again after a lost connection: Redis
        restarts in a moment, and a kept connection may be dead.

        Raises:
            NotTracked, ResultUnknown: no end of this job will ever be written.
            StoreUnavailable: Redis does not answer for about 8 s.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with suppress(StoreUnavailable):
            record = self._store.read(jid)  # most ends are there already
            if record is not None and record.is_finished:
                return record
        wait = Wait(self._lookup, jid, until, changed)
        while True:
            wait.begin()
            try:
                return self._await_end(wait)
            except StoreUnavailable:
                if not wait.pause():
                    raise

    def _await_end(self, wait: Wait) -> Record | None:
        try:
            return self._await_message(wait)
        except redis.ResponseError as error:
            if not is_forbidden(error):
                raise translated(error) from error
            logger.warning(
                "Redis refuses SUBSCRIBE: a result is read every %g s instead", LOOK_ANYWAY_SECONDS
            )
            return self._look_again_and_again(wait)

    def _await_message(self, wait: Wait) -> Record | None:
        channel, listening = keys.result(wait.jid), self._subscriptions.take()
        try:
            found = self._listen(listening, channel, wait)
            listening.unsubscribe(channel)
        except BaseException as error:
            with suppress(redis.RedisError, OSError):
                listening.close()  # answers may be left unread
            if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
                raise connection_error(error) from error
            raise
        self._subscriptions.give_back(listening)
        return found

    def _look_again_and_again(self, wait: Wait) -> Record | None:
        while pause := wait.left(LOOK_ANYWAY_SECONDS):
            if (record := wait.look()) is not None:
                return record
            time.sleep(pause)
        return None

    def _listen(self, listening: Any, channel: str, wait: Wait) -> Record | None:
        listening.subscribe(channel)
        pause = LOOK_EVICTING_SECONDS if self._policy.drops_keys() else LOOK_SECONDS
        while True:
            left = wait.left(pause)
            message = listening.get_message(timeout=left) if left else None
            if message is not None and not _is_about(message, channel):
                continue
            if (record := wait.look()) is not None or not left:
                return record


def _is_about(message: dict[str, Any], channel: str) -> bool:
    """Whether a message tells of this channel: that it is subscribed, or that something has changed."""
    return message["type"] in ("subscribe", "message") and message["channel"] == channel.encode()
